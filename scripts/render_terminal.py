#!/usr/bin/env python3
"""Draws text from standard input as a terminal, in SVG: the picture in the README is a real session.

    containai demo 2>&1 | scripts/render_terminal.py --command './bootstrap demo' \
        --cut . '^What was stopped' --cut '^The record' '' >docs/images/demo.svg

``--cut FROM TO`` leaves out the lines from the first that matches FROM up to the next that matches TO, or all that
follow where TO is empty, and says how many.
"""

from __future__ import annotations

import argparse
import re
import sys
from xml.sax.saxutils import escape

COLUMNS = 118
FONT_PX, CHAR_PX, LINE_PX, MARGIN_PX, BAR_PX = 13, 7.83, 17, 14, 28
GROUND, BAR, TEXT = "#0d1117", "#161b22", "#c9d1d9"
GREEN, RED, YELLOW, DIM, BRIGHT = "#3fb950", "#ff7b72", "#d29922", "#8b949e", "#f0f6fc"

# The colour of what a line begins with; the rest of the line is plain, unless the group is the line.
STYLES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\$ .*"), BRIGHT),
    (re.compile(r"containai: note:.*"), YELLOW),
    (re.compile(r"containai: error.*"), RED),
    (re.compile(r"containai: .*"), DIM),
    (re.compile(r"\[\d+ lines left out\]"), DIM),
    (re.compile(r"=+$|\s+ATTEMPT .*"), DIM),
    (re.compile(r"stopped\b|\s+yes\b|\+(?!\+\+).*"), GREEN),
    (re.compile(r"GOT THROUGH|\s+NO \b|-(?!--).*"), RED),
)


def cut(lines: list[str], begin: str, end: str) -> list[str]:
    """``lines`` without those from the first match of ``begin`` up to the next match of ``end``."""
    first = next((at for at, line in enumerate(lines) if re.search(begin, line)), None)
    if first is None:
        raise SystemExit(f"render_terminal: no line matches {begin!r}")
    if not end:
        return [*lines[:first], f"[{len(lines) - first} lines left out]"]
    last = next((at for at in range(first, len(lines)) if re.search(end, lines[at])), None)
    if last is None:
        raise SystemExit(f"render_terminal: no later line matches {end!r}")
    return [*lines[:first], f"[{last - first} lines left out]", "", *lines[last:]]


def fit(line: str) -> str:
    """A line as a terminal of ``COLUMNS`` would show its beginning, without control characters."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line.expandtabs())
    return shown if len(shown) <= COLUMNS else shown[: COLUMNS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def spans(line: str) -> str:
    """A line as coloured pieces of SVG."""
    for pattern, colour in STYLES:
        found = pattern.match(line)
        if found:
            head, tail = line[: found.end()], line[found.end() :]
            return f'<tspan fill="{colour}">{escape(head)}</tspan>{escape(tail)}'
    return escape(line)


def render(lines: list[str], title: str) -> str:
    """The whole picture."""
    width = round(COLUMNS * CHAR_PX + 2 * MARGIN_PX)
    height = BAR_PX + len(lines) * LINE_PX + 2 * MARGIN_PX
    dots = "".join(
        f'<circle cx="{18 + 18 * at}" cy="{BAR_PX / 2:g}" r="5" fill="{colour}"/>'
        for at, colour in enumerate((RED, YELLOW, GREEN))
    )
    body = "\n".join(
        f'<text x="{MARGIN_PX}" y="{BAR_PX + MARGIN_PX + LINE_PX * at + FONT_PX}">{spans(line)}</text>'
        for at, line in enumerate(lines)
        if line.strip()
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">
<title>{escape(title)}</title>
<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>
<path d="M0 {BAR_PX}V8a8 8 0 0 1 8-8h{width - 16}a8 8 0 0 1 8 8v{BAR_PX - 8}z" fill="{BAR}"/>
{dots}
<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="{FONT_PX}" \
fill="{TEXT}" xml:space="preserve" style="white-space:pre">
{body}
</g>
</svg>
"""


def main() -> int:
    """Read standard input, write the picture to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", default="", help="the command that made the text, shown as the first line")
    parser.add_argument("--title", default="A session of ContainAI", help="for readers who do not see the picture")
    parser.add_argument(
        "--cut", nargs=2, action="append", default=[], metavar=("FROM", "TO"), help="lines to leave out"
    )
    args = parser.parse_args()
    lines = sys.stdin.read().rstrip("\n").split("\n")
    for begin, end in args.cut:
        lines = cut(lines, begin, end)
    if args.command:
        lines.insert(0, f"$ {args.command}")
    sys.stdout.write(render([fit(line) for line in lines], args.title))
    return 0


if __name__ == "__main__":
    sys.exit(main())
