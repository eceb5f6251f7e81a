"""The file system image of the test VM: built once, kept in a cache."""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import io
import lzma
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SUITE = "trixie"  # Docker 26.1, Podman 5.4, kernel 6.12, AppArmor 4.1; bookworm: 20.10, 6.1 and 3.0
PACKAGES = (
    "apparmor apparmor-utils bubblewrap busybox-static ca-certificates curl docker.io gcc git iproute2 iptables "
    "kmod libc6-dev mount procps python3 python3-pip python3-venv squid-openssl util-linux"
)
SUITE_PACKAGES = {"trixie": ["docker-cli", "podman", "crun", "netavark"]}  # in bookworm, docker.io has the first
KERNEL_PACKAGE = "linux-image-cloud-amd64"
IMAGE_SIZE = "16G"  # sparse: an upper bound, not what the image takes up
GUEST_FILES = Path(__file__).resolve().parent / "guest"
PROJECT = "/containai"  # where the project is in the VM
GUEST_HOST = "10.0.2.2"  # this machine, seen from QEMU's user network
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# What decides how the project is installed; all else is laid over the image at each boot.
INSTALLED = ("pyproject.toml", "setup.py", "constraints.txt", "bootstrap", "scripts/compile_seccomp.py", "native",
             "src/containai/render/seccomp.py", "src/containai/data/seccomp-containai-agent.json")  # fmt: skip


class VmError(Exception):
    """The VM could not be built or run."""


def require(packages: dict[str, str]) -> None:
    """Fail unless every program in PROGRAM: APT-PACKAGE is installed."""
    missing = sorted({p for program, p in packages.items() if not shutil.which(program)})
    if missing:
        raise VmError(f"missing programs; install them with: apt-get install {' '.join(missing)}")


def image_key(suite: str, packages: list[str]) -> str:
    """Name the image after all that decides what is in it."""
    digest = hashlib.sha256(f"{suite} {KERNEL_PACKAGE} {IMAGE_SIZE} {sorted(packages)}".encode())
    for name in ("customize-image", "initramfs-init"):
        digest.update((GUEST_FILES / name).read_bytes())
    digest.update(project_archive(Path.cwd(), within="", only=INSTALLED))
    return digest.hexdigest()[:12]


def vm_image(cache: Path, suite: str, further_packages: list[str], rebuild: bool) -> Path:
    """Return the folder of vmlinuz, initrd and root.ext4, built if need be."""
    packages = [*PACKAGES.split(), *SUITE_PACKAGES.get(suite, []), *further_packages]
    folder = cache / f"image-{image_key(suite, packages)}"
    if folder.exists() and not rebuild:
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building it
        if rebuild:
            shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as work:
                build(Path(work), suite, packages)
                (Path(work) / "image").rename(folder)
    return folder


def build(work: Path, suite: str, packages: list[str]) -> None:
    """Build the image in work/image."""
    require({"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"})
    if os.geteuid() != 0:
        raise VmError("building the image needs root (running it does not)")
    started = time.monotonic()
    print("vm: building the image (once, some minutes)", file=sys.stderr)
    root, target, log = work / "root", work / "image", work / "log"
    target.mkdir()
    command = ["mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "man", "locale")]
    command += ["--dpkgopt=force-unsafe-io", f"--customize-hook={GUEST_FILES}/customize-image"]
    command += [f"--aptopt={option}" for option in apt_options()]
    command += [suite, str(root), *apt_sources(work, suite)]
    run_logged(command, log, "mmdebstrap failed", os.environ | {"KERNEL_PACKAGE": KERNEL_PACKAGE})
    install_project(root, log)
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    shutil.copy(kernel, target / "vmlinuz")
    write_initramfs(root, target / "initrd")
    write_ext4(root, target / "root.ext4", IMAGE_SIZE)
    print(f"vm: image built in {time.monotonic() - started:.0f} s", file=sys.stderr)


def run_logged(
    command: Sequence[str | Path], log: Path, failure: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command whose output is of interest only if it fails."""
    with log.open("wb") as output:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise VmError(f"{failure}:\n{tail}")


def write_ext4(folder: Path, target: Path, size: str) -> None:
    """A file system with the content of a folder; without a journal and checksums, as every run reads it afresh."""
    options = ["-O", "^has_journal,^metadata_csum", "-E", "root_owner=0:0"]
    subprocess.run(["mke2fs", "-qF", "-t", "ext4", *options, "-d", folder, target, size], check=True)


def project_archive(top: Path, *, within: str, only: tuple[str, ...] = ()) -> bytes:
    """The project's files as they are now, but for what git ignores, as a tar archive."""
    listing = subprocess.run(
        ["git", "-C", top, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *only],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    names = [name for name in os.fsdecode(listing).split("\0") if name and os.path.lexists(top / name)]
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(set(names)):
            archive.add(top / name, os.path.join(within, name), recursive=False, filter=_without_owner)
    return target.getvalue()


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def install_project(root: Path, log: Path) -> None:
    """Install the project into the image, at this machine's speed: pip is slow where the processor is emulated."""
    place = root / PROJECT.lstrip("/")
    place.mkdir()
    with tarfile.open(fileobj=io.BytesIO(project_archive(Path.cwd(), within=""))) as archive:
        archive.extractall(place, filter="data")
    bundle = Path(os.environ.get("SSL_CERT_FILE", CA_BUNDLE))
    if bundle.exists():
        shutil.copy(bundle, root / CA_BUNDLE.lstrip("/"))
    resolver = root / "etc/resolv.conf"
    of_the_vm = resolver.read_bytes()
    shutil.copy("/etc/resolv.conf", resolver)
    path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    environment = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", **registry_settings(inside=False)}
    command = ["chroot", str(root), "sh", "-c", f"cd {PROJECT} && ./bootstrap test --collect-only -q tests/unit/host"]
    run_logged(command, log, "the project cannot be installed", environment)
    resolver.write_bytes(of_the_vm)


def registry_settings(*, inside: bool = True) -> dict[str, str]:
    """This machine's pip settings and proxies, as far as they hold in the VM."""
    config = configparser.RawConfigParser()
    config.read(["/etc/pip.conf", Path.home() / ".pip/pip.conf", Path.home() / ".config/pip/pip.conf"])
    settings = {
        "PIP_" + option.upper().replace("-", "_"): value
        for section in config.sections()
        for option, value in config.items(section)
    }
    settings |= {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    for name, value in list(settings.items()):
        # Folders of this machine are not in the VM, unless shared and named by --env.
        kept = [word for word in value.split() if not re.match(r"(file://|[/~.])", word)]
        settings[name] = " ".join(kept)
    proxies = [name for name in os.environ if re.fullmatch(r"(https?|no|all)_proxy", name, re.IGNORECASE)]
    local = re.compile(r"(?<=//)(localhost|127\.0\.0\.1)(?=[:/]|$)")
    settings |= {name: local.sub(GUEST_HOST, os.environ[name]) if inside else os.environ[name] for name in proxies}
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        settings[name] = CA_BUNDLE
    return {name: value for name, value in settings.items() if value}


def apt_sources(work: Path, suite: str) -> list[str]:
    """Copies of this machine's own Debian source files, renamed to the suite; none: mmdebstrap's default."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME", suite)
    copies = []
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.is_file() and re.search(rf"^[^#]*\s{own}\s", path.read_text(), re.MULTILINE):
            copies.append(work / path.name)
            copies[-1].write_text(re.sub(rf"\b{own}\b", suite, path.read_text()))
    return [str(path) for path in copies]


def apt_options() -> list[str]:
    """This machine's own apt settings that decide how packages are fetched."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    wanted = re.compile(r'Acquire::(https?::.*|Check-Valid-Until|Check-Date|Retries) ".+";')
    return [line for line in dump.splitlines() if wanted.fullmatch(line)]


def write_initramfs(root: Path, target: Path) -> None:
    """Write a cpio archive with busybox and what mounting the root disk takes."""
    (modules,) = (root / "lib/modules").iterdir()
    depends = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    names = {Path(path).name.split(".ko")[0].replace("-", "_"): path for path in depends}
    order: list[str] = []
    for name in sorted(names.keys() & {"virtio_pci", "virtio_blk"}):  # a kernel may have them built in
        for path in [*reversed(depends[names[name]].split()), names[name]]:
            if path not in order:
                order.append(path)
    entries = [(name, 0o040755, b"") for name in ("bin", "dev", "root")]
    entries += [("bin/busybox", 0o100755, (root / "bin/busybox").read_bytes())]
    entries += [("init", 0o100755, (GUEST_FILES / "initramfs-init").read_bytes())]
    entries += [(module_name(path), 0o100644, module(modules / path)) for path in order]
    listing = "".join(f"/{module_name(path)}\n" for path in order)
    entries += [("modules.list", 0o100644, listing.encode()), ("TRAILER!!!", 0, b"")]
    with target.open("wb") as archive:
        for inode, (name, mode, data) in enumerate(entries, 1):
            fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
            header = b"070701" + b"".join(b"%08X" % field for field in fields)
            for part in (header + name.encode() + b"\0", data):
                archive.write(part + b"\0" * (-len(part) % 4))


def module_name(path: str) -> str:
    return Path(path).name.removesuffix(".xz")


def module(path: Path) -> bytes:
    """Return a kernel module, decompressed, as busybox's insmod wants it."""
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
