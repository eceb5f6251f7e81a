"""What the agent's copy contains, as the user chose it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.git import fingerprint, git
from tests.support.product import IDENTITY, Product, make_repository

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]

# What a session may add to.
SHARED = (
    ".git/objects", ".git/refs/heads/shell", ".git/logs/refs/heads/shell", ".git/refs/notes", ".git/logs/refs/notes"
)  # fmt: skip


def configured(product: Product) -> None:
    product.git("config", "user.name", "Grace")
    product.git("config", "user.email", "grace@example.org")


# --- --with-changes --------------------------------------------------------------------------------------------------


def test_uncommitted_work_is_taken_along_as_one_commit_of_the_user(product: Product) -> None:
    configured(product)
    (product.repository / "gone").write_text("x\n")
    (product.repository / ".gitignore").write_text("ignored\n")
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-qm", "second")
    head = product.git("rev-parse", "HEAD")
    (product.repository / "staged").write_text("staged\n")
    product.git("add", "staged")
    (product.repository / "README.md").write_text("changed\n")
    (product.repository / "new file").write_text("untracked\n")
    (product.repository / "ignored").write_text("secret\n")
    (product.repository / "gone").unlink()
    os.mkfifo(product.repository / "pipe")
    status = product.git("status", "--porcelain")
    before = fingerprint(product.repository, without=SHARED)
    ran = product.run(
        "cat staged README.md 'new file'; ls -A; git status --porcelain; echo done > done", "--with-changes"
    )
    assert ran.status == 0, ran.stderr
    shown = ran.printed.splitlines()
    assert shown[:3] == ["staged", "changed", "untracked"]
    assert shown[3:] == [".git", ".gitignore", "README.md", "new file", "staged"]
    taken = ran.result["base_commit"]
    assert product.git("log", "-1", "--format=%an <%ae>|%s|%P", taken) == (
        f"Grace <grace@example.org>|Uncommitted changes of main|{head}"
    )
    assert product.git("rev-list", "--count", f"{taken}..shell/session-1") == "1"
    assert fingerprint(product.repository, without=SHARED) == before
    assert product.git("status", "--porcelain") == status
    assert product.git("for-each-ref", "--contains", taken, "--format=%(refname)") == "refs/heads/shell/session-1"
    assert "not committed" not in ran.stderr
    assert product.git("fsck", "--strict") == ""


def test_without_changes_the_copy_is_the_plain_commit(product: Product) -> None:
    ran = product.run("true", "--with-changes")
    assert ran.result["base_commit"] == product.git("rev-parse", "HEAD")
    assert "taken along" not in ran.stderr


def test_the_note_names_the_option(product: Product) -> None:
    (product.repository / "new").write_text("x")
    ran = product.run("ls")
    assert "not in the copy: 1 untracked (see --with-changes)" in ran.stderr
    assert "new" not in ran.printed.split()


def test_somebody_without_a_name_can_take_changes_along(product: Product) -> None:
    (product.repository / "new").write_text("x\n")
    ran = product.run("cat new; echo y > new", "--with-changes")
    assert ran.status == 0, ran.stderr
    assert product.git("log", "-1", "--format=%ae", ran.result["base_commit"]) == "user@containai.invalid"


@pytest.mark.parametrize("state", ["merge", "unmerged", "huge", "pipe"])
def test_changes_that_cannot_be_taken_are_refused_and_nothing_is_left(product: Product, state: str) -> None:
    configured(product)
    place = product.repository / "README.md"
    if state in ("merge", "unmerged"):
        product.git("checkout", "-qb", "other")
        place.write_text("theirs\n")
        product.git("commit", "-qam", "theirs")
        product.git("checkout", "-q", "main")
        place.write_text("ours\n")
        product.git("commit", "-qam", "ours")
        product.git("merge", "other", check=False)
        if state == "unmerged":
            (product.repository / ".git" / "MERGE_HEAD").unlink()
    elif state == "huge":
        with open(product.repository / "big.bin", "wb") as file:
            file.truncate(300 * 1024 * 1024)
    else:
        place.unlink()
        os.mkfifo(place)
    before = fingerprint(product.repository)
    ran = product.command("run", "--with-changes", "--", "true")
    code = {"merge": "in-progress", "unmerged": "unmerged", "huge": "size", "pipe": "special"}[state]
    assert ran.status == 125
    assert f"error[workspace.changes-{code}]" in ran.stderr
    assert state != "huge" or "big.bin" in ran.stderr
    assert fingerprint(product.repository) == before
    assert not list(product.sessions.glob("*"))


def test_a_repository_inside_is_not_taken_along(product: Product) -> None:
    make_repository(product.repository / "inner")
    (product.repository / "new").write_text("x\n")
    ran = product.run("ls; echo y > y", "--with-changes")
    assert "inner is a repository of its own" in ran.stderr
    assert product.git("ls-tree", "--name-only", ran.result["base_commit"]).split() == ["README.md", "new"]


def test_changes_of_a_linked_worktree_are_those_of_that_worktree(product: Product, tmp_path: Path) -> None:
    (product.repository / "elsewhere").write_text("no\n")
    product.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side tree"))
    (tmp_path / "side tree" / "here").write_text("yes\n")
    ran = product.run("ls", str(tmp_path / "side tree"), "--with-changes")
    assert ran.printed.split() == ["README.md", "here"]


def test_in_a_sparse_checkout_what_is_left_out_is_not_taken_as_deleted(product: Product) -> None:
    (product.repository / "a").mkdir()
    (product.repository / "b").mkdir()
    for name in ("a/f", "b/f"):
        (product.repository / name).write_text("x\n")
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-qm", "folders")
    product.git("sparse-checkout", "set", "a")
    (product.repository / "a/f").write_text("y\n")
    ran = product.run("cat a/f; ls", "--with-changes")
    assert ran.printed.split() == ["y", "README.md", "a"]
    assert product.git("diff", "--name-status", "main", ran.result["base_commit"]) == "M\ta/f"


# --- --include -------------------------------------------------------------------------------------------------------


def with_ignored(product: Product) -> None:
    (product.repository / ".gitignore").write_text(".env\n/cache/\nlink\nde*p/.env*\n")
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-qm", "ignore")
    (product.repository / ".env").write_text("TOKEN=for-the-agent\n")
    (product.repository / "other").mkdir()
    (product.repository / "other" / ".env").write_text("TOKEN=not-named\n")


def test_an_ignored_file_is_copied_only_when_it_is_named_and_never_committed(product: Product) -> None:
    with_ignored(product)
    assert product.run("test -e .env").status == 1
    ran = product.run("cat .env; stat -c %U .env; ls; git status --porcelain; echo x > f; echo more >> .env",
                      "--include", ".env")  # fmt: skip
    assert ran.printed.splitlines() == ["TOKEN=for-the-agent", "agentuser", "README.md"], ran.stderr
    branch = ran.result["branch"]
    assert product.git("ls-tree", "-r", "--name-only", branch).split() == [".gitignore", "README.md", "f"]
    assert product.git("log", "--all", "--format=%H", "-STOKEN=for") == ""
    assert (product.repository / ".env").read_text() == "TOKEN=for-the-agent\n"
    (begun,) = [event for event in product.events(ran) if event["event"] == "session-config"]
    assert begun["included"] == [".env"]
    assert "for-the-agent" not in Path(ran.result["event_log"]).read_text()


def test_an_included_file_stays_ignored_though_only_the_users_own_rules_ignore_it(product: Product) -> None:
    with_ignored(product)
    odd = "a [b]*\\c "
    rules = product.home / "ignore"
    rules.write_text("a*\nzz\n")
    product.git("config", "core.excludesFile", str(rules))
    (product.repository / odd).write_text("secret\n")
    ran = product.run(f"cat '{odd}'; echo x > zz", "--include", odd)
    assert ran.printed.splitlines() == ["secret"], ran.stderr
    assert product.git("ls-tree", "-r", "--name-only", ran.result["branch"]).split() == [
        ".gitignore",
        "README.md",
        "zz",
    ]


def test_a_folder_is_copied_with_links_that_stay_inside(product: Product) -> None:
    with_ignored(product)
    cache = product.repository / "cache"
    (cache / "deep").mkdir(parents=True)
    (cache / "deep" / "tool").write_text("#!/bin/sh\necho ran\n")
    (cache / "deep" / "tool").chmod(0o4755)
    (cache / "inside").symlink_to("deep/tool")
    (cache / "outside").symlink_to("/etc/shadow")
    (cache / "above").symlink_to("../../elsewhere")
    (cache / "git").symlink_to("../.git/config")
    os.mkfifo(cache / "pipe")
    make_repository(cache / "inner")
    ran = product.run("cache/inside; ls cache cache/inner; stat -c %a cache/deep/tool; ls -A cache/inner",
                      "--include", "cache")  # fmt: skip
    assert ran.status == 0, ran.stderr
    assert ran.printed.split() == ["ran", "cache:", "deep", "inner", "inside", "cache/inner:", "README.md", "700",
                                   "README.md"]  # fmt: skip
    assert "not included: cache/above and 4 more" in ran.stderr


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("README.md", "is committed"),
        ("other", "does not ignore"),
        ("../elsewhere", "not below"),
        ("/etc/passwd", "not below"),
        (".", "not below"),
        ("", "not below"),
        (".git/config", "never copied"),
        ("sub/.GIT/config", "never copied"),
        ("missing.env", "No such file"),
        ("link", "neither a file"),
        ("README.md/.env", "Not a directory"),
        ("deep/.env", "committed"),
        ("deeplink/.env", ""),
    ],
)
def test_what_cannot_be_included_is_a_usage_error(product: Product, tmp_path: Path, name: str, why: str) -> None:
    with_ignored(product)
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / ".env").write_text("outside\n")
    (product.repository / "link").symlink_to(tmp_path / "target" / ".env")
    (product.repository / "deeplink").symlink_to(tmp_path / "target")
    (product.repository / "deep").write_text("a file in the commit\n")
    product.git("add", "deep")
    product.git(*IDENTITY, "commit", "-qm", "deep")
    (product.repository / "deep").unlink()
    (product.repository / "deep").mkdir()
    (product.repository / "deep" / ".env").write_text("x\n")
    ran = product.command("run", "--include", name, "--", "true")
    assert ran.status == 2
    assert "error[usage.include]" in ran.stderr
    assert why in ran.stderr
    assert product.branches() == ["main"]


# --- sparse ----------------------------------------------------------------------------------------------------------


def with_folders(product: Product) -> None:
    for name in ("a/one", "a/in/two", "b/three", "b/x y/four", "c/five"):
        (product.repository / name).parent.mkdir(parents=True, exist_ok=True)
        (product.repository / name).write_text(f"{name}\n")
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-qm", "folders")


@pytest.mark.parametrize("mode", ["--cone", "--no-cone"])
def test_a_sparse_checkout_is_carried_over_and_deletes_nothing(product: Product, mode: str) -> None:
    with_folders(product)
    product.git("sparse-checkout", "set", mode, "a" if mode == "--cone" else "/a/")
    ran = product.run("find * -type f; git sparse-checkout list; echo changed > a/one; rm a/in/two")
    expected = ["README.md", "a/in/two", "a/one", "a"] if mode == "--cone" else ["a/in/two", "a/one", "/a/"]
    assert sorted(ran.printed.splitlines()) == sorted(expected), ran.stderr
    assert product.git("diff", "--name-status", "main", "shell/session-1").splitlines() == ["D\ta/in/two", "M\ta/one"]


def test_another_part_can_be_chosen(product: Product) -> None:
    with_folders(product)
    ran = product.run(
        "find * -type f; git sparse-checkout list; echo new > b/'x y'/new", "--sparse", "b/x y", "--sparse", "c/"
    )
    listed = ["README.md", "b/three", "b/x y/four", "c/five", "b/x y", "c"]
    assert sorted(ran.printed.splitlines()) == sorted(listed), ran.stderr
    assert product.git("diff", "--name-status", "main", "shell/session-1") == "A\tb/x y/new"


@pytest.mark.parametrize("name", ["nowhere", "README.md", "../b", "", "a//in", "--all"])
def test_a_part_that_is_not_there_is_a_usage_error(product: Product, name: str) -> None:
    with_folders(product)
    ran = product.command("run", f"--sparse={name}", "--", "true")
    assert ran.status == 2
    assert "error[usage.sparse]" in ran.stderr


def test_a_listing_shows_the_session_all_the_same(product: Product) -> None:
    with_folders(product)
    ran = product.run("echo x > f", "--sparse", "a", "--with-changes")
    listed = json.loads(product.command("list", "--json").stdout)
    assert (listed["id"], listed["state"]) == (ran.result["session"], "ended")


# --- submodules ------------------------------------------------------------------------------------------------------


def with_submodule(product: Product, tmp_path: Path, path: str = "libs/in ner") -> str:
    """A submodule that is checked out, and moved on since; the commit that is recorded."""
    make_repository(tmp_path / "library", {"code.txt": "library\n"})
    product.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "library"), path)
    product.git(*IDENTITY, "commit", "-qm", "submodule")
    return product.git("rev-parse", f"HEAD:{path}")


def test_submodules_are_empty_unless_asked_for(product: Product, tmp_path: Path) -> None:
    with_submodule(product, tmp_path)
    ran = product.run("ls -A libs/*; echo x > f")
    assert ran.printed == ""
    assert "1 submodule is left empty in the copy (see --submodules)" in ran.stderr
    assert product.git("diff", "--name-status", "main", "shell/session-1") == "A\tf"


def test_a_submodule_is_given_at_the_recorded_commit(product: Product, tmp_path: Path) -> None:
    commit = with_submodule(product, tmp_path)
    inner = product.repository / "libs/in ner"
    (inner / "code.txt").write_text("later\n")
    git(inner, "commit", "-qam", "later")
    before = fingerprint(product.repository, without=SHARED)
    ran = product.run(
        "cat libs/*/code.txt; cd libs/*/; git rev-parse HEAD; git status --porcelain; git rev-list --count HEAD;"
        "cd ../..; git status --porcelain; git submodule status; git remote -v; echo x > f", "--submodules"
    )  # fmt: skip
    assert ran.status == 0, ran.stderr
    lines = ran.printed.splitlines()
    assert lines[:3] == ["library", commit, "1"]
    assert lines[3].startswith(f" {commit} libs/in ner")
    assert len(lines) == 6
    assert str(tmp_path) not in ran.printed
    assert "left empty" not in ran.stderr
    assert product.git("diff", "--name-status", "main", "shell/session-1") == "A\tf"
    assert fingerprint(product.repository, without=SHARED) == before


def test_of_a_changed_submodule_only_the_commit_number_returns(product: Product, tmp_path: Path) -> None:
    with_submodule(product, tmp_path, "inner")
    ran = product.run("cd inner && echo new > code.txt && git commit -qam new && git rev-parse HEAD", "--submodules")
    assert product.git("rev-parse", "shell/session-1:inner") == ran.printed.strip()
    assert "of a submodule only the commit number is returned, not the content: 'inner'" in ran.stderr


def test_a_submodule_that_is_not_checked_out_stays_empty(product: Product, tmp_path: Path) -> None:
    with_submodule(product, tmp_path, "inner")
    product.git("submodule", "deinit", "-q", "-f", "inner")
    shutil.rmtree(product.repository / ".git" / "modules")
    ran = product.run("ls -A inner", "--submodules")
    assert ran.printed == ""
    assert "1 submodule is left empty in the copy" in ran.stderr


@pytest.mark.parametrize(
    ("name", "path"),
    [("../../../victim", "inner"), ("-x", "inner"), ("inner", "../victim"), ("inner", "-C"), ("inner", "README.md"),
     ("inner", ".git/modules"), ("a\\..\\..\\victim", "inner"), ("inner", "/etc"), ("link", "inner"), ("inner", "")],
)  # fmt: skip
def test_a_hostile_gitmodules_names_nothing_else(product: Product, tmp_path: Path, name: str, path: str) -> None:
    with_submodule(product, tmp_path, "inner")
    make_repository(tmp_path / "victim", {"secret.txt": "secret\n"})
    (product.repository / ".git" / "modules" / "link").symlink_to(tmp_path / "victim" / ".git")
    (product.repository / ".gitmodules").unlink()
    for key, value in (("path", path), ("url", str(tmp_path / "victim"))):
        product.git("config", "-f", ".gitmodules", f"submodule.{name}.{key}", value)
    product.git("add", ".gitmodules")
    victim = git(tmp_path / "victim", "rev-parse", "HEAD")
    product.git("update-index", "--cacheinfo", f"160000,{victim},inner")
    product.git(*IDENTITY, "commit", "-qm", "hostile")
    script = "ls -A inner; ls .git/modules; find / -name secret.txt 2>/dev/null"
    ran = product.run(script, "--submodules", "--no-push")  # without it a name that git refuses starts no agent
    assert ran.status != 125, ran.stderr
    assert ran.printed.replace("ls: cannot access '.git/modules': No such file or directory", "").strip() == ""
