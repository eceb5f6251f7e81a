"""Every rule of the shipped seccomp filter, executed by the kernel both ways (I3).

The prober (tests/support/seccomp_prober.c) loads the compiled filter and makes each call for real; an older
filter of its own keeps the calls that ours allows from being carried out. `decide` says what has to come.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyseccomp
import pytest

from containai.render.seccomp import Action, Comparison, Condition, Decision, Rule, parse_profile
from scripts.compile_seccomp import YOUNG_CALLS

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "src/containai/_native"
PROFILE = parse_profile((ROOT / "src/containai/data/seccomp-containai-agent.json").read_bytes())
ALLOWED_BY_FILTER = 4000  # the oracle's errno: the prober's source explains it
HIGHEST_CALL = 600
# uretprobe and uprobe: the kernel takes them past every filter, and ends a process that makes them by itself.
# Source: Linux 6.14, kernel/seccomp.c, __secure_computing ("seccomp: passthrough uretprobe systemcall").
BEYOND_ANY_FILTER = {335, 336}
U64 = 2**64 - 1

pytestmark = [pytest.mark.needs("cc"), pytest.mark.user]


def number_of(name: str) -> int:
    return YOUNG_CALLS.get(name) or int(pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, name))


def satisfying(condition: Condition, choice: random.Random) -> list[int]:
    """Arguments that a condition accepts: plain, and with everything set that it does not look at."""
    match condition.comparison:
        case Comparison.EQUAL:
            return [condition.value]
        case Comparison.GREATER:
            return [condition.value + 1, choice.randint(condition.value + 1, U64), U64]
        case Comparison.MASKED_EQUAL:
            others = U64 & ~condition.value
            return [
                condition.value_two,
                condition.value_two | others,
                condition.value_two | choice.getrandbits(64) & others,
            ]


def violating(condition: Condition, choice: random.Random) -> list[int]:
    """Arguments that a condition does not accept: its neighbours, and each of its bits turned."""
    match condition.comparison:
        case Comparison.EQUAL:
            return [(condition.value + d) & U64 for d in (1, -1)] + [
                condition.value ^ 1 << bit for bit in (7, 31, 32, 63)
            ]
        case Comparison.GREATER:
            return [condition.value, 0, choice.randint(0, condition.value)]
        case Comparison.MASKED_EQUAL:
            bits = [bit for bit in range(64) if condition.value >> bit & 1]
            return [condition.value_two ^ 1 << bit for bit in bits] + [condition.value_two ^ condition.value]


def calls_inside(rule: Rule, choice: random.Random) -> Iterator[tuple[int, ...]]:
    """Arguments for which a rule applies."""
    for _ in range(3 if rule.conditions else 1):
        arguments = [choice.getrandbits(64) for _ in range(6)]
        for condition in rule.conditions:
            arguments[condition.index] = choice.choice(satisfying(condition, choice))
        yield tuple(arguments)


def calls_outside(rule: Rule, choice: random.Random) -> Iterator[tuple[int, ...]]:
    """Arguments for which exactly one condition of a rule fails."""
    for broken in rule.conditions:
        for value in violating(broken, choice):
            arguments = [0] * 6
            for condition in rule.conditions:
                arguments[condition.index] = satisfying(condition, choice)[0]
            arguments[broken.index] = value
            yield tuple(arguments)


def expected(decision: Decision) -> int:
    return decision.errno if decision.action is Action.ERRNO else ALLOWED_BY_FILTER


@pytest.fixture(scope="module")
def prober(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("prober") / "prober"
    source = ROOT / "tests/support/seccomp_prober.c"
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-o", program, source], check=True, timeout=60)
    return program


def ask(prober: Path, filter_file: Path, probes: Sequence[tuple[int, tuple[int, ...]]]) -> list[int]:
    packed = b"".join(struct.pack("<7Q", number, *arguments) for number, arguments in probes)
    done = subprocess.run([prober, "filter", filter_file], input=packed, capture_output=True, timeout=60, check=False)
    assert done.returncode == 77, done.stderr
    answers = [answer for (answer,) in struct.iter_unpack("<q", done.stdout)]
    assert len(answers) == len(probes)
    return answers


@pytest.mark.parametrize("rule", PROFILE.rules, ids=lambda rule: f"{rule.names[0]}-{rule.decision.action.name.lower()}")
def test_rule_is_executed_both_ways(rule: Rule, prober: Path) -> None:
    choice = random.Random(rule.comment)
    calls = [
        (name, arguments)
        for name in rule.names
        for arguments in (*calls_inside(rule, choice), *calls_outside(rule, choice))
    ]

    answers = ask(prober, NATIVE / "agent.bpf", [(number_of(name), arguments) for name, arguments in calls])

    wanted = [expected(PROFILE.decide(name, arguments)) for name, arguments in calls]
    assert answers == wanted
    assert PROFILE.decide(*calls[0]) == rule.decision


def test_every_other_call_is_unknown(prober: Path) -> None:
    listed = {number_of(name) for rule in PROFILE.rules for name in rule.names}
    others = [number for number in range(HIGHEST_CALL) if number not in listed | BEYOND_ANY_FILTER]

    answers = ask(prober, NATIVE / "agent.bpf", [(number, (0,) * 6) for number in others])

    assert len(others) > 100
    assert set(answers) == {38}


def test_oracle_without_our_filter_sees_every_call(prober: Path, tmp_path: Path) -> None:
    # The control of all the tests above: with a filter that allows everything, no call is refused.
    allow_all = tmp_path / "allow.bpf"
    allow_all.write_bytes(struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000))
    names = sorted({name for rule in PROFILE.rules for name in rule.names})

    assert set(ask(prober, allow_all, [(number_of(name), (0,) * 6) for name in names])) == {ALLOWED_BY_FILTER}


def test_exec_waits_for_the_supervisor_and_housekeeping_does_not(prober: Path) -> None:
    # Without a listener the kernel answers ENOSYS to a call that is to be notified; with an errno it would say that.
    tried = "import os,sys;os.execv('/bin/true',['true'])"
    status = {
        name: subprocess.run(
            [sys.executable, "-c", _LOAD + tried, NATIVE / name], capture_output=True, timeout=30, check=False
        )
        for name in ("agent.bpf", "housekeeping.bpf")
    }

    assert b"[Errno 38]" in status["agent.bpf"].stderr
    assert status["housekeeping.bpf"].returncode == 0, status["housekeeping.bpf"].stderr


@pytest.mark.parametrize("kind", ["x32", pytest.param("i386", marks=pytest.mark.needs("i386"))])
def test_foreign_architecture_ends_the_process(kind: str, prober: Path) -> None:
    for arguments, status in (
        ([kind], 3),
        (["getpid", NATIVE / "agent.bpf"], 3),
        ([kind, NATIVE / "agent.bpf"], -signal.SIGSYS),
    ):
        done = subprocess.run([prober, *arguments], timeout=30, check=False)
        assert done.returncode == status, arguments


@pytest.mark.needs("legacy-tiocsti")
@pytest.mark.parametrize("request_number", [0x5412, 0x1_0000_5412, 0xFFFF_FFFF_0000_5412], ids=hex)
def test_no_key_is_typed_into_the_terminal(request_number: int) -> None:
    typed = {name: _type_into_terminal(request_number, NATIVE / name if name else None) for name in ("agent.bpf", "")}

    assert typed == {"agent.bpf": b"", "": b"k"}


def test_threads_and_programs_work_under_the_filter() -> None:
    # clone3 is refused: the C library has to take clone, for a thread as for a child.
    script = _LOAD + (
        "import threading,socket,subprocess,multiprocessing\n"
        "done=[]; t=threading.Thread(target=lambda: done.append(1)); t.start(); t.join()\n"
        "a,b=socket.socketpair(); a.send(b'x'); assert b.recv(1)==b'x'\n"
        "s=socket.socket(); s.bind(('127.0.0.1',0)); s.listen(); c=socket.create_connection(s.getsockname())\n"
        "pid=os.fork()\n"
        "if pid==0: os._exit(5)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid,0)[1])==5\n"
        "assert subprocess.run(['/bin/echo','child'],capture_output=True).stdout==b'child\\n'\n"
        "print('worked',done)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, NATIVE / "housekeeping.bpf"], capture_output=True, timeout=30, check=False
    )
    assert done.stdout == b"worked [1]\n", done.stderr


# Loads the filter named by the last argument into the interpreter itself.
_LOAD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
code = open(sys.argv[-1], 'rb').read()
class Prog(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_char_p)]
prog = Prog(len(code) // 8, code)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(prog)) == 0, os.strerror(ctypes.get_errno())
"""


def _type_into_terminal(request_number: int, filter_file: Path | None) -> bytes:
    """Let a child with a terminal of its own try to type a key into it; return what arrives there."""
    master, slave = os.openpty()
    typing = (
        "import ctypes,os,sys\n" + (_LOAD if filter_file else "") + "libc=ctypes.CDLL(None)\n"
        f"libc.ioctl(0, ctypes.c_ulong({request_number}), b'k')\n"
    )
    try:
        subprocess.run(
            [sys.executable, "-c", typing, *([filter_file] if filter_file else [])],
            stdin=slave,
            timeout=30,
            check=True,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, 0x540E, 0),  # TIOCSCTTY
        )
        os.set_blocking(master, False)
        try:
            return os.read(master, 10)  # a typed key is echoed
        except BlockingIOError:
            return b""
    finally:
        os.close(master)
        os.close(slave)
