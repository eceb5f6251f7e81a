"""What is said of the credentials that an agent has, or has not, before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from containai.agents.load import list_agents, load_adapter
from containai.agents.resolve import resolve_files
from containai.plan.request import RunRequest
from containai.policy.model import CredentialMode
from containai.session.decide import Host, _sign_ins

pytestmark = pytest.mark.user


def notes(
    agent: str,
    home: Path,
    exported: tuple[str, ...] = (),
    mode: CredentialMode = CredentialMode.MOUNT,
    **request: tuple[str, ...],
) -> tuple[str, ...]:
    adapter = load_adapter(agent)
    asked = replace(RunRequest(source=home, agent=agent), **request)  # type: ignore[arg-type]
    host = Host(
        home=home, search_path="", state_dir=home, config_file=home / "config.toml", terminal_type="",
        variables={}, exported=frozenset(exported),
    )  # fmt: skip
    return _sign_ins(asked, mode, adapter, resolve_files(adapter, home, mode), host)


def test_a_file_of_the_user_s_is_named(tmp_path: Path) -> None:
    (tmp_path / ".gemini").mkdir()
    (tmp_path / ".gemini/oauth_creds.json").write_text("{}")
    (said,) = notes("gemini", tmp_path, ("GEMINI_API_KEY",))
    assert said == "Gemini CLI can read, not change: /home/agentuser/.gemini/oauth_creds.json (credentials, mode mount)"


def test_an_adapter_s_own_text_is_no_credential(tmp_path: Path) -> None:
    """Gemini's settings.json is one or the other: here it is ours, and writable."""
    assert notes("gemini", tmp_path, passed_variables=("GEMINI_API_KEY",)) == ()


def test_a_variable_that_is_there_and_not_passed_is_named(tmp_path: Path) -> None:
    (said,) = notes("claude", tmp_path, ("CLAUDE_CODE_OAUTH_TOKEN",))
    assert said == (
        "no sign-in of Claude Code was found, and CLAUDE_CODE_OAUTH_TOKEN is not passed: --env CLAUDE_CODE_OAUTH_TOKEN"
    )


@pytest.mark.parametrize("agent", [name for name in list_agents() if load_adapter(name).credential_variables])
def test_an_agent_without_any_sign_in_is_told_how_to_have_one(agent: str, tmp_path: Path) -> None:
    (said,) = notes(agent, tmp_path)
    assert f"--env {load_adapter(agent).credential_variables[0]}" in said


def test_nothing_is_said_where_nothing_is_needed(tmp_path: Path) -> None:
    assert notes("claude", tmp_path, ("ANTHROPIC_API_KEY",), passed_variables=("ANTHROPIC_API_KEY",)) == ()
    assert notes("claude", tmp_path, ("ANTHROPIC_API_KEY",), CredentialMode.NONE) == ()
    assert notes("claude", tmp_path, ("ANTHROPIC_API_KEY",), command=("true",)) == ()
    assert notes("shell", tmp_path) == ()
