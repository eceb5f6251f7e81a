#!/usr/bin/env python3
"""Fills the generated parts of docs/: the seccomp table, the error page, the checks, the command-line reference.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. ``--check`` changes nothing and says
which pages are out of date.
"""

from __future__ import annotations

import argparse
import ast
import errno
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from containai.errors import ContainaiError

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RaisedError:
    """One error that the code raises, as far as its source tells."""

    code: str
    exit_status: str
    summary: str
    remedy: str


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
    for error in sorted(set(raised_errors())):
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


def raised_errors() -> Iterator[RaisedError]:
    """Find the errors in the source: each call of an error class that has its code written out."""
    from containai import errors

    classes: dict[str, type[errors.ContainaiError]] = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ContainaiError)
    }
    for path in sorted(ROOT.glob("src/containai/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            kind = classes.get(node.func.id)
            if kind is None:
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            yield RaisedError(
                code=_text(given["code"]) if "code" in given else kind.default_code,
                exit_status=_status(kind),
                summary=_text(node.args[0]),
                remedy=_text(given["remedy"]) if "remedy" in given else "",
            )


def _status(kind: type[ContainaiError]) -> str:
    return " or ".join(map(str, getattr(kind, "exit_statuses", (kind.exit_status,))))


def _text(node: ast.expr) -> str:
    """What an expression says, with a placeholder for what is known only at run time."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.FormattedValue(value=value):
            return f"<{ast.unparse(value).rsplit('.', 1)[-1].strip('()')}>"
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return "; ".join(_text(item) for item in items)
        case ast.IfExp(body=body, orelse=orelse):
            return "; or: ".join(filter(None, (_text(body), _text(orelse))))
        case ast.BinOp(left=left, right=right):
            return f"{_text(left)}{_text(right)}"
        case ast.Starred(value=value):
            return _text(value)
    return f"<{ast.unparse(node).rsplit('.', 1)[-1]}>"


def _cell(text: str) -> str:
    # Inside of code, Markdown takes an angle bracket as it is; outside it would be HTML.
    pieces = " ".join(text.replace("|", "\\|").split()).split("`")
    return "`".join(piece if index % 2 else piece.replace("<", "&lt;") for index, piece in enumerate(pieces))


def preflight_reference() -> str:
    """Every check of preflight, with what mends it."""
    from containai.preflight.reference import render_reference

    return render_reference()


PARTS: dict[str, Callable[[], str]] = {
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
