"""The real vendor CLIs carry out a task through ``containai run --prompt``, and their work arrives.

The model is a script on this machine's loopback (``--allow-local``); nothing leaves the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from containai.agents.load import list_agents, load_adapter
from tests.fake_model.server import FakeModel
from tests.support.product import IDENTITY
from tests.vendor.cases import CASES, KEY, Case
from tests.vendor.conftest import Person, python

pytestmark = [
    pytest.mark.vendor,
    pytest.mark.needs("npm-registry", "node", "bubblewrap"),
    pytest.mark.timeout(1200),
]

RUN_TIMEOUT_S = 180
CLAUDE_WITH_SETTINGS = next(case for case in CASES if case.label == "claude-key")
# Whatever a shell or an option parser could misread; only a prompt that arrives whole plays the script.
PROMPT = '--version $(id) `id` "quoted" {prompt}\n* the whole task'
MARKER = "* the whole task"
BY_SHELL, BY_TOOL = "made by the shell\n", "# Notes\n\nmade by the file tool\n"


def script(case: Case) -> dict[str, list[dict[str, Any]]]:
    """A shell command, a file, and an attempt to change what the user gave to read."""
    change = "; ".join(
        f"({verb}) 2>/dev/null && echo 'changed by {verb}' >> held.txt"
        for path in case.files
        for verb in (f"echo x >> ~/{_inside(path)}", f"rm ~/{_inside(path)}", f"mv ~/{_inside(path)} ~/moved")
    )
    return {
        MARKER: [
            {"text": "First the shell.", "shell": f"printf '{BY_SHELL.strip()}\\n' > hello.txt; id -u > uid.txt"},
            {"write": {"path": "notes.md", "content": BY_TOOL}},
            {"shell": f'touch held.txt; {change or "true"}; echo "$FROM_SETTINGS" > settings.txt'},
            {"text": "All done, nothing committed."},
        ]
    }


def _inside(path: str) -> str:
    return path.replace(".config/codex/", ".codex/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A session that has ended, and what it left on the host."""

    case: Case
    person: Person
    repository: Path
    model: FakeModel
    result: dict[str, Any]
    said: str
    base: str
    given: dict[str, str]

    def git(self, *words: str) -> str:
        """Git as the person."""
        variables = {"PATH": os.defpath, "GIT_CONFIG_NOSYSTEM": "1"}
        done = self.person.run(["git", *words], cwd=self.repository, variables=variables, timeout_s=30)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind, from the session's log."""
        events = [json.loads(line) for line in Path(self.result["event_log"]).read_text().splitlines()]
        return [event for event in events if event["kind"] == kind]


@pytest.fixture(params=CASES, ids=lambda case: case.label)
def finished(request: pytest.FixtureRequest, npm_prefix: Path, person: Person) -> Iterator[Finished]:
    """``containai run --agent X --prompt ...`` in a fresh repository, to its end."""
    case: Case = request.param
    with FakeModel(script(case), key=KEY) as model:
        repository = person.home.parent / "a repository"
        given = {"README.md": "sample\n", **{f"../home/{path}": text for path, text in case.written(model.url).items()}}
        _write(person, repository, given)
        base = _commit(person, repository)
        variables = case.exported(model.url)
        argv = [python(), "-m", "containai", "run", "--json", "--agent", case.agent, "--prompt", PROMPT]
        argv += ["--network-proxy", "none", "--credentials", "mount", "--timeout", "120"]
        argv += ["--allow-local", f"127.0.0.1:{model.port}"]
        argv += [word for name in variables for word in ("--env", name)]
        path = f"{npm_prefix}/bin:{os.defpath}:/usr/sbin:/sbin"
        done = person.run(
            argv,
            cwd=repository,
            variables={"PATH": path, "PYTHONPATH": str(person.packages), **variables},
            timeout_s=RUN_TIMEOUT_S,
        )
        said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{model.requests}"
        assert done.returncode == 0, said
        yield Finished(
            case=case,
            person=person,
            repository=repository,
            model=model,
            result=json.loads(done.stdout.rstrip("\n").rpartition("\n")[2]),
            said=said,
            base=base,
            given={name: text for name, text in given.items() if name.startswith("../home/")},
        )


def _write(person: Person, repository: Path, files: dict[str, str]) -> None:
    person.run(["mkdir", str(repository)], cwd=person.home, variables={"PATH": os.defpath}, timeout_s=10)
    for name, text in files.items():
        path = Path(os.path.normpath(repository / name))
        words = ["sh", "-c", 'umask 077; mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1"', "sh", str(path), text]
        done = person.run(words, cwd=person.home, variables={"PATH": os.defpath}, timeout_s=10)
        assert done.returncode == 0, done.stderr


def _commit(person: Person, repository: Path) -> str:
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*IDENTITY, "commit", "-q", "-m", "first"]):
        done = person.run(["git", *words], cwd=repository, variables={"PATH": os.defpath}, timeout_s=30)
        assert done.returncode == 0, done.stderr
    words = ["git", "rev-parse", "HEAD"]
    return person.run(words, cwd=repository, variables={"PATH": os.defpath}, timeout_s=30).stdout.strip()


def test_the_cli_s_work_arrives(finished: Finished) -> None:
    """One run is looked at from every side: starting a CLI costs seconds."""
    _check_branch(finished)
    _check_model(finished)
    _check_log(finished)
    _check_credentials(finished)


def _check_branch(finished: Finished) -> None:
    result, git = finished.result, finished.git
    branch = f"{finished.case.agent}/session-1"
    assert (result["branch"], result["pushed"], result["agent"]) == (branch, True, finished.case.agent)
    commits = git("rev-list", "--reverse", f"{finished.base}..{branch}").split()
    assert commits, finished.said
    assert result["commits"] == commits
    changed = git("diff", "--name-status", "--no-renames", finished.base, branch).splitlines()
    expected = [f"A\t{name}" for name in ("held.txt", "hello.txt", "notes.md", "settings.txt", "uid.txt")]
    assert changed == expected, "an agent leaves nothing of its own in the repository"
    assert git("show", f"{branch}:hello.txt") == BY_SHELL
    assert git("show", f"{branch}:notes.md") == BY_TOOL
    assert git("show", f"{branch}:uid.txt") == "1000\n"
    assert git("rev-parse", "main").strip() == finished.base
    assert git("status", "--porcelain", "--ignored") == ""


def _check_model(finished: Finished) -> None:
    seen = finished.model.requests
    assert {request.status for request in seen} <= {200, 426}, seen  # 426: no WebSocket, after which Codex posts
    played = [request for request in seen if request.tool]
    assert len(played) == 3, seen
    assert {request.working_directory for request in played} <= {"/workspace", None}
    assert {request.credential_header for request in played} == {finished.case.credential_header}


def _check_log(finished: Finished) -> None:
    execs = finished.events("exec")
    assert any("made by the shell" in " ".join(event["argv"]) for event in execs), "the tool's command is on the log"
    assert any(event["path"].startswith("/opt/containai/agent/") for event in execs)
    assert all(event["verdict"] for event in execs)
    assert [event for event in finished.events("network") if event["port"] != finished.model.port] == []
    assert any(event["verdict"] for event in finished.events("git"))


def _check_credentials(finished: Finished) -> None:
    assert finished.git("show", f"{finished.result['branch']}:held.txt") == "", (
        "the user's own files were changed inside"
    )
    for name, text in finished.given.items():
        assert Path(os.path.normpath(finished.repository / name)).read_text() == text
    left = [*(finished.person.home / "state").rglob("*"), *finished.repository.rglob("*")]
    holding = [path for path in left if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holding == [], "the key outlives the session"
    assert KEY not in finished.said.partition("[Request")[0]


@pytest.mark.parametrize("finished", [CLAUDE_WITH_SETTINGS], indirect=True, ids=[CLAUDE_WITH_SETTINGS.label])
def test_the_user_s_settings_take_effect(finished: Finished) -> None:
    """Claude Code passes over a settings file whose name /proc/self/fd cannot tell."""
    assert finished.git("show", f"{finished.result['branch']}:settings.txt") == "taken\n"


def test_the_installed_versions_are_the_adapters(npm_prefix: Path) -> None:
    for name in list_agents():
        adapter = load_adapter(name)
        if adapter.package:
            manifest = npm_prefix / "lib/node_modules" / adapter.package / "package.json"
            assert json.loads(manifest.read_text())["version"] == adapter.tested_version
