#!/usr/bin/env python3
"""Fills the generated parts of docs/: the seccomp table, the error page, the checks, the hosts, the command line.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. ``--check`` changes nothing and says
which pages are out of date.
"""

from __future__ import annotations

import argparse
import errno
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from scripts.raised_errors import raised_errors  # noqa: E402

PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def seccomp_table() -> str:
    """Every rule of the seccomp profile."""
    from containai.render.seccomp import parse_profile, render_table

    profile = ROOT / "src/containai/data/seccomp-containai-agent.json"
    return render_table(parse_profile(profile.read_bytes()))


def docker_comparison() -> str:
    """What our profile refuses and Docker's default allows, and the other way round."""
    from containai.render.seccomp import Action
    from tests.support.docker_default import PROFILE, docker_allows

    always, conditional = docker_allows()
    allowed = PROFILE.names(Action.ALLOW) | PROFILE.names(Action.NOTIFY)
    named = {name for rule in PROFILE.rules for name in rule.names}
    lines = ["| calls | answer here | reason |", "| --- | --- | --- |"]
    for rule in PROFILE.rules:
        names = [name for name in rule.names if name in always and not rule.conditions]
        if rule.decision.action is Action.ERRNO and names:
            answer = errno.errorcode[rule.decision.errno]
            lines.append(f"| {_code(names)} | {answer} | {rule.comment} |")
    lines.append(f"| {_code(sorted(always - named))} | {errno.errorcode[PROFILE.default.errno]} | Default deny. |")
    partly = {name for rule in PROFILE.rules if rule.conditions for name in rule.names}
    narrower = sorted(
        partly & allowed & {*always, *conditional} - {"clone", "personality"}
    )  # they are compared by tests
    lines.append(f"| {_code(narrower)} | for some arguments | Devices, the terminal, families: [the rules](#rules). |")
    lines.append("| all of i386 and of x32 | the process ends | They would be a second list of calls to check. |")
    looser = sorted(allowed - always - set(conditional))
    return "\n".join(lines) + f"\n\nAllowed here and refused there: {_code(looser) or 'none'}.\n"


def _code(names: Sequence[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def error_table() -> str:
    """Every error code in the source, with what is said and what helps."""
    lines = ["| code | status | what it says | what to do |", "| --- | --- | --- | --- |"]
    for error in sorted(set(raised_errors(ROOT / "src"))):
        if error.code.startswith("<"):
            continue  # a helper that passes a code on
        cells = (f"`{error.code}`", error.exit_status, error.summary, error.remedy)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def option_tables() -> str:
    """Every command with its arguments, from the parser itself."""
    from containai.cli.arguments import build_parser

    parser = build_parser()
    return "\n".join(_command_lines(parser, "###"))


def _command_lines(parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    for group in parser._actions:
        if not isinstance(group, argparse._SubParsersAction):
            continue
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, command in group.choices.items():
            yield from (f"{heading} {command.prog}", "", f"{helps[name][:1].upper()}{helps[name][1:]}.", "")
            options = [_option_line(action, command) for action in command._actions if action.help]
            yield from ("| argument | meaning |", "| --- | --- |", *options, "")
            yield from _command_lines(command, f"{heading}#")


def _option_line(action: argparse.Action, command: argparse.ArgumentParser) -> str:
    shown = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    if not action.option_strings:
        names = f"`{shown}`"
    elif action.nargs == 0:
        names = ", ".join(f"`{option}`" for option in action.option_strings)
    elif action.nargs == "?":
        names = ", ".join(f"`{option} [{shown}]`" for option in action.option_strings)
    else:
        names = ", ".join(f"`{option} {shown}`" for option in action.option_strings)
    text = (action.help or "") % {"prog": command.prog, "default": action.default}
    return f"| {_cell(names)} | {_cell(text)} |"


def _cell(text: str) -> str:
    # Inside of code, Markdown takes an angle bracket as it is; outside it would be HTML.
    pieces = " ".join(text.replace("|", "\\|").split()).split("`")
    return "`".join(piece if index % 2 else piece.replace("<", "&lt;") for index, piece in enumerate(pieces))


def preflight_reference() -> str:
    """Every check of preflight, with what mends it."""
    from containai.preflight.reference import render_reference

    return render_reference()


def default_domains() -> str:
    """The hosts of the default list, one a line."""
    from containai.policy.model import DEFAULT_DOMAINS

    return "```text\n" + "\n".join(DEFAULT_DOMAINS) + "\n```\n"


PARTS: dict[str, Callable[[], str]] = {
    "default-domains": default_domains,
    "preflight-reference": preflight_reference,
    "seccomp-table": seccomp_table,
    "docker-comparison": docker_comparison,
    "error-table": error_table,
    "option-tables": option_tables,
}


def render_page(text: str) -> str:
    """Return a page with its generated parts made anew.

    Raises:
        KeyError: It asks for a part that nobody generates.
    """
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", text)


def stale_pages() -> dict[Path, str]:
    """The pages whose generated parts differ from what the source says, with their right text."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/**/*.md"))}
    fresh = {path: render_page(text) for path, text in pages.items()}
    return {path: text for path, text in fresh.items() if text != pages[path]}


def main() -> int:
    """Write the pages, or with ``--check`` name those that are out of date."""
    stale = stale_pages()
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
