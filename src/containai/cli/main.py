"""``containai``: parse, call, print."""

from __future__ import annotations

import gc
import io
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

from containai.cli.arguments import build_parser
from containai.cli.environ import Surroundings, read_surroundings
from containai.cli.messages import Messages
from containai.cli.output import Console, printable, silence_broken_pipe
from containai.errors import ContainaiError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    _stand_on_firm_ground()
    here = read_surroundings()
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(colour=here.colour, messages=Messages() if words[:1] == ["run"] else None)
    try:
        return _told(words, here, console)
    finally:
        console.finish()


def _told(words: list[str], here: Surroundings, console: Console) -> int:
    """The exit status; an error has been told."""
    try:
        return _dispatch(words, here, console)
    except ContainaiError as error:
        if here.debug:
            raise
        console.error(error)
        return _status_of(error, words)
    except BrokenPipeError:
        silence_broken_pipe()
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if here.debug:
            raise
        unexpected = ContainaiError(
            "something went wrong inside ContainAI",
            details=f"{type(error).__name__}: {error}",
            remedy=["run again with CONTAINAI_DEBUG=1 and report what it prints"],
        )
        console.error(unexpected)
        return _status_of(unexpected, words)


# Command -> (module of this room, function).
_COMMANDS = {
    "doctor": ("doctor", "main"),
    "list": ("sessions", "list_main"),
    "log": ("log", "main"),
    "recover": ("recover", "main"),
    "review": ("review", "main"),
    "merge": ("decision", "merge_main"),
    "drop": ("decision", "drop_main"),
    "remove": ("decision", "remove_main"),
    "provenance": ("provenance", "main"),
    "image": ("image", "main"),
    "selftest": ("selftest", "main"),
    "demo": ("demo", "main"),
}


def _stand_on_firm_ground() -> None:
    """Give a closed standard stream a number again before another file takes it, and keep files our own."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A letter that the user's terminal has no sign for, in a word of an agent's, does not end a log or a list.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    mask = os.umask(0o077)
    os.umask(mask & 0o077)  # a mask that shuts out the owner would shut out git


def _status_of(error: ContainaiError, words: Sequence[str]) -> int:
    """125 tells those who start an agent that none was started; of every other command a failure is 1."""
    failed_before_the_agent = error.exit_status == ContainaiError.exit_status
    return 1 if failed_before_the_agent and words[:1] != ["run"] else error.exit_status


def _dispatch(words: list[str], here: Surroundings, console: Console) -> int:
    # Everything behind the first "--" is the agent's command, whatever it looks like.
    command: tuple[str, ...] | None = None
    if "--" in words:
        split = words.index("--")
        words, command = words[:split], tuple(words[split + 1 :])
    parser = build_parser()
    args, more = parser.parse_known_args(words)
    if more:
        if args.command_name == "run" and command is None and args.agent is None:
            from containai.cli.run import refuse_lost_command

            refuse_lost_command(args, more)
        parser.command(words).error(f"unrecognized arguments: {shlex.join(map(printable, more))}")
    if command is not None and args.command_name != "run":
        raise UsageError("only `run` takes a command behind --", remedy=["containai run -- COMMAND [ARG ...]"])
    if args.command_name == "run":
        gc.disable()  # until the agent runs: a launch leaves next to nothing behind to be collected
        from containai.cli import run

        return run.main(args, command, here, console)
    if args.command_name is not None:
        module, function = _COMMANDS[args.command_name]
        # Loaded by name: no command pays for the others.
        return int(getattr(import_module(f"containai.cli.{module}"), function)(args, here, console))
    if args.version:
        from importlib.metadata import version

        print(f"containai {version('containai')}")
        return 0
    parser.print_help(sys.stderr)
    return UsageError.exit_status


if __name__ == "__main__":
    sys.exit(main())
