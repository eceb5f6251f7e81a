"""``containai demo``: a sample repository, a scripted agent, and a readable account of what happened.

Everything goes through ``containai run``. What the account says was stopped is what the host can
see for itself (refs, files, the event log), and beside it the error that the agent got.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from containai.audit.chain import find_break
from containai.audit.reading import read_events
from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_table, printable
from containai.errors import ContainaiError
from containai.host.process import MINIMAL_ENVIRONMENT, run

_TASK = b"make parse() understand 1h30m\n"
_CANARY = "demo-canary: this is no real key"
_TIMEOUT_S = 120.0
_SAID_COLUMNS = 54
_BOOTSTRAP = Path(__file__).resolve().parents[3] / "bootstrap"  # in a checkout
_HOST_OF = {"reach exfil.example": "exfil.example", "reach the cloud's metadata service": "169.254.169.254"}


def main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Run the demo; 1 when anything got through."""
    place = Path(tempfile.mkdtemp(prefix="containai-demo-"))
    try:
        return _Demo(place, here, console, kept=args.keep).play()
    finally:
        if args.keep:
            print(f"\nThe sample repository is kept: {place / 'sample'}")
        else:
            shutil.rmtree(place, ignore_errors=True)


class _Demo:
    def __init__(self, place: Path, here: Surroundings, console: Console, *, kept: bool) -> None:
        self.repository = place / "sample"
        self.key = place / "home" / ".ssh" / "id_ed25519"
        self.here = here
        self.console = console
        self.kept = kept

    def play(self) -> int:
        self._make_sample()
        main_before = self._git("rev-parse", "main")
        with _task_server() as port:
            result, lines = self._run_session(port)
        attempts = [line for line in lines if line["kind"] == "attempt"]
        events = list(read_events(Path(result["event_log"])))
        self._show_work(result, lines)
        through = self._show_attempts(attempts, events)
        through += self._show_host(result, main_before)
        self._show_record(result, events)
        if through:
            print(f"\n{through} of these got through. That is a defect: please report it.")
        return 1 if through or result["exit_code"] != 0 else 0

    def _make_sample(self) -> None:
        sample = resources.files("containai.data.demo") / "sample"
        with resources.as_file(sample) as source:
            shutil.copytree(source, self.repository, ignore=shutil.ignore_patterns("__pycache__"))
        self.key.parent.mkdir(parents=True)
        self.key.write_text(_CANARY)
        (self.repository / ".gitignore").write_text("__pycache__/\n")
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("add", "--all")
        self._git("-c", "user.name=You", "-c", "user.email=you@example.org", "commit", "--quiet", "-m", "Durations")

    def _git(self, *arguments: str) -> str:
        done = run(["git", "-C", self.repository, *arguments], env={**MINIMAL_ENVIRONMENT, "HOME": str(self.here.home)})
        if done.status != 0:
            raise ContainaiError(
                "the sample repository cannot be made",
                code="demo.git",
                details=done.said,
                remedy=["containai doctor", "df -h: is there room in the directory for temporary files?"],
            )
        return done.stdout.decode(errors="replace").rstrip()  # a diffstat begins with a blank

    def _run_session(self, port: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        agent = (resources.files("containai.data.demo") / "agent.py").read_text()
        command = ["/usr/bin/python3", "-c", agent, str(self.key), str(os.getpid()), f"http://127.0.0.1:{port}/task"]
        shown = f"containai run --allow-local 127.0.0.1:{port} -- python3 agent.py"
        self.console.progress(shown)
        done = run(
            [sys.executable, "-m", "containai", "run", str(self.repository), "--json", "--engine", "embedded",
             "--allow-local", f"127.0.0.1:{port}", "--", *command],
            env=self.here.variables,
            timeout_s=_TIMEOUT_S,
        )  # fmt: skip
        said = done.said.splitlines()
        for line in said:
            if not line.startswith("{"):
                # What the session's end advises needs the sample repository, which is gone when the demo is over.
                print(line if self.kept else line.partition("; look: ")[0])
        try:
            return json.loads(done.stdout), [json.loads(line) for line in said if line.startswith("{")]
        except ValueError as error:
            sys.stdout.flush()  # what the session said stands there, and comes first
            program = _typed(self.here.search_path)
            raise ContainaiError(
                "the session did not end as planned",
                code="demo.session",
                details="what it said stands above",
                remedy=[f"{program} doctor", f"{program} selftest"],
            ) from error

    def _show_work(self, result: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        _title("What the agent made")
        for line in lines:
            if line["kind"] == "work":
                print(f"  {printable(line['did'])}")
        print(f"  returned to your repository as {result['branch']}:\n")
        if result["commits"]:
            print(self._git("diff", "--stat", "--patch", "main", result["branch"]))

    def _show_attempts(self, attempts: list[dict[str, Any]], events: list[dict[str, Any]]) -> int:
        _title("What was stopped, and by what")
        denied = {e.get("host") for e in events if e["kind"] == "network" and e.get("verdict") == "deny"}
        refused = {e.get("ref") for e in events if e["kind"] == "git" and e.get("verdict") == "deny"}
        rows, through = [], 0
        for attempt in attempts:
            held = attempt["stopped"]
            if attempt["wall"] == "Squid":  # the agent's word is not enough where the log can tell
                held = held and _HOST_OF[attempt["name"]] in denied
            if attempt["wall"] == "return server":
                held = held and "refs/heads/main" in refused
            through += not held
            said = _shorten(printable(attempt["said"]))
            rows.append(("stopped" if held else "GOT THROUGH", attempt["name"], attempt["wall"], said))
        print_table(("", "ATTEMPT", "STOPPED BY", "THE AGENT SAW"), rows)
        return through

    def _show_host(self, result: dict[str, Any], main_before: str) -> int:
        _title("Your side, looked at from here")
        hook = self.repository / ".git/hooks/post-checkout"
        planted = self.here.home / "planted-by-the-agent"
        checks = (
            ("main has not moved", self._git("rev-parse", "main") == main_before),
            ("your working tree and index are as they were", self._git("status", "--porcelain") == ""),
            ("the hook that the agent planted did not come back", not hook.exists()),
            ("nothing of your SSH key is in what came back", not self._holds_canary(result)),
            ("nothing was planted in your home", not planted.exists()),
        )
        for text, held in checks:
            print(f"  {'yes' if held else 'NO '}  {text}")
        return sum(not held for _, held in checks)

    def _holds_canary(self, result: dict[str, Any]) -> bool:
        done = run(["git", "-C", self.repository, "grep", "-q", _CANARY, result["branch"]])
        return done.status == 0

    def _show_record(self, result: dict[str, Any], events: list[dict[str, Any]]) -> None:
        _title("The record")
        counts: dict[str, int] = {}
        for event in events:
            counts[event["kind"]] = counts.get(event["kind"], 0) + 1
        with open(result["event_log"], "rb") as log:
            broken = find_break(log)
        print(f"  {', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))} events in one chained log;")
        print(f"  the chain {'holds' if broken is None else f'BREAKS at line {broken.line}'}.")
        program = _typed(self.here.search_path)
        print(f"  Read it: {program} log {result['session']}")
        print(f"  Started in {result['startup_s']} s, over after {result['duration_s']} s.")
        if program != "containai" and _BOOTSTRAP.is_file():
            print(f"\nNext: {shlex.quote(str(_BOOTSTRAP))} install")


def _typed(search_path: str) -> str:
    """How this program is called in the user's shell: by its name only where his PATH leads to it."""
    own = Path(sys.executable).parent / "containai"
    found = shutil.which("containai", path=search_path)
    if not own.exists() or (found is not None and own.samefile(found)):
        return "containai"
    return shlex.quote(str(own))


def _shorten(text: str) -> str:
    return text if len(text) <= _SAID_COLUMNS else f"{text[: _SAID_COLUMNS - 3]}..."


def _title(text: str) -> None:
    print(f"\n{text}\n{'=' * len(text)}\n")


@contextmanager
def _task_server() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(_TASK)))
            self.end_headers()
            self.wfile.write(_TASK)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
