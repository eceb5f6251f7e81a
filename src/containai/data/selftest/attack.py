"""What every attack of the self-test uses. Runs inside a session, with the container's own Python and nothing else.

An attack is a function that tries something. If it returns, it got through; if it raises ``OSError`` or ``Held``, it
was stopped; anything else means that it could not be tried. Nothing is taken for held because the attack was broken.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import sys

TARGETS = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "targets.json")))
ATTACKS: dict[str, object] = {}
LIBC = ctypes.CDLL(None, use_errno=True)
PROXY = ("127.0.0.1", 3128)

# Source: arch/x86/entry/syscalls/syscall_64.tbl
_X86_64 = {
    "acct": 163, "add_key": 248, "bpf": 321, "capset": 126, "chroot": 161, "clock_settime": 227, "clone": 56,
    "clone3": 435, "fanotify_init": 300, "finit_module": 313, "fsopen": 430, "init_module": 175, "io_uring_setup": 425,
    "ioperm": 173, "iopl": 172, "kcmp": 312, "kexec_load": 246, "keyctl": 250, "mbind": 237, "memfd_secret": 447,
    "mknodat": 259, "mount": 165, "move_mount": 429, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "open_tree": 428, "perf_event_open": 298, "personality": 135, "pidfd_getfd": 438, "pidfd_open": 434,
    "pivot_root": 155, "process_vm_readv": 310, "process_vm_writev": 311, "ptrace": 101, "quotactl": 179,
    "reboot": 169, "request_key": 249, "seccomp": 317, "sethostname": 170, "setns": 308, "settimeofday": 164,
    "swapoff": 168, "swapon": 167, "syslog": 103, "umount2": 166, "unshare": 272, "userfaultfd": 323, "vhangup": 153,
}  # fmt: skip


class Held(Exception):
    """It was stopped."""


class Unavailable(Exception):
    """It could not be tried here."""


def attack(name: str):
    """Register an attack."""

    def register(function):
        ATTACKS[name] = function
        return function

    return register


def call(name: str, *arguments: object) -> int:
    """A system call. Only a refusal counts: an error about its arguments means that the kernel looked at them."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"the numbers of system calls are known for x86_64, not for {platform.machine()}")
    # As whole words: of a number that ctypes passes on the stack, the upper half would be left to chance.
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return checked(LIBC.syscall(_X86_64[name], *words))


def buffer(*parts: bytes) -> ctypes.Array:
    """Bytes that a system call is given the address of."""
    return ctypes.create_string_buffer(b"".join(parts))


def checked(result: int) -> int:
    """``result``, or what ``errno`` says: refused, or looked at."""
    if result >= 0:
        return result
    code = ctypes.get_errno()
    if code in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        raise OSError(code, os.strerror(code))
    raise LookedAt(f"the kernel looked at it: {errno.errorcode.get(code, code)}")


class LookedAt(Exception):
    """A call that should never have been made was: it failed for a reason of its own. That is no protection."""


NEW_MOUNTS, NEW_NAMES = 0x00020000, 0x04000000
_PRIVATE = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE


class Said(tuple):
    """What came of an attack that a child carried out: outcome and detail."""


def apart(function) -> Said:
    """Carry an attack out in a child, with mounts and a host name of its own where those can be had.

    What gets through must neither change the later attacks nor harm the machine: nobody asked for a proof by damage.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            if LIBC.unshare(NEW_MOUNTS) == 0:
                LIBC.mount(b"none", b"/", None, _PRIVATE, None)
            LIBC.unshare(NEW_NAMES)
            os.write(write, json.dumps(attempt(function)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    return Said(json.loads(told) if told else ("held", f"it was killed: status {os.waitstatus_to_exitcode(status)}"))


def in_child(function) -> int:
    """Run ``function`` in a child; its exit status, or minus its signal."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = function() or 0
        except OSError:
            status = 1
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def attempt(function) -> tuple[str, str]:
    """Carry one attack out: the outcome, and what was answered."""
    try:
        got = function()
    except (OSError, Held) as error:
        code = errno.errorcode.get(getattr(error, "errno", None) or 0, "")
        return "held", code or str(error)
    except LookedAt as error:
        return "broken", str(error)
    except Unavailable as error:
        return "unavailable", str(error)
    except Exception as error:
        return "unavailable", f"the attack itself failed: {type(error).__name__}: {error}"
    return got if isinstance(got, Said) else ("broken", f"got through: {got!r}")


def run_all() -> None:
    """Run every registered attack, and print what came of each as a line of JSON."""
    for name, function in ATTACKS.items():
        say(name, *attempt(function))


def say(name: str, outcome: str, detail: str) -> None:
    """One line; the launcher reads it from the session's output."""
    sys.stdout.write("\n" + json.dumps({"selftest": name, "outcome": outcome, "detail": detail[:300]}) + "\n")
    sys.stdout.flush()
