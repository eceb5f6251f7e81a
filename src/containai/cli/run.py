"""``containai run``: from words to a request, and from an outcome to words."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, printable
from containai.errors import CannotRunError, UsageError
from containai.plan.address import looks_remote, parse_address
from containai.plan.model import PROXY_PORT, RETURN_PORT, SessionPlan
from containai.plan.request import RunRequest
from containai.policy.domains import parse_domains
from containai.policy.model import MIB, CredentialMode, ExecPolicy, LocalService, NetworkMode
from containai.policy.sizes import parse_cpus, parse_size
from containai.session.decide import Host
from containai.session.outcome import Outcome
from containai.session.run import run_session
from containai.session.signals import heeded_signals

_LOCAL = re.compile(r"127\.0\.0\.1:([0-9]{1,5})")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GIT_VARIABLES = ("HOME", "XDG_CONFIG_HOME", "SUDO_UID")  # what git's ownership rules read
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# Variables that decide how programs are loaded, or that the session sets itself.
_RESERVED = re.compile(r"LD_.*|GLIBC_TUNABLES|HOME|PATH|USER|LOGNAME|(https?|all|no)_proxy|CONTAINAI_.*", re.IGNORECASE)

_MOST_HOSTS, _LONGEST_HOST = 5, 100


def main(args: argparse.Namespace, command: tuple[str, ...] | None, here: Surroundings, console: Console) -> int:
    """Run a session; the agent's exit status."""
    request = build_request(args, command)
    host = Host(
        home=here.home,
        search_path=here.search_path,
        state_dir=here.state_dir,
        config_file=here.config_file,
        terminal_type=here.terminal_type,
        docker_host=here.docker_host,
        exported=frozenset(name for name, value in here.variables.items() if value),
        # A remote repository is fetched by the user's own git, whose helpers may need any of his variables.
        variables={k: v for k, v in here.variables.items() if request.address is not None or k in _GIT_VARIABLES},
    )
    if request.address is not None:
        console.progress(f"fetching {request.address.url}")
    outcome = run_session(
        request, host, here.values_of(request.passed_variables), _Voice(console, wants_stdout=args.json)
    )
    _tell(outcome, console)
    if args.json:
        with heeded_signals():  # the session is settled: the result waits for its reader, or for a signal
            print_json(outcome.as_json())
            sys.stdout.flush()
    return outcome.exit_code


def _check_command(args: argparse.Namespace, command: tuple[str, ...] | None) -> None:
    if command == ():
        raise UsageError("a command is expected behind --", remedy=["containai run -- COMMAND [ARG ...]"])
    if command is not None and not command[0]:
        raise UsageError("the command behind -- has no name", remedy=["containai run -- COMMAND [ARG ...]"])
    if command is None and args.agent is None:
        refuse_lost_command(args, [])
        raise UsageError(
            "which agent?",
            code="usage.agent",
            remedy=["containai run --agent claude", "containai run -- COMMAND [ARG ...]"],
        )
    if command is not None and args.prompt is not None:
        raise UsageError(
            "--prompt is for an agent, and does not go with a command",
            remedy=["containai run --agent claude --prompt TEXT", "containai run -- COMMAND [ARG ...]"],
        )


def build_request(args: argparse.Namespace, command: tuple[str, ...] | None) -> RunRequest:
    """Check every word on its own.

    Raises:
        UsageError: One makes no sense, or two contradict each other.
    """
    _check_command(args, command)
    for option, given in (("--branch", args.branch), ("--with-changes", args.with_changes)):
        if args.use_current_branch and given:
            raise UsageError(
                f"--use-current-branch and {option} contradict each other", remedy=["leave one of the two out"]
            )
    if args.timeout is not None and not args.timeout > 0:
        raise UsageError("--timeout: a number of seconds above 0 is expected", remedy=["--timeout 600"])
    if args.name is not None and not _NAME.fullmatch(args.name):
        raise UsageError(
            "--name: letters, digits, '.', '_' and '-' are expected, at most 63", remedy=["--name my-session"]
        )
    address = parse_address(args.source) if looks_remote(args.source) else None
    if address is not None and (args.with_changes or args.include or args.submodules or args.lfs):
        raise UsageError(
            "--with-changes, --include, --submodules and --lfs are for a repository on this machine",
            remedy=["git clone ADDRESS; then: containai run CLONE ..."],
        )
    return RunRequest(
        source=Path(args.source),
        agent=args.agent or "shell",
        command=command or (),
        prompt=args.prompt,
        engine=args.engine,
        image=args.image,
        branch=args.branch,
        name=args.name,
        replace_branch=args.force,
        use_current_branch=args.use_current_branch,
        network=NetworkMode(args.network_proxy) if args.network_proxy else None,
        domains=None if args.squid_domains is None else parse_domains(args.squid_domains),
        local_services=tuple(_local_service(text) for text in dict.fromkeys(args.allow_local)),
        credentials=CredentialMode(args.credentials) if args.credentials else None,
        passed_variables=tuple(_variable(name) for name in dict.fromkeys(args.env)),
        exec_policy=ExecPolicy(args.exec_policy) if args.exec_policy else None,
        cpus=None if args.cpu is None else parse_cpus(args.cpu, what="--cpu"),
        memory_bytes=None if args.memory is None else parse_size(args.memory, what="--memory"),
        timeout_s=args.timeout,
        push=not args.no_push,
        address=address,
        with_changes=args.with_changes,
        included=tuple(dict.fromkeys(args.include)),
        sparse=tuple(dict.fromkeys(args.sparse)),
        with_submodules=args.submodules,
        with_lfs=args.lfs,
    )


def refuse_lost_command(args: argparse.Namespace, more: Sequence[str]) -> None:
    """Name the ``--`` that was forgotten, where the words look like a command.

    Args:
        args: What was read of the command line.
        more: The words of it that have no meaning here.

    Raises:
        UsageError: They look like one.
    """
    if looks_remote(args.source) or (more and more[0].startswith("-") and Path(args.source).is_dir()):
        return
    place, words = ([args.source], more) if Path(args.source).is_dir() else ([], [args.source, *more])
    if not words:
        return
    shown = shlex.join(map(printable, words))
    if not more and "/" in args.source and not Path(args.source).exists():
        raise UsageError(
            f"there is no {printable(args.source)}",
            details="the word after run is the repository, and a command stands behind --",
            remedy=["containai run SOURCE --agent NAME", f"containai run -- {shown}"],
        )
    before = "" if place in ([], ["."]) else f"{shlex.join(place)} "
    raise UsageError(
        "a command stands behind --",
        details="" if place else f"{printable(args.source)!r} was taken as the repository, and is no directory",
        remedy=[f"containai run {printable(before)}-- {shown}"],
    )


def _local_service(text: str) -> LocalService:
    match = _LOCAL.fullmatch(text)
    port = int(match[1]) if match else 0
    if not 0 < port < 65536:
        raise UsageError(
            f"--allow-local {text}: not a service on this host's loopback",
            code="usage.allow-local",
            remedy=["--allow-local 127.0.0.1:PORT"],
        )
    if port in (PROXY_PORT, RETURN_PORT):
        raise UsageError(
            f"--allow-local {text}: the session itself uses that port",
            code="usage.allow-local",
            remedy=["let the service listen on another port"],
        )
    return LocalService(host="127.0.0.1", port=port)


def _variable(name: str) -> str:
    if "=" in name:
        raise UsageError(
            "--env takes a name, never a value",
            code="usage.env",
            details="what stands on a command line can be read by every user of the machine",
            remedy=["export the variable first, then: --env NAME"],
        )
    if not _VARIABLE.fullmatch(name) or _RESERVED.fullmatch(name):
        raise UsageError(
            f"--env {name}: this variable cannot be passed",
            code="usage.env",
            details="the session sets it itself, or it decides how programs are loaded, or it is no name of a variable",
            remedy=["set it inside: containai run -- env NAME=VALUE COMMAND [ARG ...]"],
        )
    return name


class _Voice:
    """Tells the user what the session does (``session.report.Reporter``)."""

    def __init__(self, console: Console, *, wants_stdout: bool) -> None:
        self._console = console
        self.wants_stdout = wants_stdout

    def starting(self, plan: SessionPlan, notes: tuple[str, ...]) -> None:
        """Just before the agent's first instruction."""
        network = plan.policy.network
        engine = f"{plan.engine} ({plan.engine_reason})" if plan.engine_reason else plan.engine
        self._console.progress(
            f"session {plan.session_id} ({plan.name}): engine {engine}, branch {plan.branch}, "
            f"network {network.mode.value}"
        )
        for note in notes:
            self._console.note(printable(note))
        if plan.passed_variables:
            self._console.note(f"the agent can read {', '.join(plan.passed_variables)}")

    def progress(self, text: str) -> None:
        """Something that may take a while."""
        self._console.progress(text)


def _tell(outcome: Outcome, console: Console) -> None:
    if outcome.not_run:
        denied, program = ", ".join(outcome.plan.denied_files), printable(outcome.plan.command[0])
        console.error(
            CannotRunError(
                f"{program} cannot be run",
                exit_status=outcome.exit_code,
                details=outcome.not_run,
                remedy=[f"[exec] deny denies {printable(denied)}"]
                if denied and "EACCES" in outcome.not_run
                else [f"chmod +x {program}, and commit that: the session has what is committed"]
                if "EACCES" in outcome.not_run and "/" in program and not program.startswith("/")
                else ["the container has the host's /usr and the repository; is the program there?"],
            )
        )
    _tell_how_it_ended(outcome, console)
    for note in outcome.notes:
        console.note(printable(note))
    count = len(outcome.commits)
    if outcome.problem:
        what = "what the agent had not pushed" if count else "the work"
        console.note(f"{what} was not returned: {printable(outcome.problem)}")
    if count:
        look = f"containai review {outcome.plan.session_id}"
        console.progress(f"{count} commit{'s' if count > 1 else ''} on {outcome.branch}; look: {look}")
    elif not outcome.problem and outcome.kept is None:
        console.progress("nothing was changed; no branch is left behind")
    if outcome.kept is not None:
        console.note(f"work is kept in session {outcome.plan.session_id}: containai recover {outcome.plan.session_id}")
    if outcome.refused_hosts:
        console.progress(_refused(outcome))


def _tell_how_it_ended(outcome: Outcome, console: Console) -> None:
    if outcome.guard:
        what = "ended by a guard" if outcome.reason == "guard" else "a guard failed after the agent's end"
        console.note(f"{what}: {printable(outcome.guard)}")
    if outcome.reason == "timeout" and outcome.plan.timeout_s is not None:
        console.note(f"the time limit ({outcome.plan.timeout_s:g} s) ended it")
    if outcome.memory_kills:
        count, limit = outcome.memory_kills, outcome.plan.policy.limits.memory_bytes / MIB
        what = "a process" if count == 1 else f"{count} processes"
        console.note(f"the kernel killed {what} for lack of memory; the limit is {limit:g}m")


def _refused(outcome: Outcome) -> str:
    from containai.egress.session import MOST_REFUSED  # the session has loaded it

    hosts = [printable(host)[:_LONGEST_HOST] for host in outcome.refused_hosts]
    count = f"{len(hosts)} host{'s were' if len(hosts) > 1 else ' was'}"
    if len(hosts) >= MOST_REFUSED:
        count = f"{MOST_REFUSED} hosts or more were"
    named = ", ".join(hosts[:_MOST_HOSTS]) + (", ..." if len(hosts) > _MOST_HOSTS else "")
    return f"{count} refused: {named}; look: containai log {outcome.plan.session_id} --kind network"
