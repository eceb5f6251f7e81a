"""Objects that no honest git makes, pushed by the agent or left for the last commit."""

from __future__ import annotations

from tests.hostile.model import Case, Outcome, python

_W = "echo kept > work; "
_SAYS = {Outcome.PARTLY: "deny"}


def _tree(name: str, entries: str, outcome: Outcome = Outcome.PARTLY) -> Case:
    body = f"push(commit(tree_with({entries})))"
    return Case(name=f"tree: {name}", script=_W + python(body), outcome=outcome, says=_SAYS.get(outcome, ""))


def _commit(name: str, arguments: str, outcome: Outcome = Outcome.PARTLY) -> Case:
    body = f"T = tree_with(entry(b'100644', b'hostile', BLOB))\npush(commit({arguments}))"
    return Case(name=f"commit: {name}", script=_W + python(body), outcome=outcome, says=_SAYS.get(outcome, ""))


CASES = (
    _tree(".git", "entry(b'100644', b'.git', BLOB)"),
    _tree(".GIT", "entry(b'100644', b'.GIT', BLOB)"),
    _tree(".git as a folder with a hook", "entry(b'40000', b'.git', obj('tree', entry(b'100755', b'config', BLOB)))"),
    _tree("git~1, the short name of .git", "entry(b'100644', b'git~1', BLOB)"),
    _tree("a stream of .git", "entry(b'100644', b'.git::$INDEX_ALLOCATION', BLOB)"),
    _tree(".git with a trailing space and dot", "entry(b'100644', b'.git . ', BLOB)"),
    _tree(".git with an invisible character", "entry(b'100644', '.g\\u200cit'.encode(), BLOB)"),
    _tree("..", "entry(b'40000', b'..', obj('tree', entry(b'100644', b'x', BLOB)))"),
    _tree(".", "entry(b'40000', b'.', obj('tree', entry(b'100644', b'x', BLOB)))"),
    _tree("no name", "entry(b'100644', b'', BLOB)"),
    _tree("a slash in a name", "entry(b'100644', b'a/../../b', BLOB)"),
    _tree("the same name twice", "entry(b'100644', b'x', BLOB), entry(b'120000', b'x', BLOB)"),
    _tree("a mode of zeros", "entry(b'0100644', b'x', BLOB)"),
    _tree("a mode that does not exist", "entry(b'777777', b'x', BLOB)", Outcome.RETURNED),
    _tree("an object of zeros", "entry(b'100644', b'x', '0'*40)"),
    _tree("an object that is missing", "entry(b'100644', b'x', 'a'*40)"),
    _tree("a folder that is a file", "entry(b'40000', b'x', BLOB)"),
    _tree(".gitmodules as a link", "entry(b'120000', b'.gitmodules', obj('blob', b'/etc/passwd'))"),
    Case(
        name="tree: a name of 300 bytes",
        script=_W + python("stand_on(commit(tree_with(entry(b'100644', b'n'*300, BLOB))))"),
        outcome=Outcome.REFUSED,
        says="too long",
    ),
    Case(
        name="tree: unsorted",
        script=_W + python("push(commit(obj('tree', entry(b'100644', b'z', BLOB) + entry(b'100644', b'a', BLOB))))"),
        outcome=Outcome.PARTLY,
        says="deny",
    ),
    Case(  # git of 2.44 and later opens 2,048 levels (core.maxTreeDepth), and would not let more be pushed
        name="tree: sixteen hundred levels deep",
        script=_W
        + python(
            "t = obj('tree', entry(b'100644', b'f', BLOB))\nfor i in range(1600): t = obj('tree', entry(b'40000', b'ddd', t))\nstand_on(commit(tree_with(entry(b'40000', b'd', t))))"
        ),
        outcome=Outcome.REFUSED,
        says="too long",
    ),
    _commit("a parent that is missing", "T, parents=('a'*40,)"),
    _commit("a tree that is missing", "'b'*40"),
    _commit("no parent: a history of its own", "T, parents=()", Outcome.RETURNED),
    _commit("itself a grandchild of nothing", "T, parents=(BASE, BASE)", Outcome.RETURNED),
    _commit("no author", "T, author=b''"),
    _commit("an author that ends the line", "T, author=b'a\\nparent ' + BASE.encode() + b'\\nauthor x <x> 1 +0000'"),
    _commit("a time beyond time", "T, author=b'a <a> 99999999999999999999 +0000'"),
    _commit("a NUL in the message", "T, message=b'a\\0b\\n'"),
    _commit("a signature of garbage", "T, extra=b'gpgsig -----BEGIN PGP SIGNATURE-----\\n junk\\n'", Outcome.RETURNED),
    _commit(
        "a message that a terminal obeys", "T, message='\\x1b]0;t\\x07\\u202e\\x9b31m\\n'.encode()", Outcome.RETURNED
    ),
    _commit("a message of 20 MB", "T, message=b'm'*20000000", Outcome.RETURNED),
    _commit("an encoding that does not exist", "T, extra=b'encoding no-such\\n'", Outcome.RETURNED),
    _commit("a hundred parents", "T, parents=[commit(T, message=b'%d' % i) for i in range(100)]", Outcome.RETURNED),
    Case(name="ref: to a blob", script=_W + python("push(BLOB)"), outcome=Outcome.PARTLY, says=""),
    Case(name="ref: to a tree", script=_W + python("push(tree_with())"), outcome=Outcome.PARTLY, says=""),
    Case(
        name="ref: to a tag",
        script=_W
        + python(
            "push(obj('tag', b'object ' + BASE.encode() + b'\\ntype commit\\ntag t\\ntagger ' + WHO + b'\\n\\nx\\n'))"
        ),
        outcome=Outcome.PARTLY,
    ),
    *(
        Case(
            name=f"ref: {ref}",
            script=_W + python(f"push(commit(tree_with()), {ref!r})"),
            outcome=Outcome.PARTLY,
            says="deny",
        )
        for ref in (
            "refs/heads/main",
            "refs/heads/other",
            "refs/tags/v1",
            "refs/notes/commits",
            "refs/replace/" + "a" * 40,
            "refs/remotes/origin/main",
            "refs/stash",
        )
    ),
    Case(
        name="ref: delete the branch",
        script=_W + python("git('push', 'local', ':' + REF, check=False)"),
        outcome=Outcome.PARTLY,
        says="deny",
    ),
    Case(
        name="ref: rewrite what was pushed",
        script=_W
        + python(
            "push(commit(tree_with(entry(b'100644', b'one', BLOB))))\npush(commit(tree_with(entry(b'100644', b'two', BLOB))))"
        ),
    ),
)
