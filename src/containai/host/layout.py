"""Which of the host's places exist: the facts behind the container's file system."""

from __future__ import annotations

import os
from pathlib import Path

from containai.record import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLayout:
    """Parts of the host's file system that exist.

    Attributes:
        links: Top-level symbolic links into /usr, as (path, target).
        trees: Top-level directories of programs and libraries that are no links.
        etc: Existing paths of the /etc allow-list.
        masked: Existing files of /proc that tell about the host.
        cpu_info: Whether the kernel's list of processors can be shown.
        cpus: Processors that this process may use.
        memory_bytes: Memory of the host.
    """

    links: tuple[tuple[str, str], ...]
    trees: tuple[str, ...]
    etc: tuple[str, ...]
    masked: tuple[str, ...]
    cpu_info: bool
    cpus: int
    memory_bytes: int


def read_layout(etc_allowed: tuple[str, ...], masked: tuple[str, ...]) -> HostLayout:
    """Look at the host once; about a millisecond."""
    links, trees = [], ["/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(name):
            links.append((name, os.readlink(name)))
        elif os.path.isdir(name):
            trees.append(name)
    return HostLayout(
        links=tuple(links),
        trees=tuple(trees),
        etc=tuple(path for path in etc_allowed if Path(path).exists()),
        masked=tuple(path for path in masked if os.path.isfile(path)),
        cpu_info=os.path.isdir("/sys/devices/system/cpu"),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def layout_of_image(layout: HostLayout) -> HostLayout:
    """The same host for an engine whose images bring programs, libraries and /etc, and which masks /proc itself."""
    return replace(layout, links=(), trees=(), etc=(), masked=(), cpu_info=False)
