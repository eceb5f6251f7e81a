"""The real Claude Code CLI, from our image, carries out a task in Docker under AppArmor.

Needs the image (`containai image build claude`). The model is a script on this machine's loopback; nothing leaves it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containai.agents.load import load_adapter
from tests.docker.conftest import docker
from tests.fake_model.server import FakeModel
from tests.support.product import Product
from tests.vendor.cases import CASES, KEY

pytestmark = [
    pytest.mark.docker,
    pytest.mark.vendor,
    pytest.mark.needs("docker-engine", "containai-claude-image"),
    pytest.mark.timeout(900),
]

IMAGE = "containai-claude:latest"
TASK = "* the whole task"
SCRIPT: dict[str, list[dict[str, Any]]] = {
    TASK: [
        {"text": "First the shell.", "shell": "id -u > uid.txt; cat /proc/self/attr/current > confined.txt"},
        {"write": {"path": "notes.md", "content": "# Notes\n"}},
        {"text": "All done, nothing committed."},
    ]
}


def test_claude_code_works_and_its_work_comes_back(product: Product) -> None:
    case = next(case for case in CASES if case.label == "claude-key")
    with FakeModel(SCRIPT, key=KEY) as model:
        for name, text in case.written(model.url).items():
            (product.home / name).parent.mkdir(parents=True, exist_ok=True)
            (product.home / name).write_text(text)
        variables = case.exported(model.url)
        product = replace(product, variables=variables)
        passed = [word for name in variables for word in ("--env", name)]
        options = ("--network-proxy", "none", "--allow-local", f"127.0.0.1:{model.port}", "--timeout", "600")
        ran = product.command(
            "run", "--json", "--engine", "docker", "--agent", "claude", "--prompt", TASK, *options, *passed,
            timeout_s=800,
        )  # fmt: skip
        assert ran.status == 0, ran.stderr
        assert model.requests
    assert product.git("show", "claude/session-1:uid.txt") == "1000"
    assert product.git("show", "claude/session-1:confined.txt") == "containai-agent (enforce)"
    assert product.git("show", "claude/session-1:notes.md") == "# Notes"
    (log,) = product.sessions.glob("*/events.jsonl")
    assert '"path":"/usr/local/bin/claude"' in log.read_text()
    assert KEY not in log.read_text()
    for path in Path(product.sessions).rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_the_image_has_no_setuid_file_and_starts_as_agentuser() -> None:
    config = json.loads(docker("image", "inspect", IMAGE).stdout)[0]["Config"]
    assert config["User"] == "1000:1000"
    assert not any(config.get(name) for name in ("Entrypoint", "Volumes", "Healthcheck", "ExposedPorts"))
    assert [word.partition("=")[0] for word in config["Env"]] == ["PATH"]

    def inside(script: str, *options: str) -> list[str]:
        words = ("run", "--rm", "--network", "none", *options, "--entrypoint", "sh", IMAGE, "-c", script)
        return docker(*words).stdout.decode().splitlines()

    assert inside("id -u; id -un; claude --version") == [
        "1000",
        "agentuser",
        f"{load_adapter('claude').tested_version} (Claude Code)",
    ]
    *marked, count = inside("find / -xdev -type f -perm /6000; find / -xdev -type f | wc -l", "--user", "0")
    assert marked == []
    assert int(count) > 10_000
