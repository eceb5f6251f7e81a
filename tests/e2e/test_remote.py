"""A session on a repository from HTTPS: fetched on the host with the user's credentials, kept, and returned to."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.git import fingerprint, git
from tests.support.https import PASSWORD, USER, GitOverHttps, serve
from tests.support.product import IDENTITY, Product

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def server(product: Product, tmp_path: Path) -> Iterator[GitOverHttps]:
    """A server with the product's own repository as ``origin``, and a user who can log in there."""
    with serve(product.repository, tmp_path / "server") as running:
        (product.home / ".gitconfig").write_text(
            f'[http]\n\tsslCAInfo = {running.authority}\n[credential]\n\thelper = "store --file={product.home}/secrets"\n'
        )
        (product.home / "secrets").write_text(f"https://{USER}:{PASSWORD}@localhost:{running.port}\n")
        yield running


def kept_at(product: Product, server: GitOverHttps) -> Path:
    return product.home / "state/containai/sources" / f"localhost:{server.port}" / "owner/project.git"


def texts_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "secrets":
            yield path, path.read_bytes()


def test_work_on_a_remote_repository_returns_to_the_kept_one(
    product: Product, server: GitOverHttps, tmp_path: Path
) -> None:
    ran = product.run("cat README.md; git remote -v; git branch -a; echo work > work", server.url)
    assert ran.status == 0, ran.stderr
    kept = kept_at(product, server)
    assert "sample" in ran.printed
    assert str(server.port) not in ran.printed  # no remote but "local"
    assert ran.result["base_commit"] == product.git("rev-parse", "main")
    assert ran.result["name"] == "shell-project-session-1"
    assert git(kept, "show", "shell/session-1:work") == "work"
    assert git(kept, "fsck", "--strict") == ""
    assert f"the work returns to {kept}" in ran.stderr
    mine = tmp_path / "mine"
    git(tmp_path, "clone", "-q", str(product.repository), str(mine))
    git(mine, "fetch", "-q", str(kept), "shell/session-1")
    assert git(mine, "show", "FETCH_HEAD:work") == "work"
    assert (product.home / "state/containai/sources").stat().st_mode & 0o777 == 0o700
    assert product.branches() == ["main"]
    (listed,) = [json.loads(line) for line in product.command("list", "--json").stdout.splitlines()]
    assert (listed["repository"], listed["state"]) == (str(kept), "ended")
    for path, content in texts_below(product.home):
        assert PASSWORD.encode() not in content, path
    assert PASSWORD not in ran.stderr


def test_the_next_run_fetches_what_is_new_and_keeps_the_agents_branches(product: Product, server: GitOverHttps) -> None:
    product.run("echo 1 > one", server.url)
    product.git(*IDENTITY, "commit", "-q", "--allow-empty", "-m", "newer")
    product.git("branch", "elsewhere", "main~1")
    again = product.run("git log --format=%s; echo 2 > two", f"{server.url}.git/")
    assert again.printed.split() == ["newer", "first"], again.stderr
    kept = kept_at(product, server)
    assert git(kept, "for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/shell/session-1", "refs/heads/shell/session-2", "refs/notes/containai",
        "refs/remotes/origin/elsewhere", "refs/remotes/origin/main",
    ]  # fmt: skip
    assert sorted(path.name for path in kept.parent.iterdir()) == ["project.git", "project.git.lock"]


def test_work_kept_in_the_session_is_recovered_into_the_kept_repository(product: Product, server: GitOverHttps) -> None:
    ran = product.run("echo kept > f", server.url, "--no-push")
    recovered = product.command("recover", ran.result["session"])
    assert recovered.status == 0, recovered.stderr
    assert git(kept_at(product, server), "show", "shell/session-1:f") == "kept"
    assert product.command("log", ran.result["session"], "--json").status == 0


def test_two_runs_at_once_share_one_clone(product: Product, server: GitOverHttps) -> None:
    running = [product.start(f"echo {n} > f{n}", server.url) for n in range(3)]
    results = [json.loads(process.communicate(timeout=90)[0]) for process in running]
    assert sorted(result["branch"] for result in results) == [f"shell/session-{n}" for n in (1, 2, 3)]
    # Of two statements that are noted at once one is made again; the first then dangles.
    assert git(kept_at(product, server), "fsck", "--no-dangling") == ""


@pytest.mark.parametrize("how", ["broken", "killed"])
def test_an_interrupted_clone_does_not_poison_the_next(product: Product, server: GitOverHttps, how: str) -> None:
    kept = kept_at(product, server)
    if how == "broken":
        server.broken = True
        ran = product.command("run", server.url, "--", "true")
        assert ran.status == 125
        assert "error[workspace.fetch]" in ran.stderr
        server.broken = False
    else:
        fresh = kept.with_name("project.git.new")
        fresh.mkdir(parents=True)
        (fresh / "HEAD").write_text("ref: refs/heads/half\n")
        process = product.start("true", server.url)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    assert not kept.exists()
    assert product.run("echo x > f", server.url).status == 0
    assert git(kept, "show", "shell/session-1:f") == "x"
    assert not kept.with_name("project.git.new").exists()


def test_a_wrong_password_is_refused_and_nothing_is_kept(product: Product, server: GitOverHttps) -> None:
    (product.home / "secrets").write_text(f"https://{USER}:wrong-one@localhost:{server.port}\n")
    ran = product.command("run", server.url, "--", "true")
    assert ran.status == 125
    assert "error[workspace.fetch]" in ran.stderr
    assert "wrong-one" not in ran.stderr
    assert not kept_at(product, server).exists()
    assert not list(product.sessions.glob("*"))


def test_a_redirect_to_another_protocol_is_not_followed(product: Product, server: GitOverHttps) -> None:
    server.redirect = f"http://localhost:{server.port}"
    ran = product.command("run", server.url, "--", "true")
    assert ran.status == 125
    assert "error[workspace.fetch]" in ran.stderr
    assert len(server.seen) == 1


def test_a_users_configuration_cannot_turn_the_address_into_a_command(product: Product, server: GitOverHttps) -> None:
    mark = product.home / "ran"
    with open(product.home / ".gitconfig", "a", encoding="utf-8") as config:
        config.write(
            f'[url "ext::touch {mark} "]\n\tinsteadOf = https://localhost\n[protocol "ext"]\n\tallow = always\n'
        )
    ran = product.command("run", server.url, "--", "true")
    assert "error[workspace.fetch]" in ran.stderr
    assert not mark.exists()


def test_variables_that_lead_git_elsewhere_are_not_passed_on(product: Product, server: GitOverHttps) -> None:
    led = replace(
        product, variables={"GIT_DIR": str(product.repository / ".git"), "GIT_TRACE": str(product.home / "trace")}
    )
    before = fingerprint(product.repository)
    ran = led.run("echo x > f", server.url)
    assert ran.status == 0, ran.stderr
    assert fingerprint(product.repository) == before
    assert not (product.home / "trace").exists()


def test_a_hook_of_the_users_templates_does_not_run(product: Product, server: GitOverHttps) -> None:
    templates = product.home / "templates" / "hooks"
    templates.mkdir(parents=True)
    (templates / "reference-transaction").write_text(f"#!/bin/sh\ntouch {product.home}/ran\n")
    (templates / "reference-transaction").chmod(0o755)
    product.git("config", "--global", "init.templateDir", str(templates.parent))
    ran = product.run("echo x > f", server.url)
    assert ran.status == 0, ran.stderr
    assert not (product.home / "ran").exists()
    assert not (kept_at(product, server) / "hooks").exists()


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost/a/b", "git://localhost/a", "ssh://localhost/a", "file:///tmp", "ext::sh -c true", "ftp://h/p",
        f"https://grace:{PASSWORD}@localhost/a", "https://grace@localhost/a", "https://localhost", "https://localhost/",
        "https://localhost/../a", "https://localhost/a/../../b", "https://localhost/%2e%2e/a", "https://localhost/-a",
        "https://-host/a", "https://localhost:0/a", "https://localhost:99999/a", "https://localhost/a?b=c",
        "https://localhost/a#b", "https://localhost/a b", "https://localhost/a\tb", "https://localhost/.git",
        "https://localhost/a.git/b", "https://a..b/c", "https://[::1/a", "https://localhost/" + "a" * 999,
        "HTTPS::sh", "https://localhost/\u200bx", "https://localhost/a.git.lock/b",
    ],
)  # fmt: skip
def test_an_address_that_is_not_plain_https_is_a_usage_error(product: Product, address: str) -> None:
    ran = product.command("run", address, "--", "true")
    assert ran.status == 2, ran.stderr
    assert "error[usage.source]" in ran.stderr
    assert PASSWORD not in ran.stderr
    assert not (product.home / "state").exists()


def test_what_is_for_local_repositories_does_not_go_with_an_address(product: Product) -> None:
    for option in ("--with-changes", "--include=.env", "--submodules"):
        assert product.command("run", "https://localhost/a/b", option, "--", "true").status == 2


def test_sparse_and_remote_go_together(product: Product, server: GitOverHttps) -> None:
    (product.repository / "sub").mkdir()
    (product.repository / "sub" / "f").write_text("x\n")
    (product.repository / "not").mkdir()
    (product.repository / "not" / "f").write_text("x\n")
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-qm", "folders")
    assert product.run("ls", server.url, "--sparse", "sub").printed.split() == ["README.md", "sub"]


def test_the_server_asks_for_a_password(server: GitOverHttps, tmp_path: Path) -> None:
    asked = subprocess.run(
        ["git", "-c", f"http.sslCAInfo={server.authority}", "ls-remote", server.url], cwd=tmp_path, check=False,
        capture_output=True, timeout=30, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0"},
    )  # fmt: skip
    assert asked.returncode != 0
