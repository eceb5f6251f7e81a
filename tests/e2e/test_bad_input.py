"""What a user can get wrong, and repositories as they are: clear answers, nothing left behind."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.product import Product, make_repository

AGENTS = ("claude", "codex", "copilot", "gemini", "opencode")
pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]


def _refused(product: Product, *words: str, status: int = 125, code: str) -> str:
    ran = product.command("run", *words)
    assert ran.status == status, ran.stderr
    assert f"error[{code}" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    assert not list(product.sessions.glob("*"))
    return ran.stderr


@pytest.mark.parametrize("name", ["a.lock", "a//b", "x/.hid", "..", "a..b", "a b", "a~b", "@{", "", "a\nb", "x/", "/x"])
def test_branch_names_that_git_refuses(product: Product, name: str) -> None:
    _refused(product, f"--branch={name}", "--", "true", status=2, code="usage")
    assert product.branches() == ["main"]


def test_not_a_repository(product: Product, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    _refused(product, str(tmp_path / "plain"), "--", "true", code="workspace.not-a-repository")


def test_a_source_that_is_not_there_is_told_in_words(product: Product) -> None:
    said = _refused(product, "/nonexistent", "--", "true", code="workspace.not-found")
    assert "  /nonexistent: No such file or directory\n" in said
    assert "containai run SOURCE -- COMMAND" in said


def test_a_path_that_is_not_there_is_not_taken_for_a_command(product: Product) -> None:
    said = _refused(product, "/nonexistent/project", status=2, code="usage")
    assert "there is no /nonexistent/project\n" in said
    assert "containai run SOURCE --agent NAME" in said
    said = _refused(product, "make", status=2, code="usage")
    assert "a command stands behind --\n" in said


def test_bare_repository(product: Product, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "bare"], check=True, timeout=30)
    _refused(product, str(tmp_path / "bare"), "--", "true", code="workspace.bare")


def test_unborn_branch(product: Product, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path / "new"], check=True, timeout=30)
    _refused(product, str(tmp_path / "new"), "--", "true", code="workspace.unborn")


def test_unknown_agent_and_missing_program(product: Product) -> None:
    product = replace(product, variables={**product.variables, "PATH": "/nonexistent"})
    # What a machine has installed for everybody is found without PATH.
    absent = [
        name for name in AGENTS if not any(Path(place, name).exists() for place in ("/usr/local/bin", "/usr/bin"))
    ]
    if not absent:
        pytest.skip("every agent is installed on this machine")
    said = _refused(product, "--agent", "cluade", status=2, code="agent.unknown")
    assert "claude" in said
    said = _refused(product, "--agent", absent[0], "--prompt", "x", code="agent.missing")
    assert "npm install" in said


@pytest.mark.parametrize(
    "words",
    [
        ["--squid-domains", ""], ["--squid-domains", "."], ["--squid-domains", "*"], ["--squid-domains", "1.2.3.4"],
        ["--squid-domains", "a.example:443"], ["--allow-local", "10.0.0.1:80"], ["--allow-local", "127.0.0.1:0"],
        ["--allow-local", "127.0.0.1:3128"], ["--env", "A=b"], ["--env", "LD_PRELOAD"], ["--env", "NOT_SET_HERE"],
        ["--memory", "lots"], ["--memory", "-1"], ["--cpu", "0"], ["--timeout", "0"], ["--timeout", "nan"], ["--engine", "podman"],
    ],
)  # fmt: skip
def test_options_that_make_no_sense(product: Product, words: list[str]) -> None:
    ran = product.command("run", *words, "--", "true")
    assert ran.status in (2, 125)
    assert "error[" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(product.sessions.glob("*"))
    assert product.branches() == ["main"]


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["run", "true"], "containai run -- true"),
        (["run", "make", "-j4", "a b"], "containai run -- make -j4 'a b'"),
        (["run", ".", "make", "test"], "containai run -- make test"),
        (["run", "--nosuch"], "containai run --help"),
        (["run", "--mem", "1g", "--", "true"], "containai run --help"),  # no option is guessed from its beginning
        (["run", "--agent", "claude", "fix", "it"], "containai run --help"),
        (["run", "--"], "containai run -- COMMAND [ARG ...]"),
        (["run", "--", ""], "containai run -- COMMAND [ARG ...]"),
        (["run", "--timeout", "-3", "--", "true"], "--timeout 600"),
        (["run", "--env", "PATH", "--", "true"], "set it inside: containai run -- env NAME=VALUE COMMAND [ARG ...]"),
        (["run", "--name", "a b", "--", "true"], "--name my-session"),
        (["run", "--include", "nosuch", "--", "true"], "correct the path"),
        (["log", "--kind", "foo"], "containai log --kind exec,network"),
        (
            ["provenance", "verify", "HEAD", "--repository", "/"],
            "give the command in a repository, or name one: --repository DIR",
        ),
        (["demo", "--kep"], "containai demo --help"),
        (["provenance", "verify", "HEAD", "--kye"], "containai provenance verify --help"),
        (["merge", "--acknowledge", "ci", "x"], "put SESSION first: containai merge SESSION --acknowledge ID [ID ...]"),
    ],
)
def test_words_that_make_no_sense_are_answered_with_what_does(product: Product, words: list[str], remedy: str) -> None:
    ran = product.command(*words)
    assert (ran.status, ran.stdout) == (2, "")
    assert f"    {remedy}" in ran.stderr.splitlines(), ran.stderr
    assert not list(product.sessions.glob("*"))


def test_an_engine_that_was_named_is_never_replaced(product: Product) -> None:
    """Not one that this version has not, nor one whose daemon is elsewhere."""
    config = product.home / ".config/containai/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[session]\nengine = "kubernetes"\n')
    said = _refused(product, "--", "true", code="engine.unavailable")
    assert "doctor --engine kubernetes" not in said, "doctor does not know it either"
    assert "    containai run --engine embedded ...\n" in said
    config.unlink()
    elsewhere = replace(product, variables={"DOCKER_HOST": "tcp://127.0.0.1:1"})
    ran = elsewhere.command("run", "--engine", "docker", "--", "true")
    assert ran.status == 125
    assert "error[preflight." in ran.stderr
    assert "docker: DOCKER_HOST names tcp://127.0.0.1:1" in ran.stderr
    assert not list(product.sessions.glob("*"))


def test_unwritable_state_directory(product: Product) -> None:
    blocked = product.home / "blocked"
    blocked.write_text("a file where a directory should be")
    elsewhere = Product(home=product.home, repository=product.repository, variables={"XDG_STATE_HOME": str(blocked)})
    ran = elsewhere.command("run", "--", "true")
    assert ran.status == 125
    assert "error[" in ran.stderr
    assert product.branches() == ["main"]


def test_a_repository_cannot_widen_its_own_policy(product: Product) -> None:
    (product.repository / "config.toml").write_text('[network]\ndomains = ["evil.example"]\n')
    product.git("add", "-A")
    product.git("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "config")
    _refused(product, "--", "true", code="policy.widens")


def test_dirty_tree_detached_head_submodule_and_lfs_pointers(product: Product, tmp_path: Path) -> None:
    make_repository(tmp_path / "sub")
    product.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "sub"), "sub")
    (product.repository / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"
    (product.repository / "big.bin").write_text(pointer)
    product.git("add", "-A")
    product.git("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "more")
    product.git("checkout", "-q", "--detach")
    (product.repository / "uncommitted").write_text("mine\n")
    (product.repository / "README.md").write_text("changed\n")
    ran = product.run("cat big.bin; ls sub | wc -l; test -e uncommitted || echo absent; echo x > f")
    assert ran.status == 0, ran.stderr
    assert ran.printed == pointer + "0\nabsent"
    assert product.git("show", "shell/session-1:f") == "x"
    assert (product.repository / "README.md").read_text() == "changed\n"
    for word in ("committed", "submodule", "LFS"):
        assert word in ran.stderr


@pytest.mark.parametrize("name", [".GIT", "git~1", ".g\N{ZERO WIDTH NON-JOINER}it", ".."])
def test_a_source_with_names_that_no_return_would_take_is_refused_before_the_agent_works(
    product: Product, name: str
) -> None:
    blob = product.git("rev-parse", "HEAD:README.md")
    inner = b"100644 f\0" + bytes.fromhex(blob)
    tree = _write_object(product, b"40000 " + name.encode() + b"\0" + bytes.fromhex(_write_object(product, inner)))
    commit = product.git("-c", "user.name=A", "-c", "user.email=a@b", "commit-tree", "-p", "HEAD", "-m", "x", tree)
    product.git("update-ref", "refs/heads/main", commit)
    refused = _refused(product, "--network-proxy", "none", "--", "touch", "worked", code="workspace.clone")
    assert "invalid path" in refused


def _write_object(product: Product, content: bytes) -> str:
    """A tree that git itself would not write."""
    whole = b"tree %d\0" % len(content) + content
    name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    path = product.repository / ".git" / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(whole))
    return name


def test_names_with_spaces_line_feeds_and_bytes_that_are_no_text(product: Product) -> None:
    names = [b"with space", b"line\nfeed", b"caf\xe9", b"\xff\xfe", "ünï".encode(), b'quo"te', b"tab\there"]
    for name in names:
        with open(os.path.join(os.fsencode(product.repository), name), "wb") as file:
            file.write(b"1")
    product.git("add", "-A")
    product.git("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "names")
    ran = product.run('for f in *; do echo 2 >> "$f"; done; printf x > "$(printf \'new\\nna\\377me\')"')
    assert ran.status == 0, ran.stderr
    listed = subprocess.run(
        ["git", "ls-tree", "-z", "--name-only", "shell/session-1"],
        cwd=product.repository,
        capture_output=True,
        timeout=30,
        check=True,
    ).stdout.split(b"\0")
    assert {*names, b"new\nna\xffme"} <= set(listed)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_thousand_files(product: Product) -> None:
    for folder in range(100):
        (product.repository / f"d{folder}").mkdir()
        for number in range(1000):
            (product.repository / f"d{folder}" / f"f{number}").write_text(f"{folder} {number}\n")
    product.git("add", "-A")
    product.git("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "many")
    ran = product.run("echo changed > d50/f500; find . -name 'f*' | wc -l", timeout_s=300)
    assert ran.printed.strip() == "100000"
    assert product.git("diff", "--name-only", "main", "shell/session-1") == "d50/f500"


def test_work_survives_a_return_that_fails(product: Product) -> None:
    """A repository that is gone when the agent ends: the work is kept, and recovered once it is back."""
    away = product.repository / "away"
    child = product.start("echo x > f; sleep 2")
    import time

    deadline = time.monotonic() + 20
    while not any(product.sessions.glob("*/workspace/f")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (product.repository / ".git").rename(away)
    out, err = child.communicate(timeout=60)
    assert b"recover" in err, out
    away.rename(product.repository / ".git")
    assert product.command("recover").status == 0
    assert product.git("show", "shell/session-1:f") == "x"


REFUSED = '[submodule "../../x"]\n\tpath = sub\n\turl = ./sub\n'


def _commit(product: Product, path: str, text: str) -> None:
    (product.repository / path).parent.mkdir(exist_ok=True)
    (product.repository / path).write_text(text)
    product.git("add", "-A")
    product.git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "-m", "rules")


def test_of_a_return_that_git_refuses_the_reason_is_told(product: Product) -> None:
    """Files of a folder are git's to check once something in it changes: no launch is refused for them."""
    _commit(product, "folder/.gitmodules", REFUSED)
    ran = product.run("echo new > new", "--network-proxy", "none")
    assert product.git("show", f"{ran.result['branch']}:new") == "new"
    ran = product.run("echo new > folder/new", "--network-proxy", "none")
    assert "gitmodulesName: disallowed submodule name: ../../x'" in ran.result["problem"]
    assert (Path(ran.result["kept"]) / "workspace/folder/new").read_text() == "new\n"


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (".gitmodules", REFUSED, "gitmodulesName: disallowed submodule name: ../../x"),
        (
            ".gitattributes",
            f"*.c {'x' * 3000}\n",
            "gitattributesLineLength: .gitattributes has too long lines to parse",
        ),
    ],
)
def test_a_commit_from_which_nothing_could_come_home_starts_no_agent(
    product: Product, file: str, text: str, said: str
) -> None:
    _commit(product, file, text)
    refused = product.run("echo new > new", "--network-proxy", "none")
    assert (refused.status, refused.result) == (125, {})
    assert "error[workspace.no-way-home]: no work that stands on this commit could come home" in refused.stderr
    assert said in refused.stderr
    assert f"correct {file} and commit it" in refused.stderr
    assert product.branches() == ["main"]
    assert list(product.sessions.iterdir()) == []
    kept = product.run("echo new > new", "--network-proxy", "none", "--no-push")
    assert said in kept.stderr
    assert (Path(kept.result["kept"]) / "workspace/new").read_text() == "new\n"
    _commit(product, file, "")
    ran = product.run("echo new > new", "--network-proxy", "none")
    assert product.git("show", f"{ran.result['branch']}:new") == "new"
