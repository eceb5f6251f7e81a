"""Attacks on the kernel: system calls that an agent has no business with."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import signal
import socket
import stat
import struct
import time

from attack import LIBC, Held, LookedAt, Unavailable, apart, attack, buffer, call, in_child

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


def address(held: ctypes.Array) -> int:
    return ctypes.addressof(held)


# BPF_PROG_LOAD of a socket filter: r0 = 0; exit
PROGRAM, LICENCE = buffer(struct.pack("<BBhi", 0xB7, 0, 0, 0), struct.pack("<BBhi", 0x95, 0, 0, 0)), buffer(b"GPL")
LOAD = buffer(struct.pack("<IIQQ", 1, 2, address(PROGRAM), address(LICENCE)), bytes(128))
# The processor clock of this process, without the kernel and a hypervisor: PERF_ATTR_SIZE_VER0
COUNTER = buffer(struct.pack("<IIQQQQQ", 1, 64, 0, 0, 0, 0, 1 << 5 | 1 << 6), bytes(16))

# Each is carried out if nothing forbids it: what fails because of its arguments would show nothing. The exceptions are
# modules, whose content is not one.
PLAIN = {
    "mount": (b"none", b"/tmp", b"tmpfs", 0, 0),
    "fsopen": (b"tmpfs", 0),
    "open_tree": (-100, b"/", 0x8001),
    "chroot": (b"/tmp",),
    "io_uring_setup": (8, buffer(bytes(120))),
    "bpf": (5, LOAD, 120),
    "perf_event_open": (COUNTER, 0, -1, -1, 0),
    "keyctl": (0, -3, 0),
    "add_key": (b"user", b"x", b"y", 1, -3),
    "kexec_load": (0, 0, 0, 0),
    "init_module": (buffer(b"x"), 1, b""),
    "finit_module": (0, b"", 0),
    "reboot": (0xFEE1DEAD, 672274793, 0, 0),
    "sethostname": (b"x", 1),
    "settimeofday": (0, 0),
    "userfaultfd": (1,),
    "name_to_handle_at": (-100, b"/tmp", buffer(struct.pack("<Ii", 120, 0), bytes(120)), buffer(bytes(8)), 0),
    "fanotify_init": (0, 0),
    "memfd_secret": (0,),
    "acct": (0,),
    "quotactl": (0x80000100, 0, 0, 0),
    "iopl": (3,),
    "ioperm": (0, 1, 1),
    "syslog": (3, buffer(bytes(4096)), 4096),
    "personality": (0x0400000,),
}

for name, arguments in PLAIN.items():

    @attack(f"kernel.{name.replace('_', '-')}")
    def _(name=name, arguments=arguments):
        return apart(lambda: call(name, *arguments))


MOVES = {
    "umount2": (b"/tmp", 2),
    "move_mount": (-100, b"/tmp", -100, b"/run", 0),
    "pivot_root": (b"/tmp", b"/tmp"),
}
for name, arguments in MOVES.items():

    @attack(f"kernel.{name.replace('_', '-')}")
    def _(name=name, arguments=arguments):
        def move() -> int:
            LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None)  # they want a mount
            return call(name, *arguments)

        return apart(move)


@attack("kernel.setns")
def _():
    def enter() -> int:
        own = os.open("/proc/self/ns/uts", os.O_RDONLY)
        return call("setns", own, 0)

    return apart(enter)


@attack("kernel.request-key")
def _():
    def ask() -> int:
        with contextlib.suppress(OSError):  # so that there is one
            call("add_key", b"user", b"x", b"y", 1, -3)
        return call("request_key", b"user", b"x", 0, -3)

    return apart(ask)


@attack("kernel.clock-settime")
def _():
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    return apart(lambda: call("clock_settime", 0, buffer(struct.pack("<qq", *divmod(now, 10**9)))))


@attack("kernel.open-by-handle-at")
def _():
    def reach() -> int:
        # The root directory of an ext4 (inode 2, any generation), however deep in it the workspace lies.
        handle = buffer(struct.pack("<IiII", 8, 1, 2, 0))
        return call("open_by_handle_at", os.open("/workspace", os.O_RDONLY), handle, 0)

    return apart(reach)


@attack("kernel.swapon")
def _():
    def add() -> int:
        page = os.sysconf("SC_PAGESIZE")
        header = bytes(1024) + struct.pack("<III", 1, 9, 0)
        path = os.path.abspath("selftest-swap").encode()
        try:
            with open(path, "wb") as file:
                file.write(header.ljust(page - 10, b"\0") + b"SWAPSPACE2" + bytes(9 * page))
            os.chmod(path, 0o600)
            added = call("swapon", path, 0)
            call("swapoff", path)
            return added
        finally:
            os.unlink(path)

    return apart(add)


@attack("kernel.vhangup")
def _():
    def hang_up() -> int:
        os.setsid()
        return call("vhangup")

    return apart(hang_up)


@attack("kernel.second-supervisor")
def _():
    if os.uname().machine != "x86_64":
        raise Unavailable("the number of the system call is that of x86_64")

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    allow = buffer(struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000))
    program = Program(1, address(allow))

    def listen() -> int:
        descriptor = LIBC.syscall(317, 1, 8, ctypes.byref(program))  # SECCOMP_SET_MODE_FILTER, NEW_LISTENER
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


def on_terminal(request: int, argument: bytes, *consoles: str) -> str:
    """An ioctl on a terminal that is this process's own, or on one of the machine's."""
    os.setsid()
    _, terminal = os.openpty()
    fcntl.ioctl(terminal, 0x540E, 0)  # TIOCSCTTY
    places = [terminal]
    for path in consoles:
        with contextlib.suppress(OSError):
            places.append(os.open(path, os.O_RDWR | os.O_NOCTTY))
    looked_at = ""
    for place in places:
        try:
            fcntl.ioctl(place, request, argument)
        except OSError as error:
            # EIO: the kernel itself lets nobody but root type (dev.tty.legacy_tiocsti).
            if error.errno in (errno.EPERM, errno.EACCES, errno.EIO):
                raise
            looked_at = f"the kernel looked at it: {error}"
        else:
            return "the ioctl was carried out"
    raise LookedAt(looked_at)


@attack("kernel.tiocsti")
def _():
    return apart(lambda: on_terminal(0x5412, b"x"))


@attack("kernel.tioclinux")
def _():
    return apart(lambda: on_terminal(0x541C, b"\x06", "/dev/tty0", "/dev/tty1"))  # the state of its shift keys


@attack("kernel.tiocsetd")
def _():
    return apart(lambda: on_terminal(0x5423, bytes(4)))


FAMILIES = {"raw": (2, 3, 1), "packet": (17, 3, 0), "vsock": (40, 1, 0), "alg": (38, 5, 0), "netfilter": (16, 3, 12)}
for label, (family, kind, protocol) in FAMILIES.items():

    @attack(f"kernel.socket-{label}")
    def _(family=family, kind=kind, protocol=protocol):
        with socket.socket(family, kind, protocol):
            return "a socket"


@attack("kernel.device-node")
def _():
    os.mknod("/tmp/selftest-mem", stat.S_IFCHR | 0o600, os.makedev(1, 1))
    os.unlink("/tmp/selftest-mem")
    return "a device node"


@attack("kernel.become-root")
def _():
    def rise() -> tuple[int, int, int]:
        os.setresuid(0, 0, 0)
        return os.getresuid()

    return apart(rise)


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
