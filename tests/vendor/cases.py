"""How each vendor's CLI is told to talk to a model on this machine, by a user who has set it up that way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

KEY = "sk-containai-test-4f1c9d27"  # what the model wants to see; it must be found nowhere afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One CLI with one way to sign in.

    Attributes:
        variables: What the user exports and names with ``--env``; ``{url}`` and ``{key}`` are filled in.
        files: What he has in his HOME, filled in the same way.
        credential_header: The header in which the model must be sent the key.
    """

    agent: str
    label: str
    credential_header: str
    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def exported(self, url: str) -> dict[str, str]:
        """The variables, filled in."""
        return {name: _filled(text, url) for name, text in self.variables.items()}

    def written(self, url: str) -> dict[str, str]:
        """The files, filled in."""
        return {path: _filled(text, url) for path, text in self.files.items()}


def _filled(text: str, url: str) -> str:
    return text.replace("{url}", url).replace("{key}", KEY)


_CLAUDE_SIGNED_IN = {
    "claudeAiOauth": {
        "accessToken": "{key}",
        "refreshToken": "none",
        "expiresAt": 4102444800000,  # 2100
        "scopes": ["user:inference"],
        "subscriptionType": "max",
    }
}
# Its own sandbox, required by the user: it cannot start in ours, and has to be switched off by the adapter.
_CLAUDE_SETTINGS = {"sandbox": {"enabled": True, "failIfUnavailable": True}, "env": {"FROM_SETTINGS": "taken"}}
_CODEX_PROVIDER = """
model = "gpt-5.4"
model_provider = "fake"
[model_providers.fake]
name = "fake"
base_url = "{url}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
"""
_OPENCODE = {
    "model": "fake/fake-model",
    "small_model": "fake/fake-model",
    "provider": {
        "fake": {
            "npm": "@ai-sdk/openai-compatible",
            "name": "fake",
            "options": {"baseURL": "{url}/v1"},
            "models": {"fake-model": {"name": "Fake"}},
        }
    },
}

CASES = (
    Case(
        agent="claude",
        label="claude-key",
        credential_header="x-api-key",
        variables={"ANTHROPIC_BASE_URL": "{url}", "ANTHROPIC_API_KEY": "{key}"},
        files={".claude/settings.json": json.dumps(_CLAUDE_SETTINGS)},
    ),
    Case(
        agent="claude",
        label="claude-signed-in",
        credential_header="authorization",
        variables={"ANTHROPIC_BASE_URL": "{url}"},
        files={".claude/.credentials.json": json.dumps(_CLAUDE_SIGNED_IN)},
    ),
    Case(
        agent="codex",
        label="codex-signed-in",
        credential_header="authorization",
        files={
            ".codex/auth.json": '{"auth_mode": "apikey", "OPENAI_API_KEY": "{key}"}',
            ".codex/config.toml": 'openai_base_url = "{url}/v1"\n',
        },
    ),
    Case(
        agent="codex",
        label="codex-provider",
        credential_header="authorization",
        variables={"OPENAI_API_KEY": "{key}"},
        files={".config/codex/config.toml": _CODEX_PROVIDER},
    ),
    Case(
        agent="copilot",
        label="copilot",
        credential_header="authorization",
        variables={
            "COPILOT_PROVIDER_BASE_URL": "{url}/v1",
            "COPILOT_PROVIDER_API_KEY": "{key}",
            "COPILOT_PROVIDER_WIRE_API": "responses",
            "COPILOT_MODEL": "gpt-5.4",
            "COPILOT_OFFLINE": "true",
        },
        files={
            # Without firstLaunchAt it wants to add that, and ends without a word where it cannot.
            ".copilot/config.json": '{"firstLaunchAt": "2025-01-01T00:00:00Z", "trustedFolders": ["/elsewhere"]}',
            ".copilot/settings.json": '{"theme": "dim"}',
        },
    ),
    Case(
        agent="gemini",
        label="gemini",
        credential_header="x-goog-api-key",
        variables={"GOOGLE_GEMINI_BASE_URL": "{url}", "GEMINI_API_KEY": "{key}"},
    ),
    Case(
        agent="opencode",
        label="opencode",
        credential_header="authorization",
        files={
            ".local/share/opencode/auth.json": '{"fake": {"type": "api", "key": "{key}"}}',
            ".config/opencode/opencode.json": json.dumps(_OPENCODE),
        },
    ),
)
