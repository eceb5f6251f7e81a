# mypy: disable-error-code="assignment,method-assign,attr-defined"
"""The container's protections, each of which can be taken away."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from tests.support.weakening import replace_everywhere, weakening

Spec = Any


def no_drift_check() -> None:
    """Nobody compares the container with its plan."""
    replace_everywhere("find_drift", lambda *_, **__: ())


def _on_launch(change: Callable[[Any, Spec], tuple[Any, Spec]]) -> None:
    """The agent's container is made by another engine or from another specification; those of our own git stay as they are."""
    from containai.engine.embedded.engine import EmbeddedEngine

    launch = EmbeddedEngine._launch

    def launched(self: Any, spec: Spec, *rest: Any) -> Any:
        return launch(*(change(self, spec) if spec.label == "agent" else (self, spec)), *rest)

    EmbeddedEngine._launch = launched


def _on_agent(change: Callable[[Spec], Spec]) -> None:
    """Another specification."""
    _on_launch(lambda engine, spec: (engine, change(spec)))


def with_tools(**others: Any) -> None:
    """Other programs."""
    _on_launch(lambda engine, spec: (type(engine)(replace(engine._tools, **others)), spec))


def with_bubblewrap(change: Callable[[list[str]], list[str]]) -> None:
    """Bubblewrap is told something else about the agent's container."""
    from containai.engine.embedded import engine

    render = engine.render_bwrap

    def rendered(spec: Spec, **words: Any) -> list[str]:
        arguments = render(spec, **words)
        return change(arguments) if spec.label == "agent" else arguments

    engine.render_bwrap = rendered
    no_drift_check()


def _targets() -> dict[str, Any]:
    """What the self-test's programs aim at; the launcher is started in its repository."""
    found: dict[str, Any] = json.loads(Path("selftest/targets.json").read_text())
    return found


@weakening
def unguarded() -> None:
    """The first process puts no guard on: AppArmor, no_new_privs, Landlock, seccomp; and nobody is told of execs."""
    with_tools(shim=Path(os.environ["UNGUARDED"]))
    no_drift_check()


@weakening
def every_capability() -> None:
    """Root inside, with all Linux capabilities of the container's namespaces, which may be followed by others.

    Nothing of that is worth anything outside: there it is the session's own user.
    """

    def keep(arguments: list[str]) -> list[str]:
        place = arguments.index("--cap-drop")
        kept = [*arguments[:place], "--cap-add", "ALL", *arguments[place + 2 :]]
        kept = ["0" if before in ("--uid", "--gid") else word for before, word in zip(["", *kept], kept, strict=False)]
        return [word for word in kept if word != "--disable-userns"]

    with_bubblewrap(keep)


@weakening
def no_seccomp() -> None:
    """A filter that allows everything, and still delivers execs."""
    import os

    import pyseccomp

    from containai.session import engines

    pyseccomp.set_api(5)
    made = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    made.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.ALLOW)
    for name in ("execve", "execveat"):
        made.add_rule(pyseccomp.NOTIFY, name)
    where = Path("/proc/self/fd")
    fd = os.memfd_create("filter")
    with os.fdopen(os.dup(fd), "wb") as file:
        made.export_bpf(file)
    native = engines.native_file
    engines.native_file = lambda name: where / str(fd) if name == "agent.bpf" else native(name)
    with open(where / str(fd), "rb") as file:
        content = file.read()
    read = Path.read_bytes
    Path.read_bytes = lambda self: content if self == where / str(fd) else read(self)


@weakening
def no_landlock() -> None:
    """Rules that allow everything below the root."""
    from containai.render import landlock

    rendered = landlock.render_landlock

    def everything(*arguments: Any, **named: Any) -> landlock.LandlockRules:
        rules = rendered(*arguments, **named)
        return replace(rules, scoped=0, paths=(("/", rules.handled_fs),))

    replace_everywhere("render_landlock", everything)


@weakening
def the_hosts_files() -> None:
    """The bait lies where it lies on the host."""
    from containai.plan.model import Mount, MountKind

    def with_bait(spec: Spec) -> Spec:
        place = _targets()["decoy"]
        bait = Mount(kind=MountKind.READ_ONLY, target=PurePosixPath(place), source=place)
        return replace(spec, mounts=(*spec.mounts, bait))

    _on_agent(with_bait)
    no_drift_check()


@weakening
def the_hosts_ipc() -> None:
    """System V memory is the host's."""
    with_bubblewrap(lambda arguments: [word for word in arguments if word != "--unshare-ipc"])


@weakening
def the_launchers_network() -> None:
    """The network is the launcher's, whose names can be asked for; for the session that attacks it."""
    import sys

    from containai.plan import filesystem

    if "--env" not in sys.argv:
        return
    with_bubblewrap(lambda arguments: [word for word in arguments if word != "--unshare-net"])
    filesystem._NSSWITCH = "hosts: dns\n"
    filesystem._RESOLV = Path("/etc/resolv.conf").read_text()


def few_files_of(planned: int) -> int:
    """A limit of open files that is below this machine's own: where nobody may open more anyway, it would not show."""
    return min(planned, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 4)


def few_files() -> None:
    """No weakening: in all these runs the limit is so low that the attack exceeds it where it is not set."""

    def fewer(spec: Spec) -> Spec:
        return replace(spec, limits=replace(spec.limits, open_files=few_files_of(spec.limits.open_files)))

    _change_rendered(fewer)


@weakening
def fewer_open_files() -> None:
    """Not weaker: a limit below the one of the machine that runs the tests, so that it shows."""
    _change_rendered(lambda spec: replace(spec, limits=replace(spec.limits, open_files=5000)))


@weakening
def no_limits() -> None:
    """More of everything than the self-test tries to take."""
    from containai.policy.model import Limits

    wide = Limits(cpus=2, memory_bytes=8 << 30, pids_max=30_000, tmpfs_bytes=2 << 30, open_files=400_000)

    def wider(spec: Spec) -> Spec:
        return replace(spec, limits=wide, mounts=tuple(replace(m, size_bytes=64 * m.size_bytes) for m in spec.mounts))

    _change_rendered(wider)


def _change_rendered(change: Callable[[Spec], Spec]) -> None:
    """Every container is planned otherwise, so that it does not differ from its plan."""
    from containai.render import containers

    rendered = containers.render_agent
    replace_everywhere("render_agent", lambda *given, **named: change(rendered(*given, **named)))


@weakening
def the_launchers_environment() -> None:
    """The agent gets all of it, and a proxy that wants a password."""
    names = ("SSH_AUTH_SOCK", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY")
    proxy = {"ALL_PROXY": "http://session:key@127.0.0.1:3128"}

    def leaking(spec: Spec) -> Spec:
        return replace(spec, environment={**os.environ, **dict.fromkeys(names, "/x"), **spec.environment, **proxy})

    _on_agent(leaking)


@weakening
def the_users_password() -> None:
    """Git's saved password is in the agent's home."""
    from containai.plan.model import HOME, FileOrigin, StagedFile

    files = {
        ".git-credentials": "https://user:password@github.com\n",
        ".gitconfig": "[credential]\n\thelper = store\n",
    }

    def with_password(spec: Spec) -> Spec:
        staged = tuple(
            StagedFile(target=HOME / name, origin=FileOrigin.TEXT, content=text, read_only=False)
            for name, text in files.items()
        )
        return replace(spec, files=(*spec.files, *staged))

    _on_agent(with_password)
    no_drift_check()


@weakening
def no_disk_guard() -> None:
    """An agent that fills the disk is not ended."""
    from containai.session.disk import DiskGuard

    DiskGuard.start = lambda _: None


@weakening
def no_reserve() -> None:
    """Nothing is kept for the end of a session."""
    from containai.session import run

    run.take_reserve = lambda _: None


@weakening
def no_kernel_memory_guard() -> None:
    from containai.session.kernel_memory import KernelMemoryGuard

    KernelMemoryGuard.start = lambda _: None


@weakening
def held_bubblewrap() -> None:
    """Another bubblewrap, which takes nothing away: see ``tests/e2e/test_early_kills.py``."""
    with_tools(bwrap=Path(os.environ["HELD_BWRAP"]))
