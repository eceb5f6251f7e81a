"""Run a command in a throw-away Debian VM whose kernel enforces AppArmor, with this project installed in it.

The first run builds a root file system image with mmdebstrap (as root) and keeps it in a cache; every run boots that image,
lays the present files of the project over it, discards its changes, and exits with the command's exit status. See README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import os
import re
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from tests.vm.vm_docker_disk import docker_disk
from tests.vm.vm_image import (
    CA_BUNDLE,
    GUEST_FILES,
    PROJECT,
    SUITE,
    VmError,
    project_archive,
    registry_settings,
    require,
    vm_image,
)

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
END_MARKER = re.compile(rb"\0vm-exit:(\d{3})\0\Z")
END_LENGTH = len(b"\0vm-exit:000\0")
SHARE_HELP = """a host folder for the VM, at the same path unless VM-FOLDER is given: a copy
(the default), or the live folder, read-only or writable"""
BOOT_ARGS = (
    "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on tsc=reliable no_timer_check cryptomgr.notests"
)


class Share(NamedTuple):
    """A folder of the host that the VM sees: a "copy" of it, or live, "ro" or "rw"."""

    host: str
    guest: str
    mode: str


def write_payload(target: Path, args: argparse.Namespace, copies: list[Share], lives: list[Share]) -> None:
    """Write the tar archive that the VM unpacks over its root file system."""
    owner = 0 if args.user == "root" else 1000
    environment = {**(registry_settings() if args.net else {}), **dict(args.env)}
    assignments = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in environment.items())
    cwd = args.workdir or PROJECT
    settings = {"VM_USER": args.user, "VM_CWD": cwd, "VM_DOCKER": "1" if args.docker or args.images else ""}
    settings["VM_IMAGES"] = "/dev/vdc" if args.images else ""  # the third drive, see boot
    files = {
        "run/vm/env": "".join(f"{k}={shlex.quote(v)}\n" for k, v in settings.items()),
        "run/vm/shares": "".join(f"share{n} {live.mode} {live.guest}\n" for n, live in enumerate(lives)),
        "run/vm/command": f"{assignments}exec {shlex.join(args.command)}\n",
    }
    for name in ("vm-init", "vm-docker"):
        files[f"usr/local/sbin/{name}"] = (GUEST_FILES / name).read_text()

    def adopt(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if any(fnmatch(os.path.basename(member.name), pattern) for pattern in args.exclude):
            return None
        member.uid = member.gid = owner
        member.uname = member.gname = ""
        return member

    target.write_bytes(project_archive(Path.cwd(), within=PROJECT.lstrip("/")))
    with tarfile.open(target, "a", format=tarfile.GNU_FORMAT) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
        ca_bundle = os.environ.get("SSL_CERT_FILE", CA_BUNDLE)
        if os.path.exists(ca_bundle):
            archive.add(os.path.realpath(ca_bundle), CA_BUNDLE.lstrip("/"))
        for copy in copies:
            archive.add(copy.host, copy.guest.lstrip("/"), filter=adopt)


def die_with_parent() -> None:
    """Have the kernel end this child when vm-run dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(stack: contextlib.ExitStack, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a child that is ended when the stack is left."""
    child = subprocess.Popen(command, preexec_fn=die_with_parent, **options)  # noqa: PLW1509  # no thread has been started

    def end() -> None:
        child.kill()
        child.wait()

    stack.callback(end)
    return child


def boot(folder: Path, args: argparse.Namespace, work: Path, stack: contextlib.ExitStack) -> tuple[socket.socket, ...]:
    """Start QEMU; return the sockets on which the command's output arrives."""
    copies = [share for share in args.share if share.mode == "copy"]
    lives = [share for share in args.share if share.mode != "copy"]
    write_payload(work / "payload.tar", args, copies, lives)
    memory = f"{args.memory}M"
    # A nanosecond for each instruction: what else the host does, and what emulating costs, is not measured then.
    counted = ["-icount", "shift=0,sleep=on"] if args.icount else []
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-no-user-config"]
    command += ["-machine", "q35,usb=off,sata=off,smbus=off,hpet=off,memory-backend=mem", "-smp", str(args.cpus)]
    # One thread: QEMU before 8.1 can hang with several, when the kernel patches its code.
    command += ["-accel", "tcg,thread=single", "-cpu", "max,la57=off", "-m", memory, *counted]
    command += ["-object", f"memory-backend-memfd,id=mem,size={memory},share=on"]
    command += [
        "-kernel",
        str(folder / "vmlinuz"),
        "-initrd",
        str(folder / "initrd"),
        "-append",
        f"{BOOT_ARGS} {args.append}",
    ]
    command += ["-serial", f"file:{work}/console.log", "-device", "virtio-serial-pci"]
    disk = "if=virtio,format=raw,cache=unsafe,aio=threads,file="
    command += ["-drive", f"{disk}{folder}/root.ext4,snapshot=on"]
    command += ["-drive", f"{disk}{work}/payload.tar,readonly=on"]
    if args.images:
        command += ["-drive", f"{disk}{docker_disk(args.cache, folder)},snapshot=on"]
    if args.net:
        command += ["-nic", "user,ipv6=off,model=virtio-net-pci"]
    ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
    for number, end in enumerate(theirs, 1):
        command += ["-chardev", f"socket,id=port{number},fd={end.fileno()}"]
        command += ["-device", f"virtserialport,nr={number},chardev=port{number}"]
    for number, live in enumerate(lives):
        require({VIRTIOFSD: "qemu-system-common"})
        path = work / f"share{number}.sock"
        options = ["-o", f"source={live.host}", "-o", "cache=auto", f"--socket-path={path}"]
        log = (work / f"share{number}.log").open("w+")
        daemon = start(stack, [VIRTIOFSD, *options], stderr=log)
        command += ["-chardev", f"socket,id=share{number},path={path},reconnect=0"]
        command += ["-device", f"vhost-user-fs-pci,chardev=share{number},tag=share{number}"]
        while not path.exists():
            if daemon.poll() is not None:
                raise VmError(f"cannot share {live.host}: {Path(log.name).read_text().strip()}")
            time.sleep(0.01)
    start(stack, command, pass_fds=[end.fileno() for end in theirs], stdin=subprocess.DEVNULL)
    for end in theirs:  # so that the streams end when QEMU does
        end.close()
    return ours


def relay(streams: tuple[socket.socket, ...], deadline: float) -> int | None:
    """Copy the command's output through; return its status, None if cut off."""
    status, selector = None, selectors.DefaultSelector()
    for stream, target in zip(streams, (sys.stdout.buffer, sys.stderr.buffer), strict=True):
        selector.register(stream, selectors.EVENT_READ, [target, b""])
    while selector.get_map():
        if time.monotonic() > deadline:
            raise TimeoutError
        for key, _ in selector.select(max(0, deadline - time.monotonic())):
            target, held = key.data
            chunk = os.read(key.fd, 65536)
            data = held + chunk
            end = END_MARKER.search(data)
            if end or not chunk:
                status = int(end[1]) if end else status
                data = data[: end.start()] if end else data
                selector.unregister(key.fileobj)
                keep = len(data)
            else:  # hold back what may be the beginning of the end marker
                keep = data.find(b"\0", max(0, len(data) - END_LENGTH))
                keep = len(data) if keep < 0 else keep
            target.write(data[:keep])
            target.flush()
            key.data[1] = data[keep:]
    return status


def run(args: argparse.Namespace) -> int:
    require({"qemu-system-x86_64": "qemu-system-x86"})
    folder = vm_image(args.cache, args.suite, args.package, args.rebuild)
    if not args.command:
        return 0
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-run-")))
        streams = boot(folder, args, work, stack)
        try:
            status = relay(streams, time.monotonic() + args.timeout)
            problem = "the VM stopped before the command ended" if status is None else ""
        except TimeoutError:
            status, problem = 124, f"the command took more than {args.timeout:g} s"
        console = (work / "console.log").read_text(errors="replace")
        if problem:
            print(f"vm: {problem}; the end of the VM's console:", file=sys.stderr)
            console = "\n".join(console.splitlines()[-20:])
        if problem or args.verbose:
            print(console, file=sys.stderr)
        return 125 if status is None else status


def parse_share(text: str) -> Share:
    host, *rest = text.split(":")
    mode = rest.pop() if rest and rest[-1] in ("copy", "ro", "rw") else "copy"
    host = os.path.realpath(host)
    guest = rest.pop() if rest else host
    if rest or not os.path.isdir(host) or not guest.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text}: not FOLDER[:VM-FOLDER][:copy|ro|rw]")
    return Share(host, guest, mode)


def parse_env(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    return name, value if given else os.environ.get(name, "")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="vm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    cache = os.environ.get("CONTAINAI_VM_CACHE") or Path.home() / ".cache/containai-vm"
    add("--cache", type=Path, default=cache, help="folder of the images (default: %(default)s)")
    add("--suite", default=SUITE, help="the Debian release (default: %(default)s)")
    add("--package", action="append", default=[], help="a further Debian package of the image")
    add("--rebuild", action="store_true", help="build the image anew")
    add(
        "--share",
        action="append",
        type=parse_share,
        default=[],
        metavar="FOLDER[:VM-FOLDER][:copy|ro|rw]",
        help=SHARE_HELP,
    )
    add("--exclude", action="append", default=[], metavar="PATTERN", help="a file name that copies leave out")
    add("--workdir", help="the command's folder in the VM (default: the project's)")
    add("--user", default="root", choices=("root", "user"), help="who runs the command (default: root)")
    add("--env", action="append", type=parse_env, default=[], metavar="NAME[=VALUE]", help="a variable for the command")
    add("--docker", action="store_true", help="start dockerd before the command")
    add("--images", action="store_true", help="the same, with images built here: containai, containai-claude")
    add("--append", default="", metavar="WORDS", help="further words of the kernel's command line")
    add("--icount", action="store_true", help="the VM's clock counts instructions: for measuring on a busy host")
    add("--no-net", dest="net", action="store_false", help="give the VM no network")
    add("--memory", type=int, default=4096, help="MiB of memory (default: %(default)s)")
    add("--cpus", type=int, default=1, help="processors, emulated by one thread (default: %(default)s)")
    add("--timeout", type=float, default=1800, help="seconds until the VM is ended, status 124 (default: %(default)s)")
    add("--verbose", action="store_true", help="print the VM's console at the end")
    add("command", nargs=argparse.REMAINDER, help="the command and its arguments; none: only build the image")
    args = parser.parse_args()
    args.command = args.command[1:] if args.command[:1] == ["--"] else args.command
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(args)
    except VmError as error:
        print(f"vm: {error}", file=sys.stderr)
        return 125
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
