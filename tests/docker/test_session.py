"""Whole sessions in Docker, through the product, in a kernel with AppArmor."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import docker, execs
from tests.support.product import IDENTITY, Product

pytestmark = [pytest.mark.docker, pytest.mark.needs("docker-engine"), pytest.mark.timeout(400)]

NET = ("--network-proxy", "none")
LONG = 300

LOOK = """
id -u; id -un; cat /proc/self/attr/current; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'
cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '
touch /etc/x 2>/dev/null && echo root-is-writable
ls /var/run/docker.sock /run/docker.sock /host 2>/dev/null
env | grep -c SECRET_OF_MINE
curl -s -o /dev/null -w '%{http_code}\\n' --max-time 20 http://127.0.0.1:$PORT/ --noproxy '*'
curl -sS -o /dev/null -w '%{http_code}\\n' --max-time 120 http://blocked.example/
curl -s -o /dev/null -w '%{http_code}\\n' --max-time 5 --noproxy '*' http://93.184.215.14/
python3 - <<'P'
import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try: s.connect("/run/containai-control"); print("joined")
except OSError as e: print(type(e).__name__)
P
echo work > made; git add made; git commit -qm 'the agent made this'
echo left > left
"""


@contextlib.contextmanager
def web_server() -> Iterator[int]:
    """A service on the host's loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_whole_session(product: Product) -> None:
    """Exec recorded, connections allowed and blocked, guards on, work returned, container gone."""
    with web_server() as port:
        product = Product(
            home=product.home,
            repository=product.repository,
            variables={"SECRET_OF_MINE": "s3cr3t", "PORT": str(port)},
        )
        ran = product.run(
            LOOK, "--engine", "docker", "--env", "SECRET_OF_MINE", "--env", "PORT",
            "--allow-local", f"127.0.0.1:{port}", timeout_s=LONG,
        )  # fmt: skip
    assert ran.status == 0, ran.stderr
    assert ran.printed.splitlines() == [
        "1000",
        "agentuser",
        "containai-agent (enforce)",
        "CapEff:0000000000000000",
        "CapBnd:0000000000000000",
        "NoNewPrivs:1",
        "Seccomp:2",
        "lo",
        "1",
        "204",  # allowed
        "403",  # blocked, by the proxy
        "000",  # past the proxy there is nothing
        "ConnectionRefusedError",
    ], ran.stderr
    assert ran.result["engine"] == "docker"
    assert product.git("show", "shell/session-1:made") == "work"
    assert product.git("show", "shell/session-1:left") == "left"
    assert ["git", "commit", "-qm", "the agent made this"] in execs(product, ran)
    network = product.events(ran, "network")
    assert [(e["host"], e["verdict"]) for e in network if e["event"] == "local-service"] == [("127.0.0.1", "allow")]
    assert [(e["host"], e["verdict"]) for e in network if e["host"] == "blocked.example"] == [
        ("blocked.example", "deny")
    ]
    assert "s3cr3t" not in Path(ran.result["event_log"]).read_text()


def running(product: Product, kind: str = "agent", timeout_s: float = 120) -> str:
    """The id of the container of a session, once it runs."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = docker("ps", "-q", "--filter", f"label=containai.type={kind}").stdout.decode().split()
        if found:
            return found[0]
        time.sleep(0.2)
    raise AssertionError("no container came")


def wait_for_file(product: Product, name: str, timeout_s: float = 120) -> Path:
    """A file of the agent's, in its workspace on the host."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for path in product.sessions.glob(f"*/workspace/{name}"):
            return path
        time.sleep(0.2)
    raise AssertionError(f"the agent made no {name}")


def events_of(product: Product) -> list[dict[str, object]]:
    (path,) = product.sessions.glob("*/events.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def end(child: subprocess.Popen[bytes]) -> None:
    """End a launcher that did not end by itself, and its pipes."""
    if child.poll() is None:
        child.kill()
    child.communicate()


def test_rules_hold_and_a_mount_without_execution_is_the_kernels_denial(product: Product) -> None:
    place = product.home / ".config/containai"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.toml").write_text(
        '[[exec.rules]]\nname = "no-force"\nprogram = "git"\narguments = ["push", "--force"]\n'
    )
    script = (
        "cp /bin/true /run/prog; /run/prog there 2>/dev/null; cp /bin/true /tmp/prog; /tmp/prog here\n"
        "git push --force local HEAD 2>/dev/null; git --version; true"
    )
    ran = product.run(script, *NET, "--engine", "docker")
    found = {event["argv"][-1]: event for event in product.events(ran, "exec") if event["argv"]}
    for word, who in (("there", ("kernel", "noexec")), ("HEAD", ("supervisor", None))):
        assert found[word]["verdict"] == "deny"
        assert (found[word]["denied_by"], found[word].get("guard")) == who
    assert found["here"]["verdict"] == found["--version"]["verdict"] == "allow"


def test_docker_exec_is_recorded_and_what_docker_shows_has_no_secret(product: Product) -> None:
    product = Product(
        home=product.home, repository=product.repository, variables={"SECRET_OF_MINE": "s3cr3t"}
    )  # fmt: skip
    child = product.start(
        "touch started; while [ ! -e go ]; do sleep 0.2; done", *NET, "--engine", "docker", "--env", "SECRET_OF_MINE"
    )
    try:
        wait_for_file(product, "started")
        container = running(product)
        shown = docker("inspect", container).stdout.decode()
        assert "s3cr3t" not in shown
        assert "SECRET_OF_MINE" not in shown
        found = json.loads(shown)[0]
        assert found["Name"] == "/shell-repo-session-1"
        labels = {
            k: v
            for k, v in found["Config"]["Labels"].items()
            if k.startswith("containai.") and k != "containai.session"
        }
        assert labels == {
            "containai.type": "agent",
            "containai.agent": "shell",
            "containai.repo": "repo",
            "containai.branch": "shell/session-1",
        }
        done = docker("exec", container, "cat", "/proc/self/attr/current", "/proc/self/status")
        assert done.stdout.startswith(b"containai-agent (enforce)")
        assert b"NoNewPrivs:\t1" in done.stdout
        assert docker("exec", container, "sh", "-c", "echo deeper | cat; echo visited > was").stdout == b"deeper\n"
        docker("exec", container, "touch", "go", check=False)  # the agent's end ends it too
        child.wait(LONG)
    finally:
        end(child)
    assert child.returncode == 0
    recorded = [event["argv"] for event in events_of(product) if event["kind"] == "exec"]
    assert ["cat", "/proc/self/attr/current", "/proc/self/status"] in recorded
    assert ["sh", "-c", "echo deeper | cat; echo visited > was"] in recorded
    assert product.git("show", "shell/session-1:was") == "visited"


def test_a_killed_launcher_takes_the_container_along_and_the_work_is_recovered(product: Product) -> None:
    child = product.start(
        "echo kept > kept; git add kept; git commit -qm kept; touch started; sleep 1000", *NET, "--engine", "docker"
    )
    wait_for_file(product, "started")
    container = running(product)
    first = int(json.loads(docker("inspect", container).stdout)[0]["State"]["Pid"])
    end(child)
    deadline = time.monotonic() + 60
    while os.path.exists(f"/proc/{first}") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not os.path.exists(f"/proc/{first}")
    late = docker("exec", container, "true", check=False)
    assert late.returncode != 0
    recovered = product.command("recover", "--json", timeout_s=LONG)
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", "shell/session-1:kept") == "kept"


@pytest.mark.parametrize(
    ("kind", "script", "until"), [("agent", "true", "started"), ("finish", "truncate -s 25M large", "returned")]
)
def test_nobody_enters_while_our_own_git_runs(product: Product, kind: str, script: str, until: str) -> None:
    """Before the agent, in its container, and after it, in another: nothing is recorded, docker exec is turned away."""
    if kind == "agent":
        for number in range(2000):  # so that the workspace takes a while
            (product.repository / f"file-{number}").write_text(f"{number}\n")
        product.git("add", "-A")
        product.git(*IDENTITY, "commit", "-q", "-m", "many")
    said = b""
    for _ in range(8):  # a container that ends meanwhile says something else, and has turned nobody away
        child = product.start(script, *NET, "--engine", "docker")
        try:
            container = running(product, kind)
            done = docker("exec", container, "touch", "/workspace/intruder", check=False)
            newest = max(product.sessions.glob("*/events.jsonl"), key=os.path.getctime)
            in_time = until not in [json.loads(line).get("event") for line in newest.read_text().splitlines()]
            child.wait(LONG)
        finally:
            end(child)
        assert child.returncode == 0
        if not in_time:  # the agent had begun, or the end had come
            continue
        assert done.returncode != 0
        said = done.stdout + done.stderr
        if b"function not implemented" in said:
            break
    assert b"function not implemented" in said  # so says the kernel where nobody answers
    assert "intruder" not in product.git("log", "--all", "--name-only", "--format=")


def test_credentials_are_read_only_and_nothing_of_them_stays(product: Product) -> None:
    home = product.home / ".codex"
    home.mkdir(mode=0o700)
    (home / "auth.json").write_text('{"token": "t0ps3cr3t"}\n')
    (home / "auth.json").chmod(0o600)
    script = (
        "cat ~/.codex/auth.json; (echo x > ~/.codex/auth.json) 2>/dev/null && echo changed;"
        " rm -f ~/.codex/auth.json 2>/dev/null; echo mine > ~/.codex/beside && cat ~/.codex/beside"
    )
    ran = product.run(script, *NET, "--engine", "docker", "--agent", "codex", "--image", "containai", timeout_s=LONG)
    assert ran.status == 0, ran.stderr
    assert ran.printed.splitlines() == ['{"token": "t0ps3cr3t"}', "mine"]
    assert (home / "auth.json").read_text() == '{"token": "t0ps3cr3t"}\n'
    for path in product.sessions.rglob("*"):
        if path.is_file():
            assert b"t0ps3cr3t" not in path.read_bytes()


def test_a_daemon_that_stops_and_comes_back_costs_no_work(product: Product) -> None:
    """The daemon takes its containers along; what was committed waits in the session, and recover brings it home."""
    pid = int(Path("/var/run/docker.pid").read_text())
    argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    own_group = Path(
        "/sys/fs/cgroup" + Path(f"/proc/{pid}/cgroup").read_text().strip().partition("::")[2], "cgroup.procs"
    )
    child = product.start(
        "echo kept > kept; git add kept; git commit -qm kept; touch started; sleep 1000", *NET, "--engine", "docker"
    )
    try:
        wait_for_file(product, "started")
        os.kill(pid, signal.SIGTERM)
        child.wait(LONG)
    finally:
        end(child)
        deadline = time.monotonic() + 60
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
            time.sleep(0.2)
        # Where it was: a daemon in the root cgroup cannot limit swap, and would be refused.
        again = ["sh", "-c", 'echo $$ > "$0" && { setsid "$@" >/dev/null 2>&1 & }', str(own_group), *argv]
        subprocess.run(again, stdin=subprocess.DEVNULL, check=True, timeout=60)
        while docker("info", check=False).returncode != 0:
            time.sleep(0.5)
    recovered = product.command("recover", "--json", timeout_s=LONG)
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", "shell/session-1:kept") == "kept"


def test_an_agent_at_a_terminal_has_one_inside(product: Product) -> None:
    """It is the container's own: no descriptor of the user's terminal goes in."""
    printed = bytearray()

    def read(fd: int) -> bytes:
        chunk = os.read(fd, 65536)
        printed.extend(chunk)
        return chunk

    argv = product.argv("run", *NET, "--engine", "docker", "--", "sh", "-c", "tty; stty size >/dev/null && echo sized")
    os.chdir(product.repository)
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(product.environment)
        status = pty.spawn(argv, read)
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert os.waitstatus_to_exitcode(status) == 0, printed.decode(errors="replace")
    lines = printed.decode().replace("\r", "").splitlines()
    assert "/dev/pts/0" in lines
    assert "sized" in lines
