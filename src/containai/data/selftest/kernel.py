"""Attacks on the kernel: system calls that an agent has no business with."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import socket
import stat
import struct

from attack import Held, LookedAt, Unavailable, attack, call, in_child

NEW = {
    "user": 0x10000000, "mount": 0x00020000, "pid": 0x20000000, "network": 0x40000000,
    "ipc": 0x08000000, "uts": 0x04000000, "cgroup": 0x02000000,
}  # fmt: skip

for kind, flag in NEW.items():

    @attack(f"kernel.unshare-{kind}")
    def _(flag=flag):
        # In a child: what got through must not change the later attacks.
        status = in_child(lambda: 0 if call("unshare", flag) == 0 else 3)
        return held_if(status == 1, f"a new namespace: status {status}")


def held_if(held: bool, otherwise: str) -> str:
    if held:
        raise Held("EPERM")
    return otherwise


@attack("kernel.clone-user-namespace")
def _():
    def clone() -> int:
        return 0 if call("clone", NEW["user"] | signal.SIGCHLD, 0, 0, 0, 0) >= 0 else 3

    return held_if(in_child(clone) == 1, "a process in a new user namespace")


@attack("kernel.clone3")
def _():
    arguments = struct.pack("<8Q", NEW["user"], 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    buffer = ctypes.create_string_buffer(arguments)
    return held_if(in_child(lambda: 0 if call("clone3", buffer, 64) >= 0 else 3) == 1, "clone3 was carried out")


PLAIN = {
    "mount": (b"none", b"/tmp", b"tmpfs", 0, 0),
    "fsopen": (b"tmpfs", 0),
    "open_tree": (-100, b"/", 1),
    "move_mount": (-100, b"/tmp", -100, b"/run", 0),
    "umount2": (b"/proc", 2),
    "pivot_root": (b"/tmp", b"/tmp"),
    "chroot": (b"/tmp",),
    "setns": (0, 0),
    "io_uring_setup": (8, 0),
    "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0),
    "keyctl": (0, -3, 0),
    "add_key": (b"user", b"x", b"y", 1, -3),
    "request_key": (b"user", b"x", 0, -3),
    "kexec_load": (0, 0, 0, 0),
    "init_module": (0, 0, b""),
    "finit_module": (0, b"", 0),
    "reboot": (0xFEE1DEAD, 672274793, 0, 0),
    "sethostname": (b"x", 1),
    "clock_settime": (0, 0),
    "settimeofday": (0, 0),
    "userfaultfd": (0,),
    "name_to_handle_at": (-100, b"/", 0, 0, 0),
    "open_by_handle_at": (-1, 0, 0),
    "fanotify_init": (0, 0),
    "memfd_secret": (0,),
    "swapon": (b"/tmp/x", 0),
    "acct": (0,),
    "quotactl": (0, 0, 0, 0),
    "iopl": (3,),
    "ioperm": (0, 1, 1),
    "syslog": (2, 0, 0),
    "vhangup": (),
    "personality": (0x0400000,),
}

for name, arguments in PLAIN.items():

    @attack(f"kernel.{name.replace('_', '-')}")
    def _(name=name, arguments=arguments):
        return call(name, *arguments)


@attack("kernel.second-supervisor")
def _():
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    allow = ctypes.create_string_buffer(struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000))
    program = Program(1, ctypes.addressof(allow))
    libc = ctypes.CDLL(None, use_errno=True)

    def listen() -> int:
        descriptor = libc.syscall(317, 1, 8, ctypes.byref(program))  # SECCOMP_SET_MODE_FILTER, NEW_LISTENER
        return 0 if descriptor >= 0 else 1

    return held_if(in_child(listen) == 1, "a second listener for exec notifications")


def machine_code(code: bytes) -> int:
    def run() -> int:
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(code)
        function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
        return 0 if function() > 0 else 1

    return in_child(run)


@attack("kernel.i386-calls")
def _():
    if os.uname().machine != "x86_64":
        raise Unavailable("only x86_64 has them")
    status = machine_code(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")  # getpid by int 0x80
    if status == 0:
        return "a 32-bit system call was carried out"
    raise Held(f"status {status}")


@attack("kernel.x32-calls")
def _():
    if os.uname().machine != "x86_64":
        raise Unavailable("only x86_64 has them")
    status = machine_code(b"\xb8\x27\x00\x00\x40\x0f\x05\xc3")  # getpid with the x32 bit
    if status == 0:
        return "an x32 system call was carried out"
    raise Held(f"status {status}")


for label, request in (("tiocsti", 0x5412), ("tioclinux", 0x541C), ("tiocsetd", 0x5423)):

    @attack(f"kernel.{label}")
    def _(request=request):
        ours, theirs = os.openpty()
        try:
            fcntl.ioctl(theirs, request, b"\x00\x00\x00\x00")
        except PermissionError:
            raise
        except OSError as error:
            raise LookedAt(f"the kernel looked at it: {error}") from error
        finally:
            os.close(ours)
            os.close(theirs)
        return "the ioctl was carried out"


FAMILIES = {"raw": (2, 3, 1), "packet": (17, 3, 0), "vsock": (40, 1, 0), "alg": (38, 5, 0), "netfilter": (16, 3, 12)}
for label, (family, kind, protocol) in FAMILIES.items():

    @attack(f"kernel.socket-{label}")
    def _(family=family, kind=kind, protocol=protocol):
        with socket.socket(family, kind, protocol):
            return "a socket"


@attack("kernel.device-node")
def _():
    os.mknod("/tmp/selftest-mem", stat.S_IFCHR | 0o600, os.makedev(1, 1))
    return "a device node"


@attack("kernel.become-root")
def _():
    os.setuid(0)
    return os.getresuid()


@attack("kernel.capabilities")
def _():
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    held = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")}
    if not any(held.values()):
        raise Held("no Linux capability in any set")
    return held


@attack("kernel.no-new-privileges")
def _():
    value = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0)  # PR_GET_NO_NEW_PRIVS
    if value == 1:
        raise Held("no_new_privs is set")
    return "a set-user-id program could give privileges"
