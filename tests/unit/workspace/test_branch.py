"""Reservation of branches: names, exclusiveness, and nobody's work lost."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containai.errors import UsageError, WorkspaceError
from containai.plan.model import Source
from containai.workspace import branch as branch_module
from containai.workspace.branch import claim_branch, release_branch, reserve_branch
from containai.workspace.source import resolve_source
from tests.support.git import branches, commit, fingerprint, git, make_repository

pytestmark = pytest.mark.user


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "host")


@pytest.fixture
def source(repository: Path) -> Source:
    return resolve_source(repository)


@pytest.fixture(autouse=True)
def _claims_end_with_the_test() -> object:
    yield
    _end_claims()


def _end_claims() -> None:
    for claim in branch_module._CLAIMS.values():
        claim.held.close()
    branch_module._CLAIMS.clear()


def code_of(*arguments: object) -> str:
    with pytest.raises((WorkspaceError, UsageError)) as caught:
        reserve_branch(*arguments)  # type: ignore[arg-type]
    return caught.value.code


def user_branch(repository: Path, name: str, start: str = "main", *, work: bool) -> str:
    """A branch of the user's, with a commit of its own or without."""
    git(repository, "branch", name, start)
    if work:
        tree = git(repository, "rev-parse", f"{name}^{{tree}}")
        made = git(repository, "commit-tree", tree, "-p", name, "-m", "work")
        git(repository, "update-ref", f"refs/heads/{name}", made)
    return git(repository, "rev-parse", name)


def test_the_lowest_free_number(repository: Path, source: Source) -> None:
    assert reserve_branch(source, "claude", None) == "claude/session-1"
    assert reserve_branch(source, "claude", None) == "claude/session-2"
    assert reserve_branch(source, "codex", None) == "codex/session-1"
    assert release_branch(source, "claude/session-1", source.base_commit)
    assert reserve_branch(source, "claude", None) == "claude/session-1"
    assert set(branches(repository).values()) == {source.base_commit}


def test_a_number_below_which_something_stands_is_taken(repository: Path, source: Source) -> None:
    git(repository, "branch", "claude/session-1/notes")
    assert reserve_branch(source, "claude", None) == "claude/session-2"


def test_twenty_launches_at_once_get_twenty_branches(repository: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from containai.workspace.source import resolve_source; from containai.workspace.branch import reserve_branch\n"
        "sys.stdin.read(1)\n"
        "print(reserve_branch(resolve_source(Path(sys.argv[1])), 'claude', None))\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, repository], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(20)
    ]
    with ThreadPoolExecutor(20) as threads:
        got = list(threads.map(lambda child: child.communicate("x", timeout=60)[0].strip(), children))
    assert sorted(got) == sorted(f"claude/session-{n}" for n in range(1, 21))
    assert branches(repository, "refs/heads/claude").keys() == set(got)


def test_a_stale_lock_costs_its_number_only(repository: Path, source: Source) -> None:
    folder = repository / ".git" / "refs" / "heads" / "claude"
    folder.mkdir()
    (folder / "session-1.lock").write_text("")
    assert reserve_branch(source, "claude", None) == "claude/session-2"


def test_only_its_own_ref_and_reflog_change(repository: Path, source: Source) -> None:
    before = fingerprint(repository)
    reserve_branch(source, "claude", "topic")
    assert set(fingerprint(repository).items() ^ before.items()) == {
        entry for entry in fingerprint(repository).items() if entry[0].endswith(("/claude", "/claude/topic"))
    }


@pytest.mark.parametrize(
    "name",
    ["a.lock", "a//b", "x/.hid", "..", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "/a", "a/", "a.",
     "@{", "", "a\x1b[31m", "a\nb", "a\N{RIGHT-TO-LEFT OVERRIDE}b", "a\udcffb", "x" * 300],
)  # fmt: skip
def test_names_that_git_refuses(repository: Path, source: Source, name: str) -> None:
    before = fingerprint(repository)
    with pytest.raises(UsageError) as caught:
        reserve_branch(source, "claude", name)
    assert (caught.value.exit_status, caught.value.code) == (2, "usage.branch")
    assert fingerprint(repository) == before


@pytest.mark.parametrize("name", ["topic", "fix/a-thing", "-x", "é", "a#b;c", 'a"b', "HEAD"])
def test_names_that_git_accepts(repository: Path, source: Source, name: str) -> None:
    assert reserve_branch(source, "claude", name) == f"claude/{name}"
    assert branches(repository)[f"claude/{name}"] == source.base_commit


def test_the_agents_name_is_not_doubled(source: Source) -> None:
    assert reserve_branch(source, "claude", "claude/topic") == "claude/topic"


@pytest.mark.parametrize("start", ["main", "main~1"])
def test_a_merged_branch_is_taken_up(repository: Path, source: Source, start: str) -> None:
    user_branch(repository, "claude/topic", start, work=False)
    assert reserve_branch(source, "claude", "topic") == "claude/topic"
    assert branches(repository)["claude/topic"] == source.base_commit
    # It is not ours to delete.
    assert not release_branch(source, "claude/topic", source.base_commit)
    assert "claude/topic" in branches(repository)


def test_unmerged_work_is_refused(repository: Path, source: Source) -> None:
    work = user_branch(repository, "claude/topic", work=True)
    assert code_of(source, "claude", "topic") == "workspace.branch-unmerged"
    assert branches(repository)["claude/topic"] == work


def test_unmerged_work_is_archived_on_request(repository: Path, source: Source) -> None:
    work = user_branch(repository, "claude/topic", work=True)
    assert reserve_branch(source, "claude", "topic", True) == "claude/topic"
    refs = branches(repository, "refs/heads/claude")
    assert refs.pop("claude/topic") == source.base_commit
    ((archive, archived),) = refs.items()
    assert archive.startswith("claude/topic-archived-2")
    assert archived == work


def test_archiving_is_all_or_nothing(repository: Path, source: Source) -> None:
    work = user_branch(repository, "claude/topic", work=True)
    (repository / ".git" / "refs" / "heads" / "claude" / "topic.lock").write_text("")
    assert code_of(source, "claude", "topic", True).startswith("workspace.")
    assert branches(repository, "refs/heads/claude") == {"claude/topic": work}


@pytest.mark.parametrize("replace", [False, True])
def test_a_branch_that_somebody_has_checked_out_is_left_alone(
    repository: Path, source: Source, tmp_path: Path, replace: bool
) -> None:
    user_branch(repository, "claude/topic", work=True)
    git(repository, "worktree", "add", "--quiet", tmp_path / "other", "claude/topic")
    before = fingerprint(repository)
    assert code_of(source, "claude", "topic", replace) == "workspace.branch-checked-out"
    assert fingerprint(repository) == before


def test_a_branch_in_the_middle_of_a_rebase_is_left_alone(repository: Path, source: Source, tmp_path: Path) -> None:
    other = tmp_path / "other"
    git(repository, "worktree", "add", "--quiet", "-b", "claude/topic", other, "main~1")
    commit(other, "conflicting", b__txt="not two\n")
    git(other, "rebase", "--quiet", "main", status=1)
    assert code_of(source, "claude", "topic", True) == "workspace.branch-checked-out"


def test_a_symbolic_branch_is_left_alone(repository: Path, source: Source) -> None:
    git(repository, "checkout", "--quiet", "--detach")
    git(repository, "symbolic-ref", "refs/heads/claude/topic", "refs/heads/main")
    main = branches(repository)["main"]
    assert code_of(source, "claude", "topic", True) == "workspace.branch-symbolic"
    assert branches(repository)["main"] == main


@pytest.mark.parametrize(
    ("standing", "agent", "name"),
    [
        ("claude", "claude", None),
        ("claude", "claude", "topic"),
        ("claude/a", "claude", "a/b"),
        ("claude/a/b", "claude", "a"),
    ],
)
def test_names_that_stand_in_each_others_way(
    repository: Path, source: Source, standing: str, agent: str, name: str | None
) -> None:
    git(repository, "branch", standing)
    before = fingerprint(repository)
    assert code_of(source, agent, name) == "workspace.branch-conflict"
    assert fingerprint(repository) == before


def test_one_branch_never_serves_two_sessions(repository: Path, source: Source) -> None:
    reserve_branch(source, "claude", "topic")
    assert code_of(source, "claude", "topic") == "workspace.branch-in-use"
    program = (
        "import sys; from pathlib import Path; from containai.errors import WorkspaceError\n"
        "from containai.workspace.source import resolve_source; from containai.workspace.branch import reserve_branch\n"
        "try: print(reserve_branch(resolve_source(Path(sys.argv[1])), 'claude', 'topic'))\n"
        "except WorkspaceError as error: print(error.code)\n"
    )
    argv = [sys.executable, "-c", program, str(repository)]
    assert subprocess.check_output(argv, text=True, timeout=30).strip() == "workspace.branch-in-use"
    release_branch(source, "claude/topic", source.base_commit)
    assert subprocess.check_output(argv, text=True, timeout=30).strip() == "claude/topic"
    # That process has ended, so its claim has: the branch is simply merged.
    assert reserve_branch(source, "claude", "topic") == "claude/topic"


def test_release_keeps_what_was_added(repository: Path, source: Source) -> None:
    branch = reserve_branch(source, "claude", None)
    tree = git(repository, "rev-parse", "HEAD^{tree}")
    work = git(repository, "commit-tree", tree, "-p", source.base_commit, "-m", "work")
    git(repository, "update-ref", f"refs/heads/{branch}", work)
    assert not release_branch(source, branch, source.base_commit)
    assert branches(repository)[branch] == work


def test_release_leaves_no_trace(repository: Path, source: Source) -> None:
    before = fingerprint(repository)
    branch = reserve_branch(source, "claude", "deep/topic")
    assert release_branch(source, branch, source.base_commit)
    assert not release_branch(source, branch, source.base_commit)
    assert {path for path, _ in fingerprint(repository).items() ^ before.items()} == set()


def test_a_recovering_process_knows_which_branches_were_made(repository: Path, source: Source) -> None:
    made = reserve_branch(source, "claude", None)
    found = "claude/topic"
    git(repository, "branch", found)
    _end_claims()  # the launcher dies
    assert claim_branch(source, made)
    assert claim_branch(source, found)
    assert not claim_branch(source, found)
    assert release_branch(source, made, source.base_commit)
    assert not release_branch(source, found, source.base_commit)
    assert branches(repository, "refs/heads/claude").keys() == {found}


def test_a_read_only_repository(repository: Path, source: Source) -> None:
    heads = repository / ".git" / "refs" / "heads"
    if subprocess.run(["chattr", "+i", heads], capture_output=True, check=False).returncode != 0:
        heads.chmod(0o555)
    try:
        if _writable(heads):
            pytest.skip("this user can write everything")
        assert code_of(source, "claude", None) == "workspace.unwritable"
    finally:
        subprocess.run(["chattr", "-i", heads], capture_output=True, check=False)
        heads.chmod(0o755)


def _writable(folder: Path) -> bool:
    try:
        (folder / "probe").mkdir()
    except OSError:
        return False
    (folder / "probe").rmdir()
    return True
