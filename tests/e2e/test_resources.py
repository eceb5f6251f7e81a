"""An agent that takes all it can get: it is bounded or ended, its neighbour and the host work meanwhile, the log stays true.

Each has been seen to fail without its bound; where that is not plain, the test says which was taken away, and what came of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from containai.audit.chain import find_break
from containai.egress.relay import MAX_CONNECTIONS
from containai.host.cgroups.layout import read_layout
from tests.support.product import Product

pytestmark = [pytest.mark.slow, pytest.mark.user, pytest.mark.timeout(240), pytest.mark.usefixtures("nothing_left")]

PIDS = 200
MEMORY_MIB = 256
OPEN_FILES = 5000  # Source: tests.support.weak_container, fewer_open_files
ROOT = Path(__file__).resolve().parents[2]
NET = ("--network-proxy", "none")
ATTACK = """
import errno, json, os, socket, sys, threading, time
MIB = 1 << 20
def tell(**facts):  # whole or not at all
    with open("told.new", "w") as file:
        json.dump(facts, file)
    os.rename("told.new", "told")
tell(begun=True)
"""
PAUSE = "\nwhile True: time.sleep(1)\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """What came of an attack.

    Attributes:
        told: The last words of the attack itself.
        most: For each of the test's measures, the most that the host saw.
        events: The log.
    """

    result: dict[str, Any]
    told: dict[str, Any]
    most: dict[str, int]
    events: list[dict[str, Any]] = field(repr=False)


def attack(
    product: Product,
    code: str,
    *options: str,
    until: Callable[[dict[str, Any], dict[str, int]], bool],
    measures: dict[str, Callable[[list[int]], int]] | None = None,
    neighbour_does: str = "echo there > n",
    neighbour_options: tuple[str, ...] = NET,
) -> Attacked:
    """Run an attack; once it bites (``until``), a second session beside it; then end the first and look at all of it."""
    config = product.home / ".config/containai/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f'[limits]\npids = {PIDS}\nmemory = "{MEMORY_MIB}m"\n')
    script = f"echo work > work; git add work; git commit -qm work; exec python3 - <<'END'\n{ATTACK}{code}\nEND\n"
    child = product.start(script, "--name", "attacker", *options)
    try:
        told, most = watch(product, child, measures or {}, until)
        neighbour = product.run(neighbour_does, *neighbour_options)
        assert neighbour.status == 0, neighbour.stderr
        assert product.git("cat-file", "-p", f"{neighbour.result['branch']}:n") == "there"
        the_host_works(product.home / "host")
        assert child.poll() is None, "the attack was over before its neighbour"
        child.terminate()
        said, errors = child.communicate(timeout=90)
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate(timeout=30)
    result = json.loads(said) if said else {}
    assert result, errors.decode(errors="replace")
    assert (result["exit_code"], result["reason"]) == (143, "SIGTERM")
    assert product.git("cat-file", "-p", f"{result['branch']}:work") == "work"
    assert result["kept"] is None
    with open(result["event_log"], "rb") as log:
        assert find_break(log) is None
    events = [json.loads(line) for line in Path(result["event_log"]).read_text().splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"] == "session-end"
    last = product.git("cat-file", "-p", f"{result['branch']}:told")
    return Attacked(result=result, told={**told, **json.loads(last)}, most=most, events=events)


def watch(
    product: Product,
    child: subprocess.Popen[bytes],
    measures: dict[str, Callable[[list[int]], int]],
    until: Callable[[dict[str, Any], dict[str, int]], bool],
) -> tuple[dict[str, Any], dict[str, int]]:
    """Look at the session from the host until the attack bites."""
    most = dict.fromkeys(measures, 0)
    told: dict[str, Any] = {}
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if child.poll() is not None:
            _, errors = child.communicate()
            raise AssertionError(f"the attack ended by itself: {errors.decode(errors='replace')}")
        for file in product.sessions.glob("*/workspace/told"):
            told = json.loads(file.read_text())
            processes = processes_of(file.parents[1].name)
            most = {name: max(most[name], measure(processes)) for name, measure in measures.items()}
        if told and until(told, most):
            return told, most
        time.sleep(0.2)
    raise AssertionError(f"the attack did nothing: {told} {most}")


def the_host_works(place: Path) -> None:
    """What its user needs of it, a bit of each: a process, a file, memory, a connection, notice of a change."""
    code = (
        "import ctypes, mmap, socket, sys, threading\n"
        "open(sys.argv[1], 'wb').write(bytes(mmap.mmap(-1, 1 << 24)))\n"
        "thread = threading.Thread(target=print, args=('works',))\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    socket.create_connection(server.getsockname(), 30).close()\n"
        "    assert ctypes.CDLL(None).inotify_init1(0) >= 0\n"
        "thread.start()\n"
    )
    done = subprocess.run(["python3", "-c", code, place], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"works\n"), done.stderr
    assert place.stat().st_size == 1 << 24
    place.unlink()


def processes_of(session: str) -> list[int]:
    """The processes of a session's agent, by the kernel's own word: its control group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{session}-agent" in (entry / "cgroup").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def resident_mib(processes: list[int]) -> int:
    """The largest of them."""
    sizes = [0]
    for pid in processes:
        try:
            sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20)
        except OSError:
            continue
    return max(sizes)


def test_a_fork_bomb(product: Product) -> None:
    code = """
def bomb():
    while True:
        try:
            if os.fork() == 0: bomb()
        except OSError: time.sleep(0.05)
bomb()
"""
    found = attack(
        product, code, *NET, measures={"processes": len}, until=lambda _, most: most["processes"] > PIDS // 2
    )
    assert found.most["processes"] <= PIDS


def test_memory_that_is_taken_again_and_again(product: Product) -> None:
    code = """
killed = 0
while True:
    pid = os.fork()
    if pid == 0:
        kept = []
        while True: kept.append(b"x" * (8 * MIB))
    killed += os.waitpid(pid, 0)[1] == 9
    tell(killed=killed)
"""
    found = attack(
        product,
        code,
        *NET,
        measures={"mib": resident_mib},
        until=lambda told, most: told.get("killed", 0) > 1 and most["mib"] > 64,
    )
    assert found.most["mib"] <= MEMORY_MIB


def test_a_file_system_in_memory_is_filled(product: Product) -> None:
    code = f"""
with open("/var/tmp/fill", "wb", buffering=0) as file:
    try:
        while True: file.write(b"x" * MIB)
    except OSError as error: tell(filled=os.stat("/var/tmp/fill").st_size // MIB, why=errno.errorcode[error.errno]){PAUSE}
"""
    # Of twice the size it held 128; of none, it ended the session for lack of memory.
    found = attack(product, code, *NET, until=lambda told, _: "filled" in told)
    assert (found.told["filled"], found.told["why"]) == (64, "ENOSPC")  # plan.filesystem: its size


def test_files_in_memory_count_as_memory_and_end_the_session(product: Product) -> None:
    """/tmp may hold more than the session's memory: the kernel then ends what runs, and the work comes home."""
    fill = "git add -A; git commit -qm work; head -c 600000000 /dev/zero > /tmp/fill; stat -c %s /tmp/fill > filled"
    ran = product.run(f"echo work > work; {fill}", "--memory", f"{MEMORY_MIB}m", *NET)
    assert product.git("cat-file", "-p", f"{ran.result['branch']}:work") == "work"
    assert ran.result["kept"] is None
    written = product.git("cat-file", "-p", f"{ran.result['branch']}:filled", check=False)
    assert not written.isdigit() or int(written) < MEMORY_MIB << 20
    assert re.search(rf"killed (a process|\d+ processes) for lack of memory; the limit is {MEMORY_MIB}m", ran.stderr)
    with open(ran.result["event_log"], "rb") as log:
        assert find_break(log) is None
    assert product.events(ran)[-1]["event"] == "session-end"
    after = product.run("echo there > n", *NET)
    assert product.git("cat-file", "-p", f"{after.result['branch']}:n") == "there"


def test_a_flood_of_events_is_recorded_to_the_last_one(product: Product) -> None:
    """As many executions and refused requests as it can make in some seconds: each one that it saw end is in the log."""
    code = f"""
execs = [0]; refused = [0]
end = time.monotonic() + 8
def ask():
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", 3128), 30) as s:
            s.sendall(b"CONNECT flood.example:443 HTTP/1.1\\r\\nHost: flood.example:443\\r\\n\\r\\n")
            if b" 403 " in s.recv(4096): refused[0] += 1
asker = threading.Thread(target=ask); asker.start()
while time.monotonic() < end:
    os.waitpid(os.posix_spawn("/usr/bin/true", ["true", "flood"], {{}}), 0); execs[0] += 1
asker.join()
tell(execs=execs[0], refused=refused[0]){PAUSE}
"""
    options = ("--network-proxy", "restricted")
    found = attack(product, code, *options, until=lambda told, _: "execs" in told)
    execs = sum(event["kind"] == "exec" and event["argv"] == ["true", "flood"] for event in found.events)
    refused = sum(event["kind"] == "network" and event.get("host") == "flood.example" for event in found.events)
    print(found.told)
    assert found.told["execs"] > 100
    assert found.told["refused"] > 20
    assert (execs, refused) == (found.told["execs"], found.told["refused"])


def test_open_files_and_sockets(product: Product) -> None:
    """With a limit below this machine's own, so that it is ours which holds. Without it: 19997 of this machine's 20000."""
    launcher = (sys.executable, "-c", "from tests.support.weakened import main; main()", "fewer_open_files")
    product = replace(product, launcher=launcher, variables={"PYTHONPATH": os.fspath(ROOT)})
    code = f"""
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
def take(make):
    kept = []
    try:
        while len(kept) < 200_000: kept.append(make())
    except OSError as error: return len(kept), errno.errorcode[error.errno], kept
    return len(kept), "", kept
files = take(lambda: os.open("/dev/null", os.O_RDONLY))
for fd in files[2]: os.close(fd)
sockets = take(socket.socket)
for s in sockets[2]: s.close()
tell(files=files[:2], sockets=sockets[:2]){PAUSE}
"""
    found = attack(product, code, *NET, until=lambda told, _: "sockets" in told)
    for what in ("files", "sockets"):
        count, why = found.told[what]
        assert 1000 < count < OPEN_FILES, found.told
        assert why in ("EMFILE", "ENOMEM", "ENOBUFS"), found.told


def test_all_connections_of_its_proxy(product: Product) -> None:
    """The relay holds so many, and closes the others; its neighbour has a proxy of its own, and is answered.

    Without the bound of the relay it held all 1000.
    """
    code = f"""
kept = []
for _ in range(1000):
    s = socket.socket(); s.settimeout(5)
    try: s.connect(("127.0.0.1", 3128)); s.sendall(b"GET http://slow.example/ HTTP/1.1\\r\\nX-Wait: ")
    except OSError: continue
    kept.append(s)
def open_still(s):
    s.setblocking(False)
    try: return s.recv(1) != b""
    except BlockingIOError: return True
    except OSError: return False
time.sleep(1)  # those that are sent away hear of it
tell(held=sum(map(open_still, kept)), tried=len(kept)){PAUSE}
"""
    asks = "test $(curl -s -o /dev/null -w '%{http_connect}' --max-time 60 https://neighbour.example/) = 403 && echo there > n"
    found = attack(
        product, code, "--network-proxy", "restricted", until=lambda told, _: "held" in told,
        neighbour_does=asks, neighbour_options=("--network-proxy", "restricted"),
    )  # fmt: skip
    assert found.told["tried"] > 2 * MAX_CONNECTIONS
    assert 0 < found.told["held"] <= MAX_CONNECTIONS


def test_processors(product: Product) -> None:
    """The kernel's own count: how often it held the group back, and what the group used of what it was given.

    With 64 processors instead of a fifth of one it was never held back.
    """
    code = "for _ in range(16):\n    if os.fork() == 0:\n        while True: pass\ntell(busy=True)\nwhile True: pass\n"
    seen = {"nr_throttled": 0}

    def throttled(processes: list[int]) -> int:
        with contextlib.suppress(OSError):
            seen.update(cpu_periods(processes))
        return seen["nr_throttled"]

    attack(
        product, code, *NET, "--cpu", "0.2", measures={"processes": len, "throttled": throttled},
        until=lambda told, most: "busy" in told and most["processes"] > 16 and most["throttled"] > 20,
    )  # fmt: skip
    assert 0 < seen["used_us"] < 1.5 * seen["nr_periods"] * 20_000, seen  # a fifth of each period of 100 ms


def cpu_periods(processes: list[int]) -> dict[str, int]:
    """The cpu.stat of a session's group, and the time that its processes have had so far."""
    ticks = 0
    for pid in processes:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    layout = read_layout(processes[0])
    found = layout.of("cpu") or layout.unified()
    assert found
    stat = dict(line.split() for line in (found[1] / "cpu.stat").read_text().splitlines())
    counted = {str(name): int(stat[name]) for name in ("nr_periods", "nr_throttled") if name in stat}
    return {**counted, "used_us": ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")}


def test_a_workspace_that_grows_ends_the_session(product: Product) -> None:
    place = product.home / ".config/containai"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.toml").write_text('[limits]\nworkspace = "64m"\n')
    ran = product.run(
        "echo honest > work; git add work; git commit -qm work\n"
        "i=0; while :; do i=$((i + 1)); head -c 4000000 /dev/urandom > fill-$i; sleep 0.02; done",
        "--network-proxy", "none",
    )  # fmt: skip
    assert ran.result["reason"] == "guard", ran.stderr
    assert "the agent filled the disk" in ran.result["problem"]
    assert f"containai: note: ended by a guard: {ran.result['problem']}" in ran.stderr
    assert "was not returned" not in ran.stderr, "what was pushed and left came home"
    assert product.git("show", f"{ran.result['branch']}:work") == "honest"
