"""A root file system from the packages that this machine has installed: an image without any registry.

``python -m tests.docker.rootfs FILE`` writes its archive.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGES = (
    "base-files",
    "bash",
    "ca-certificates",
    "coreutils",
    "curl",
    "dash",
    "findutils",
    "git",
    "grep",
    "hostname",
)
MORE = ("procps", "python3", "sed", "util-linux", "netbase")
_LEFT_OUT = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/usr/share/perl")
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_PLACES = ("dev", "etc", "home/agentuser", "proc", "run", "sys", "tmp", "var/tmp", "workspace", "opt", "srv")


def needed_packages() -> set[str]:
    """The packages with everything that they depend on, as far as it is installed."""
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\t${Pre-Depends}, ${Depends}\n"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    depends = {}
    for line in said.stdout.splitlines():
        name, _, words = line.partition("\t")
        each = [
            part.split()[0].partition(":")[0]
            for words_ in words.split(",")
            for part in words_.split("|")
            if part.split()
        ]
        depends[name] = each
    found: set[str] = set()
    waiting = [*PACKAGES, *MORE]
    while waiting:
        name = waiting.pop()
        if name in depends and name not in found and not name.startswith("perl"):
            found.add(name)
            waiting += depends[name]
    return found


def write_rootfs(target: Path) -> None:
    """Write the archive."""
    listed = subprocess.run(
        ["dpkg-query", "-L", *sorted(needed_packages())], capture_output=True, text=True, timeout=60, check=True
    )
    said = [line for line in listed.stdout.splitlines() if line.startswith("/")]
    with tarfile.open(target, "w") as archive:
        for name, to in _LINKS.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, to
            archive.addfile(link)
        for name in _PLACES:
            place = tarfile.TarInfo(name)
            place.type, place.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(place)
        paths = {os.path.join(os.path.realpath(os.path.dirname(line)), os.path.basename(line)) for line in said}
        paths |= {str(link) for link in Path("/etc/alternatives").iterdir()}
        for path in sorted(paths - {f"/{name}" for name in (*_LINKS, *_PLACES)}):
            if (
                os.path.lexists(path)
                and not path.startswith(_LEFT_OUT)
                and (os.path.islink(path) or not os.path.isdir(path))
            ):
                archive.add(path, path.lstrip("/"), recursive=False, filter=_plain)
        for path in {"/etc/ssl/certs/ca-certificates.crt", "/etc/ld.so.cache"} - paths:
            archive.add(os.path.realpath(path), path.lstrip("/"))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode &= 0o1777  # no setuid files
    return member


if __name__ == "__main__":
    write_rootfs(Path(sys.argv[1]))
