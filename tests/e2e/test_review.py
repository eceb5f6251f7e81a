"""From a hostile branch to a decision: what is shown, what is refused, and what the repository has afterwards."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.product import IDENTITY, Product, Ran

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]

HOSTILE = r"""
mkdir -p .github/workflows .husky .vscode
echo 'on: push' > .github/workflows/x.yml
printf '#!/bin/sh\ntouch /tmp/pwned\n' > .husky/pre-commit; chmod +x .husky/pre-commit
echo '{}' > .vscode/tasks.json
ln -s /etc/passwd leak
printf 'x = 1 # \342\200\256\033[31m\n' > e.py
head -c 2000000 /dev/zero > big.bin
echo 'password = "hunter2hunter2x9"' > settings.py
git add -A; git commit -qm "$(printf 'look\033]0;title\007 here')"
git rm -q settings.py
"""
KINDS = {"ci", "hook", "editor", "symlink", "unicode", "huge", "secret", "executable"}


@pytest.fixture
def judged(product: Product) -> Product:
    """A user with a name: a merge commit is his."""
    product.git("config", "user.name", "Ada")
    product.git("config", "user.email", "ada@example.org")
    return product


def review(product: Product, ran: Ran) -> dict[str, object]:
    shown = product.command("review", ran.result["session"], "--json")
    assert shown.status == 0, shown.stderr
    return dict(json.loads(shown.stdout))


def ids(product: Product, ran: Ran, name: str = "id") -> list[str]:
    triggers = review(product, ran)["triggers"]
    assert isinstance(triggers, list)
    return [trigger[name] for trigger in triggers]


def test_a_hostile_branch_shows_every_trigger_first_and_nothing_of_it_acts(judged: Product) -> None:
    ran = judged.run(HOSTILE)
    found = review(judged, ran)
    assert found["session"] == ran.result["session"]
    assert found["commits"] == ran.result["commits"]
    triggers = found["triggers"]
    assert isinstance(triggers, list)
    assert {trigger["kind"] for trigger in triggers} == KINDS
    (secret,) = [trigger for trigger in triggers if trigger["kind"] == "secret"]
    assert "earlier commit" in secret["detail"]
    assert "hunter2" not in json.dumps(found)
    shown = judged.command("review", ran.result["session"])
    assert not any(c in shown.stdout for c in "\x1b\x07\u202e")
    parts = ("by their place\n", "by their content\n", f"\n{len(triggers)} in all\n", " files changed, ", "diff --git")
    places = [shown.stdout.index(part) for part in parts]
    assert places == sorted(places)
    assert "<U+202E><1B>[31m" in shown.stdout
    assert not Path("/tmp/pwned").exists()
    assert judged.git("status", "--porcelain") == ""


def test_a_merge_wants_each_trigger_acknowledged(judged: Product) -> None:
    ran = judged.run(HOSTILE)
    before = judged.git("rev-parse", "main")
    session, known, digests = ran.result["session"], ids(judged, ran), ids(judged, ran, "digest")
    for words in ([], ["--acknowledge", known[0]], ["--acknowledge", *known[1:]]):
        refused = judged.command("merge", session, *words)
        assert refused.status == 1
        assert "error[review.unacknowledged]" in refused.stderr
        assert judged.git("rev-parse", "main") == before
    unknown = judged.command("merge", session, "--acknowledge", *known, "0123456789")
    assert unknown.status == 1
    assert "error[review.unknown-trigger]" in unknown.stderr
    assert judged.git("rev-parse", "main") == before
    done = judged.command("merge", session, "--json", "--acknowledge", *known)
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["new"] == judged.git("rev-parse", "main") == ran.result["commits"][-1]
    assert judged.git("status", "--porcelain") == ""
    assert os.readlink(judged.repository / "leak") == "/etc/passwd"
    events = [e for e in judged.events(ran, "git") if e["event"] == "merged"]
    assert [sorted(named.rpartition(":")[2] for named in e["acknowledged"]) for e in events] == [sorted(digests)]
    assert judged.command("review").stdout == ""


def test_an_acknowledgement_does_not_hold_for_other_content(judged: Product) -> None:
    ran = judged.run("mkdir .husky; echo a > .husky/pre-commit")
    (known,) = ids(judged, ran)
    judged.git("switch", "-q", ran.result["branch"])
    (judged.repository / ".husky/pre-commit").write_text("b")
    judged.git("-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qam", "later")
    judged.git("switch", "-q", "main")
    refused = judged.command("merge", ran.result["session"], "--acknowledge", known)
    assert refused.status == 1
    # The old content is still in the history of the branch: its id is known, and not enough.
    assert "error[review.unacknowledged]" in refused.stderr
    assert judged.command("merge", ran.result["session"], "--acknowledge", "hook").status == 0


@pytest.mark.parametrize(("option", "parents"), [("--squash", 1), ("--no-ff", 2), (None, 1)])
def test_the_three_ways_to_merge(judged: Product, option: str | None, parents: int) -> None:
    ran = judged.run("echo 1 > a; git add a; git commit -qm one; echo 2 > b")
    done = judged.command("merge", ran.result["session"], *([option] if option else []))
    assert done.status == 0, done.stderr
    assert len(judged.git("rev-list", "--parents", "-1", "main").split()) == parents + 1
    assert judged.git("show", "main:b") == "2"
    assert (judged.repository / "b").read_text() == "2\n"
    if option:
        assert judged.git("log", "-1", "--format=%an", "main") == "Ada"
        assert f"Containai-Session: {ran.result['session']}" in judged.git("log", "-1", "--format=%B", "main")
    assert judged.command("drop", ran.result["session"]).status == 1  # it is merged: there is nothing to decide


def test_a_branch_that_moved_on_is_merged_with_and_without_conflict(judged: Product) -> None:
    ran = judged.run("echo theirs > README.md; echo 1 > a")
    (judged.repository / "mine").write_text("mine\n")
    judged.git("add", "-A")
    judged.git("commit", "-qm", "mine")
    only = judged.command("merge", ran.result["session"], "--ff-only")
    assert (only.status, "error[review.not-forward]" in only.stderr) == (1, True)
    assert judged.command("merge", ran.result["session"]).status == 0
    assert judged.git("show", "main:mine") == "mine"
    assert judged.git("show", "main:README.md") == "theirs"
    again = judged.run("echo agent > README.md")
    (judged.repository / "README.md").write_text("me\n")
    judged.git("commit", "-qam", "me")
    before = judged.git("rev-parse", "main")
    refused = judged.command("merge", again.result["session"])
    assert "error[review.conflict]" in refused.stderr
    assert "README.md" in refused.stderr
    assert judged.git("rev-parse", "main") == before
    assert judged.git("status", "--porcelain") == ""


def test_uncommitted_work_in_the_way_is_kept(judged: Product) -> None:
    ran = judged.run("echo agent > README.md; echo new > untracked")
    (judged.repository / "README.md").write_text("mine\n")
    refused = judged.command("merge", ran.result["session"])
    assert "error[review.working-tree]" in refused.stderr
    assert "\n      README.md\n" in refused.stderr, "git's own tab, as blanks"
    assert (judged.repository / "README.md").read_text() == "mine\n"
    judged.git("checkout", "-q", "README.md")
    (judged.repository / "untracked").write_text("mine\n")
    assert "error[review.working-tree]" in judged.command("merge", ran.result["session"]).stderr
    assert (judged.repository / "untracked").read_text() == "mine\n"
    assert judged.git("rev-parse", "main") != ran.result["commits"][-1]


def test_no_hook_and_no_filter_of_the_branch_runs_in_a_merge(judged: Product, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    judged.git("config", "core.hooksPath", ".husky")  # as husky sets it: the agent's folder then holds the hooks
    ran = judged.run(
        f"mkdir .husky; for h in post-merge post-checkout reference-transaction; do"
        f" printf '#!/bin/sh\\ntouch {canary}\\n' > .husky/$h; chmod +x .husky/$h; done"
    )
    assert judged.command("merge", ran.result["session"], "--acknowledge", "hook", "executable", "git").status == 0
    assert (judged.repository / ".husky/post-merge").exists()
    assert not canary.exists()


def test_into_a_branch_that_is_not_checked_out(judged: Product) -> None:
    judged.git("branch", "dev")
    ran = judged.run("echo 1 > a")
    assert judged.command("merge", ran.result["session"], "--into", "dev").status == 0
    assert judged.git("rev-parse", "dev") == ran.result["commits"][-1] != judged.git("rev-parse", "main")
    assert not (judged.repository / "a").exists()
    assert "error[review.no-target]" in judged.command("merge", ran.result["session"], "--into", "none").stderr


def test_a_working_tree_whose_path_has_line_feeds(judged: Product) -> None:
    there = judged.repository.with_name("a\nb\rc")
    judged.repository.rename(there)
    moved = Product(home=judged.home, repository=there)
    ran = moved.run("echo 1 > a")
    merged = moved.command("merge", ran.result["session"])
    assert merged.status == 0, merged.stderr
    assert (moved.git("status", "--porcelain"), (there / "a").read_text()) == ("", "1\n")


def test_drop_archives_and_remove_keeps_what_is_nowhere_else(judged: Product) -> None:
    one, two = judged.run("echo 1 > a"), judged.run("echo 2 > a")
    dropped = judged.command("drop", one.result["session"])
    assert dropped.status == 0, dropped.stderr
    archive = dropped.stdout.strip()
    assert judged.git("rev-parse", archive) == one.result["commits"][-1]
    assert one.result["branch"] not in judged.branches()
    again = judged.command("drop", one.result["session"])
    assert (again.status, archive in again.stderr) == (1, True)
    assert review(judged, one)["branch"] == archive  # it can still be looked at
    shown = judged.command("review", one.result["session"]).stdout
    assert f"This work has been dropped; it is kept as {archive}\n" in shown
    assert "containai merge" not in shown
    removed = judged.command("remove", one.result["session"])
    assert f"{archive} has work that is in no other branch: it stays" in removed.stderr
    assert judged.command("remove", two.result["session"]).status == 0
    (kept,) = [name for name in judged.branches() if name.startswith(two.result["branch"] + "-archived")]
    assert judged.git("rev-parse", kept) == two.result["commits"][-1]
    three = judged.run("echo 3 > a")
    judged.command("merge", three.result["session"])
    assert judged.command("remove", three.result["session"]).status == 0
    assert three.result["branch"] not in judged.branches()
    assert judged.git("rev-parse", "main") == three.result["commits"][-1]
    assert three.result["session"] not in judged.command("list").stdout
    four = judged.run("echo 4 > a; git add a; git commit -qm four; echo 5 > a")
    judged.command("merge", four.result["session"], "--squash")
    assert judged.command("remove", four.result["session"]).status == 0
    kept_now = {judged.git("rev-parse", name) for name in judged.branches() if "-archived-" in name}
    assert four.result["commits"][-1] in kept_now
    assert four.result["branch"] not in judged.branches()


def test_commits_of_the_users_own_on_the_sessions_branch_are_told_apart(judged: Product) -> None:
    ran = judged.run("echo 1 > a")
    judged.git("switch", "-q", ran.result["branch"])
    judged.git("commit", "-q", "--allow-empty", "-m", "mine")
    judged.git("switch", "-q", "main")
    notes = review(judged, ran)["notes"]
    assert isinstance(notes, list)
    assert len(notes) == 1
    assert notes[0].startswith("made on this host, after the session: 1 commit")


def test_what_waits_is_listed_until_it_is_decided(judged: Product) -> None:
    ran = judged.run("echo 1 > a")
    (line,) = judged.command("review", "--json").stdout.splitlines()
    assert json.loads(line)["session"] == ran.result["session"]
    judged.git("merge", "-q", ran.result["branch"])  # the user can do without us
    assert judged.command("review", "--json").stdout == ""


def test_a_name_is_of_the_repository_that_the_user_stands_in(judged: Product, tmp_path: Path) -> None:
    from tests.support.product import make_repository

    other = Product(home=judged.home, repository=tmp_path / "other", variables=judged.variables)
    make_repository(other.repository)
    here, there = judged.run("echo here > a"), other.run("echo there > a")
    assert here.result["branch"] == there.result["branch"]
    for product, ran in ((judged, here), (other, there)):
        shown = product.command("review", ran.result["branch"], "--json")
        assert json.loads(shown.stdout)["session"] == ran.result["session"]
    nowhere = Product(home=judged.home, repository=judged.home, variables=judged.variables)
    assert "error[session.ambiguous]" in nowhere.command("merge", here.result["branch"]).stderr


def test_the_page_is_written_for_its_owner_alone(judged: Product) -> None:
    ran = judged.run(HOSTILE)
    written = judged.command("review", ran.result["session"], "--web")
    page = Path(written.stdout.strip())
    assert page.stat().st_mode & 0o777 == 0o600
    assert ".husky/pre-commit" in page.read_text()
    assert "<script" not in page.read_text()
    assert "error[review.page]" in judged.command("review", ran.result["session"], "--web", str(page)).stderr


def test_the_session_of_a_page_stands_before_or_behind_the_option(judged: Product) -> None:
    session = judged.run("echo 1 > a").result["session"]
    own = judged.sessions / session / "review.html"
    for words in (("--web", session), (session, "--web")):
        written = judged.command("review", *words)
        assert written.stdout == f"{own}\n", written.stderr
        assert "shell/session-1" in own.read_text()
        own.unlink()
    with_file = ((session, "--web", "page 0"), ("--web", "page 1", session), ("--web=page 2", session))
    for number, given in enumerate(with_file):
        page = judged.repository / f"page {number}"
        assert judged.command("review", *given).stdout == f"{page}\n"
        assert "shell/session-1" in page.read_text()
    assert not own.exists()
    before = judged.git("status", "--porcelain")
    for wrong, status in ((("--web", "page.html"), 1), (("--web",), 2), (("--web", session, "page.html"), 1)):
        refused = judged.command("review", *wrong)
        assert (refused.status, refused.stdout) == (status, "")
    assert judged.git("status", "--porcelain") == before, "no file is named after a session"


def test_on_a_terminal_the_users_pager_gets_it(judged: Product, tmp_path: Path) -> None:
    ran = judged.run("echo 1 > a")
    paged = tmp_path / "paged"
    judged.git("config", "core.pager", f"cat > '{paged}'")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        judged.argv("review", ran.result["session"]), cwd=judged.repository, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**judged.environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    reader = threading.Thread(target=_drain, args=(ours,))
    reader.start()
    assert child.wait(60) == 0
    reader.join(10)
    assert "\x1b[32m+1\x1b[0m" in paged.read_text()


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except OSError:
        pass  # the other end is closed
    finally:
        os.close(fd)


def test_the_users_own_branch_goes_forward_only_to_what_runs_nothing(judged: Product) -> None:
    done = judged.run("echo 1 > a", "--use-current-branch")
    assert done.result["branch"] == "main"
    assert judged.git("rev-parse", "main") == done.result["commits"][-1]
    assert (judged.repository / "a").read_text() == "1\n"
    assert judged.git("status", "--porcelain") == ""
    assert judged.branches() == ["main"]
    before = judged.git("rev-parse", "main")
    held = judged.run("echo all: > Makefile", "--use-current-branch")
    assert held.result["branch"] == "shell/main-2"
    assert judged.git("rev-parse", "main") == before
    assert not (judged.repository / "Makefile").exists()
    (judged.repository / "a").write_text("mine\n")
    dirty = judged.run("echo 2 > b", "--use-current-branch")
    assert dirty.result["branch"] == "shell/main-3"
    assert judged.git("rev-parse", "main") == before
    assert (judged.repository / "a").read_text() == "mine\n"
    judged.git("checkout", "-q", "--", "a")
    judged.git("commit", "-q", "--allow-empty", "-m", "mine")
    seen = review(judged, done)  # what its user has committed since is none of the session's
    assert (seen["commits"], seen["notes"]) == (done.result["commits"], [])
    before = judged.git("rev-parse", "main")
    judged.git("switch", "-q", "-c", "elsewhere")  # contains all of main, which now is checked out nowhere
    assert judged.command("remove", done.result["session"]).status == 0
    assert judged.git("rev-parse", "main") == before


def test_a_session_that_has_nothing_says_so(judged: Product) -> None:
    ran = judged.run("true")
    for command in ("review", "merge", "drop"):
        refused = judged.command(command, ran.result["session"])
        assert (refused.status, "error[review.nothing]" in refused.stderr) == (1, True)
    assert judged.command("review", "no-such-session").status == 1
    misspelt = judged.command("review", ran.result["branch"].replace("session", "sesion"))
    assert (misspelt.status, f"did you mean '{ran.result['branch']}'?" in misspelt.stderr) == (1, True)


@pytest.mark.parametrize("options", [[], ["--squash"], ["--no-ff"]])
def test_what_was_merged_is_proven(judged: Product, options: list[str]) -> None:
    """The three commands: run, merge, verify."""
    ran = judged.run("echo all: > Makefile")
    assert judged.command("merge", ran.result["session"], "--acknowledge", *ids(judged, ran), *options).status == 0
    proven = judged.command("provenance", "verify", "HEAD")
    assert proven.status == 0, proven.stderr
    assert ran.result["session"] in proven.stdout


def test_an_ignored_file_of_the_users_is_never_overwritten(product: Product) -> None:
    (product.repository / ".gitignore").write_text("local.conf\n")
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-q", "-m", "ignore")
    (product.repository / "local.conf").write_text("mine\n")
    ran = product.run("echo theirs > local.conf; git add -f local.conf; git commit -qm conf", "--network-proxy", "none")
    merged = product.command("merge", ran.result["session"])
    assert merged.status == 1
    assert "local.conf" in merged.stderr
    assert (product.repository / "local.conf").read_text() == "mine\n"
    assert product.git("rev-parse", "main") == ran.result["base_commit"]


def test_options_of_the_users_for_merges_do_not_make_another_merge(product: Product) -> None:
    product.git("config", "branch.main.mergeOptions", "--squash")
    ran = product.run("echo x > f; git add f; git commit -qm f", "--network-proxy", "none")
    assert product.command("merge", ran.result["session"]).status == 0
    assert product.git("rev-parse", "main") == ran.result["commits"][-1]
    assert product.git("status", "--porcelain") == ""
