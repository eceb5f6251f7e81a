"""The commit of what an agent leaves: its message, its author, and whose hooks run where."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.product import IDENTITY, Product

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]

WRITE = "printf 'Add the \\033[1mfile\\033[0m\\nWhy: \\342\\200\\256it is wanted.\\nContainai-Session: forged\\n'"


def _last(product: Product, form: str) -> str:
    return product.git("log", "-1", f"--format={form}", "shell/session-1")


def test_a_message_that_the_agent_wrote_is_taken(product: Product) -> None:
    ran = product.run(f'echo x > f; {WRITE} > "$CONTAINAI_COMMIT_MESSAGE"')
    assert _last(product, "%B").splitlines() == [
        "Add the [1mfile[0m",
        "",
        "Why: it is wanted.",
        "",
        f"Containai-Session: {ran.result['session']}",
        f"Containai-Config: {ran.result['config_sha256']}",
    ]


def test_the_message_may_be_written_when_the_end_has_come(product: Product) -> None:
    end = "trap 'echo Written at the end > $CONTAINAI_COMMIT_MESSAGE; exit 0' TERM"
    ran = product.run(f"{end}; echo x > f; while :; do sleep 0.1; done", "--timeout", "2")
    assert ran.status == 124
    assert _last(product, "%s") == "Written at the end"


def test_an_agent_that_wants_more_time_for_its_message_does_without(product: Product) -> None:
    end = "trap 'sleep 1000; echo Too late > $CONTAINAI_COMMIT_MESSAGE' TERM"
    ran = product.run(f"{end}; echo x > f; while :; do sleep 0.1; done", "--timeout", "1")
    assert ran.status == 124
    assert _last(product, "%s") == "Add f"


def _configure(product: Product, text: str) -> None:
    place = product.home / ".config" / "containai"
    place.mkdir(parents=True)
    (place / "config.toml").write_text(text)


def test_the_users_choice_of_author_stands_in_every_commit(product: Product) -> None:
    who = "Jane's #1; helper [bot] <1+bot[bot]@users.example.org>"
    _configure(product, f'[commit]\nauthor = "{who}"\n')
    product.run("echo x > f; git add f; git commit -qm own; echo y > g")
    lines = product.git("log", "--format=%an <%ae>%n%cn <%ce>", "main..shell/session-1").splitlines()
    assert lines == [who] * 4


def test_the_author_is_the_same_after_recover(product: Product) -> None:
    _configure(product, '[commit]\nauthor = "Somebody <some@example.org>"\n')
    child = product.start("echo x > f; sleep 1000")
    deadline = time.monotonic() + 30
    while not any(product.sessions.glob("*/workspace/f")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=10)
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    assert _last(product, "%an <%ae>") == "Somebody <some@example.org>"


def test_a_repository_does_not_choose_the_author(product: Product) -> None:
    (product.repository / "config.toml").write_text('[commit]\nauthor = "Root <root@example.org>"\n')
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-qm", "config")
    ran = product.command("run", "--", "true")
    assert ran.status == 125
    assert "commit is not known here" in ran.stderr
    assert product.branches() == ["main"]


def test_a_repositorys_own_hooks_run_inside_only(product: Product) -> None:
    """Committed hooks, which the user and the agent have put into force: as husky and its like do."""
    hooks, outside = product.repository / "hooks", product.home / "ran"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "post-commit", "pre-push", "reference-transaction", "post-update"):
        (hooks / name).write_text(f"#!/bin/sh\necho \"$0 $PWD\" >> ~/ran\ntouch '{outside}' 2>/dev/null\n! [ -e g ]\n")
        (hooks / name).chmod(0o755)
    product.git("add", "-A")
    product.git(*IDENTITY, "commit", "-qm", "hooks")
    product.git("config", "core.hooksPath", str(hooks))
    ran = product.run(
        "git config core.hooksPath hooks; echo x > f; git add f; git commit -qm own; cp ~/ran seen; echo y > g"
    )
    assert ran.result["problem"] == ""
    assert "hooks/pre-commit /workspace" in product.git("show", "shell/session-1:seen")  # the agent's own commit
    assert product.git("show", "shell/session-1:g") == "y"  # the last commit, to which the hooks would have said no
    assert not outside.exists()
