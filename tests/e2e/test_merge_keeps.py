"""What a merge must not cost its user, and what it must not bring along: each case was a way through once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.product import IDENTITY, Product, Ran

QUIET = ("--network-proxy", "none")


def commit(product: Product, message: str, **files: str) -> str:
    for name, text in files.items():
        path = product.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-q", "-m", message)
    return product.git("rev-parse", "HEAD")


def refused(product: Product, ran: Ran, code: str, *words: str) -> str:
    """Try to merge; what it said."""
    before = product.git("rev-parse", "main")
    done = product.command("merge", ran.result["session"], *words)
    assert done.status == 1, done.stdout
    assert f"error[{code}]" in done.stderr, done.stderr
    assert product.git("rev-parse", "main") == before
    return done.stderr


def triggers(product: Product, ran: Ran) -> list[dict[str, str]]:
    shown = product.command("review", ran.result["session"], "--json")
    assert shown.status == 0, shown.stderr
    return list(json.loads(shown.stdout)["triggers"])


def acknowledged(product: Product, ran: Ran) -> list[str]:
    found = sorted({trigger["kind"] for trigger in triggers(product, ran)})
    return ["--acknowledge", *found] if found else []


@pytest.mark.parametrize("place", ["out", "out/deep", "kept"])
def test_a_file_in_the_place_of_a_folder_with_ignored_files_is_refused(product: Product, place: str) -> None:
    commit(product, "ignore", **{".gitignore": "thesis.txt\n", "kept/code": "x\n"})
    thesis = product.repository / place / "thesis.txt"
    thesis.parent.mkdir(parents=True, exist_ok=True)
    thesis.write_text("mine\n")
    top = place.split("/", maxsplit=1)[0]
    ran = product.run(f"rm -rf {top}; echo a > {top}; git add -Af {top}; git commit -qm {top}", *QUIET)
    assert "thesis.txt" in refused(product, ran, "review.in-the-way", *acknowledged(product, ran))
    assert thesis.read_text() == "mine\n"
    assert product.git("status", "--porcelain") == ""


def test_a_repository_in_an_ignored_folder_is_not_replaced(product: Product) -> None:
    commit(product, "ignore", **{".gitignore": "third_party/\n"})
    product.git("init", "-q", "third_party/lib")
    ran = product.run("echo a > third_party; git add -f third_party; git commit -qm x", *QUIET)
    refused(product, ran, "review.in-the-way", "--acknowledge", "git")
    assert (product.repository / "third_party/lib/.git/HEAD").exists()


def test_a_folder_in_the_place_of_an_ignored_link_is_refused(product: Product, tmp_path: Path) -> None:
    commit(product, "ignore", **{".gitignore": "data\n"})
    (tmp_path / "elsewhere").mkdir()
    (product.repository / "data").symlink_to(tmp_path / "elsewhere")
    ran = product.run("mkdir data; echo a > data/x; git add -f data; git commit -qm x", *QUIET)
    refused(product, ran, "review.in-the-way", *acknowledged(product, ran))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_your_own_branch_is_not_moved_over_an_ignored_folder(product: Product) -> None:
    commit(product, "ignore", **{".gitignore": "*.txt\n"})
    (product.repository / "out").mkdir()
    (product.repository / "out/thesis.txt").write_text("mine\n")
    before = product.git("rev-parse", "main")
    ran = product.run("echo a > out; git add -f out; git commit -qm x", "--use-current-branch", *QUIET)
    assert ran.result["branch"] == "shell/main-2"
    assert product.git("rev-parse", "main") == before
    assert (product.repository / "out/thesis.txt").read_text() == "mine\n"


def test_a_path_that_is_ignored_is_a_trigger(product: Product) -> None:
    commit(product, "ignore", **{".gitignore": "mirror.git/\n"})
    ran = product.run(
        "mkdir -p mirror.git/x; echo a > mirror.git/x/y; echo b > z; git add -f .; git commit -qm x", *QUIET
    )
    assert [(t["kind"], t["path"]) for t in triggers(product, ran)] == [("git", "mirror.git/x/y")]
    assert "ignore rules" in refused(product, ran, "review.unacknowledged")


def test_what_the_session_stands_on_is_part_of_the_merge(product: Product) -> None:
    first = product.run("mkdir -p .husky; echo evil > .husky/pre-commit; git add -A; git commit -qm one", *QUIET)
    product.git("switch", "-q", first.result["branch"])
    second = product.run("echo harmless > f; git add f; git commit -qm two", *QUIET)
    product.git("switch", "-q", "main")
    found = triggers(product, second)
    assert [(t["kind"], t["path"]) for t in found if t["kind"] != "base"] == [("hook", ".husky/pre-commit")]
    assert "from before the session" in found[1]["detail"]
    assert "1 commit," in found[0]["detail"]
    refused(product, second, "review.unacknowledged")
    refused(product, second, "review.unacknowledged", "--acknowledge", "hook")
    assert product.command("merge", second.result["session"], "--acknowledge", "hook", "base").status == 0


def test_what_the_user_had_not_committed_is_no_foreign_commit(product: Product) -> None:
    (product.repository / "mine").write_text("mine\n")
    ran = product.run("echo x > f; git add f; git commit -qm two", "--with-changes", *QUIET)
    assert triggers(product, ran) == []
    (product.repository / "mine").unlink()
    assert product.command("merge", ran.result["session"]).status == 0
    assert product.git("show", "main:mine") == "mine"


def test_a_merge_that_moves_an_edit_into_a_renamed_file_shows_it(product: Product) -> None:
    body = "".join(f"line {n}\n" for n in range(40))
    commit(product, "notes", **{"notes.txt": body})
    ran = product.run("echo evil >> notes.txt; git commit -qam edit", *QUIET)
    (product.repository / ".github/workflows").mkdir(parents=True)
    product.git("mv", "notes.txt", ".github/workflows/ci.yml")
    product.git(*IDENTITY, "commit", "-q", "-m", "moved")
    said = refused(product, ran, "review.unacknowledged")
    assert ".github/workflows/ci.yml" in said
    product.git("config", "user.name", "Ada")
    product.git("config", "user.email", "ada@example.org")
    assert product.command("merge", ran.result["session"], "--acknowledge", "ci").status == 0
    assert product.git("show", "main:.github/workflows/ci.yml").endswith("evil")


def test_a_file_merged_by_a_rule_of_the_target_is_left_to_git(product: Product) -> None:
    commit(product, "rules", **{".gitattributes": "*.lock -merge\n", "a.lock": "1\n2\n3\n4\n5\n6\n7\n"})
    ran = product.run("sed -i s/1/one/ a.lock; git commit -qam edit", *QUIET)
    commit(product, "mine", **{"a.lock": "1\n2\n3\n4\n5\n6\nseven\n"})
    assert "a.lock" in refused(product, ran, "review.merge-rule")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("filter.tidy.smudge", "tools/tidy.sh %f"),
        ("filter.tidy.clean", "sh ./tools/tidy.sh"),
        ("alias.tidy", "!sh -c 'tools/tidy.sh \"$1\"' -"),
        ("alias.tidy", "!$(git rev-parse --show-toplevel)/tools/tidy.sh"),
        ("core.hooksPath", "tools"),
        ("core.fsmonitor", "tools/tidy.sh"),
        ("diff.tidy.textconv", "{repository}/tools/tidy.sh"),
        ("include.path", "../tools/tidy.sh"),
    ],
)
def test_what_your_git_configuration_names_is_a_trigger(product: Product, setting: str, value: str) -> None:
    commit(product, "tools", **{"tools/tidy.sh": "", "other/tidy.sh": ""})
    product.git("config", setting, value.format(repository=product.repository))
    ran = product.run("echo '# evil' | tee tools/tidy.sh other/tidy.sh; git commit -qam x", *QUIET)
    product.git("config", "--unset", "core.fsmonitor", check=False)
    if setting == "core.fsmonitor":
        product.git("config", setting, value)
    found = triggers(product, ran)
    assert [(t["kind"], t["path"]) for t in found] == [("git", "tools/tidy.sh")]
    assert found[0]["detail"].startswith(setting.lower() if setting != "include.path" else "")
    assert "tools/tidy.sh" in refused(product, ran, "review.unacknowledged")


def test_a_trigger_reached_through_a_link_is_one(product: Product) -> None:
    commit(product, "docs", **{"docs/ai.md": "be good\n", "tools/editor/tasks.json": "{}\n", "tools/other": "x\n"})
    (product.repository / "CLAUDE.md").symlink_to("docs/ai.md")
    (product.repository / ".vscode").symlink_to("tools/second")
    (product.repository / "tools/second").symlink_to("./editor")
    commit(product, "links")
    ran = product.run("for f in docs/ai.md tools/editor/tasks.json tools/other; do echo x >> $f; done", *QUIET)
    found = {(t["kind"], t["path"], t["detail"]) for t in triggers(product, ran)}
    assert found == {
        ("agent", "docs/ai.md", "reached as CLAUDE.md"),
        ("editor", "tools/editor/tasks.json", "reached as .vscode/tasks.json"),
    }


def test_a_trigger_reached_through_a_link_that_the_session_never_saw_is_one(product: Product) -> None:
    commit(product, "docs", **{"docs/ai.md": "be good\n"})
    ran = product.run("echo be evil >> docs/ai.md; git commit -qam edit", *QUIET)
    (product.repository / "CLAUDE.md").symlink_to("docs/ai.md")
    commit(product, "link")
    assert {(t["kind"], t["detail"]) for t in triggers(product, ran)} == {("agent", "reached as CLAUDE.md")}
    refused(product, ran, "review.unacknowledged")


def test_a_session_is_found_by_its_work_when_its_branch_was_given_again(product: Product) -> None:
    old = product.run("echo old > f; git add f; git commit -qm old", "-b", "x", *QUIET)
    new = product.run("echo new > f; git add f; git commit -qm new", "-b", "x", "-y", *QUIET)
    for ran, text in ((old, "old"), (new, "new")):
        shown = json.loads(product.command("review", ran.result["session"], "--json").stdout)
        assert shown["commits"] == ran.result["commits"], text
    assert product.command("drop", old.result["session"]).status == 0
    assert product.git("show", "shell/x:f") == "new"
    assert product.command("merge", new.result["session"]).status == 0
    assert product.git("show", "main:f") == "new"


def test_removing_the_older_session_leaves_the_newer_ones_branch(product: Product) -> None:
    old = product.run("echo old > f; git add f; git commit -qm old", "-b", "x", *QUIET)
    new = product.run("echo new > f; git add f; git commit -qm new", "-b", "x", "-y", *QUIET)
    assert product.command("remove", old.result["session"]).status == 0
    assert product.git("rev-parse", "shell/x") == new.result["commits"][-1]
    kept = [name for name in product.branches() if "-archived-" in name]
    assert [product.git("rev-parse", name) for name in kept] == [old.result["commits"][-1]]


def test_a_branch_that_its_user_has_rewritten_is_still_the_sessions(product: Product) -> None:
    ran = product.run("echo x > f; git add f; git commit -qm one", *QUIET)
    product.git("switch", "-q", ran.result["branch"])
    product.git(*IDENTITY, "commit", "-q", "--amend", "-m", "one, said better")
    product.git("switch", "-q", "main")
    assert product.command("merge", ran.result["session"]).status == 0
    assert product.git("log", "-1", "--format=%s", "main") == "one, said better"


def test_a_damaged_record_stops_nobody_elses_session(product: Product) -> None:
    bad, good = product.run("echo x > f", *QUIET), product.run("echo y > f", *QUIET)
    record = product.sessions / bad.result["session"] / "record.json"
    record.write_text(record.read_text()[:-40])
    listed = product.command("list")
    assert (listed.status, good.result["session"] in listed.stdout) == (1, True)
    assert bad.result["session"] in listed.stderr
    assert good.result["session"] in product.command("review").stdout
    recovered = product.command("recover")
    assert (recovered.status, bad.result["session"] in recovered.stderr) == (1, True)
    assert "error[state.record]" in product.command("review", bad.result["session"]).stderr
    assert product.command("log").status == 0
    assert product.command("merge", good.result["session"]).status == 0
