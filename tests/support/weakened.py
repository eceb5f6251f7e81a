# mypy: disable-error-code="assignment,method-assign,attr-defined"
"""``containai`` with one protection taken away, for tests that must see an attack succeed.

Run as ``python -c 'from tests.support.weakened import main; main()' PROTECTION WORD...`` from the root of the project. Only
tests can: the package itself has no such switch, and reads no variable that could be one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

WEAKENINGS: dict[str, Callable[[], None]] = {}


def main() -> None:
    """Take the protection away that is named first, then run the product."""
    WEAKENINGS[sys.argv.pop(1)]()
    from containai.cli.main import main as containai

    sys.exit(containai(sys.argv[1:]))


def weakening(function: Callable[[], None]) -> Callable[[], None]:
    WEAKENINGS[function.__name__] = function
    return function


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
    from containai.engine import spec_format
    from containai.render import landlock

    rendered = landlock.render_landlock

    def everything(*arguments: Any, **more: Any) -> landlock.LandlockRules:
        rules = rendered(*arguments, **more)
        return replace(rules, scoped=0, paths=(("/", rules.handled_fs),))

    for module in (landlock, spec_format, *_importers("render_landlock")):
        if hasattr(module, "render_landlock"):
            module.render_landlock = everything


@weakening
def the_hosts_tmp() -> None:
    """/tmp is the host's own."""
    from containai.plan import build, filesystem
    from containai.plan.model import MountKind

    planned = filesystem.plan_mounts

    def with_tmp(*arguments: Any) -> Any:
        mounts = planned(*arguments)
        return tuple(
            replace(mount, kind=MountKind.READ_ONLY, source="/tmp") if str(mount.target) == "/tmp" else mount
            for mount in mounts
        )

    build.plan_mounts = with_tmp


def _without(word: str) -> None:
    """Bubblewrap is not told to unshare something, and nobody compares what came of it with the plan."""
    from containai.render import bwrap

    bwrap.ISOLATION = tuple(given for given in bwrap.ISOLATION if given != word)
    _no_drift_check()


def _no_drift_check() -> None:
    from containai.engine import verify

    for module in (verify, *_importers("find_drift")):
        if hasattr(module, "find_drift"):
            module.find_drift = lambda *_: ()


@weakening
def the_hosts_ipc() -> None:
    _without("--unshare-ipc")


@weakening
def open_proxy() -> None:
    """Squid allows whatever proves to come from the session."""
    from containai.egress import squid
    from containai.render import squid as rendered

    render = rendered.render_squid_conf

    def open_to_all(**words: Any) -> str:
        lines = render(**words).splitlines()
        kept = [line for line in lines if not line.startswith(("http_access deny", "http_access allow"))]
        return "\n".join([*kept, "http_access allow all"]) + "\n"

    for module in (squid, *_importers("render_squid_conf")):
        if hasattr(module, "render_squid_conf"):
            module.render_squid_conf = open_to_all


@weakening
def open_quarantine() -> None:
    """The quarantine shows and takes every ref."""
    from containai.git_return import quarantine

    text = quarantine._CONFIG
    for line in ("\thideRefs = refs\n", "\thideRefs = {shown}\n", "\tdenyDeletes = true\n"):
        text = text.replace(line, "")
    quarantine._CONFIG = text


@weakening
def generous_quarantine() -> None:
    """Whoever knows the name of an object is given it."""
    from containai.git_return import quarantine

    text = quarantine._CONFIG
    for name in ("allowTipSHA1InWant", "allowReachableSHA1InWant", "allowAnySHA1InWant"):
        text = text.replace(f"{name} = false", f"{name} = true")
    quarantine._CONFIG = text


@weakening
def unchecked_objects() -> None:
    """The quarantine checks no object that is pushed."""
    from containai.git_return import quarantine

    quarantine._CONFIG = quarantine._CONFIG.replace("fsckObjects = true", "fsckObjects = false")


@weakening
def no_limits() -> None:
    """More of everything than the self-test tries to take."""
    from containai.policy.model import Limits
    from containai.render import containers

    rendered = containers.render_agent
    wide = Limits(cpus=2, memory_bytes=8 << 30, pids_max=30_000, tmpfs_bytes=2 << 30, open_files=400_000)

    def wider(plan: Any, passed: Any) -> Any:
        spec = rendered(plan, passed)
        return replace(spec, limits=wide, mounts=tuple(replace(m, size_bytes=64 * m.size_bytes) for m in spec.mounts))

    for module in _importers("render_agent"):
        module.render_agent = wider


@weakening
def the_launchers_environment() -> None:
    """The agent gets all of it."""
    import os

    from containai.render import containers

    rendered = containers.render_agent

    def leaking(plan: Any, passed: Any) -> Any:
        spec = rendered(plan, passed)
        names = ("SSH_AUTH_SOCK", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY")
        return replace(spec, environment={**os.environ, **dict.fromkeys(names, "/x"), **spec.environment})

    for module in _importers("render_agent"):
        module.render_agent = leaking


@weakening
def a_granted_service() -> None:
    """The user has granted the service that the attacks look for."""
    import json

    target = Path("selftest/targets.json")
    if sys.argv[1] == "run":
        sys.argv[2:2] = ["--allow-local", f"127.0.0.1:{json.loads(target.read_text())['port']}"]


@weakening
def no_refusal_records() -> None:
    """What was refused is not recorded, and the end of a session neither."""
    from containai.audit.writer import EventLog, Kind

    append = EventLog.append

    def without(self: EventLog, kind: Kind, event: str, **fields: Any) -> None:
        if fields.get("verdict") != "deny" and event != "session-end":
            append(self, kind, event, **fields)

    EventLog.append = without


@weakening
def no_exec_records() -> None:
    from containai.audit.writer import EventLog, Kind

    append_all = EventLog.append_all

    def without(self: EventLog, events: Any) -> None:
        append_all(self, [event for event in events if event[0] is not Kind.EXEC])

    EventLog.append_all = without


@weakening
def records_with_secrets() -> None:
    import os

    from containai.audit.writer import EventLog, Kind

    append = EventLog.append

    def leaking(self: EventLog, kind: Kind, event: str, **fields: Any) -> None:
        append(self, kind, event, **fields, leak=[os.environ["SELFTEST_SECRET"], os.environ["SELFTEST_PASSED"]])

    EventLog.append = leaking


@weakening
def no_chain() -> None:
    """Each line stands for itself: hashes that anybody can make."""
    from containai.audit import chain, writer

    link = chain.link
    writer.link = lambda body, _: link(body, chain.GENESIS)


@weakening
def no_statement() -> None:
    from containai.session import returning

    returning.attest_returned = lambda *_: ()


@weakening
def careless_return() -> None:
    """What came home moves main, is checked out, and brings the agent's hooks."""
    from containai.git_return import apply
    from containai.session import returning

    applied = apply.apply_return

    def careless(source: Any, quarantine: Any, *more: Any) -> Any:
        returned = applied(source, quarantine, *more)
        hooks = quarantine.path.parent / "workspace/.git/hooks"
        for hook in hooks.glob("post-checkout"):
            (source.git_dir / "hooks" / hook.name).write_bytes(hook.read_bytes())
        with open(source.git_dir / "config", "a") as config:
            config.write("[core]\n\tfsmonitor = true\n")
        import subprocess

        subprocess.run(["git", "-C", source.toplevel, "update-ref", "refs/heads/main", returned.new], check=True)
        return returned

    returning.apply_return = careless


@weakening
def no_return() -> None:
    """What was left is not committed, and nothing is brought home."""
    from containai.session import returning

    def nothing(plan: Any, *_: Any) -> Any:
        return returning.Brought(branch=plan.branch)

    returning._apply = nothing


@weakening
def finish_without_any_layer() -> None:
    """The script lets git enter repositories, the kernel runs the agent's files, the supervisor denies nothing."""
    _finish_enters()
    _finish_runs_what_it_writes()
    _finish_runs_every_program()


@weakening
def finish_by_the_script_alone() -> None:
    _finish_runs_what_it_writes()
    _finish_runs_every_program()


@weakening
def finish_by_the_kernel_alone() -> None:
    _finish_enters()
    _finish_runs_every_program()


@weakening
def finish_by_the_supervisor_alone() -> None:
    _finish_enters()
    _finish_runs_what_it_writes()


def _finish_enters() -> None:
    from containai.workspace import scripts

    command = scripts._command

    def careless(*words: Any) -> tuple[str, ...]:
        shell, option, text, *rest = command(*words)
        return shell, option, text.replace("set_links_aside() {", "set_links_aside() {\nreturn 0", 1), *rest

    scripts._command = careless


def _finish_runs_what_it_writes() -> None:
    from containai.session import returning

    rendered = returning.render_housekeeping

    def careless(*words: Any, **more: Any) -> Any:
        return replace(rendered(*words, **more), runs_what_it_writes=True)

    returning.render_housekeeping = careless


def _finish_runs_every_program() -> None:
    from containai.supervise.housekeeping import OwnPrograms

    OwnPrograms.decide = lambda *_: 0


def _importers(name: str) -> list[Any]:
    """Modules of the product that have taken a function by name."""
    import importlib
    import pkgutil

    import containai

    found = []
    for module in pkgutil.walk_packages(containai.__path__, "containai."):
        if not module.name.startswith("containai.data.") and not module.name.endswith("__main__"):
            loaded = importlib.import_module(module.name)
            if hasattr(loaded, name):
                found.append(loaded)
    return found
