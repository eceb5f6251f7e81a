"""One self-contained HTML page of a review, for a second reader. A review and its diff in, text out.

Trust: everything shown is the agent's making. Every character of it is escaped, there is no script, and the page
forbids itself any request: what it says cannot be made to act in a browser.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from importlib import resources

from containai.review.model import Review
from containai.review.patch import style_of, visible

_MOST_LINES = 50_000
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render_page(agent: str, session: str, review: Review, patch: Iterable[str]) -> str:
    """The page."""
    style = (resources.files("containai.data") / "review.css").read_text(encoding="utf-8")
    title = f"{review.branch}: {len(review.commits)} commits, {len(review.files)} files"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title><style>{style}</style></head><body>",
            f"<h1>{_text(title)}</h1>",
            f"<p>By {_text(agent)} in session <code>{_text(session)}</code>, commits",
            f"<code>{_text(review.base[:12])}..{_text(review.tip[:12])}</code>.</p>",
            *_triggers(review),
            *_commits(review),
            "<h2>Changes</h2>",
            *_files(patch),
            "</body></html>",
            "",
        ]
    )


def _triggers(review: Review) -> Iterator[str]:
    if review.triggers:
        yield f"<h2>Before you merge: {len(review.triggers)} that run, obey or hide something</h2><table>"
        for trigger in review.triggers:
            detail = f"<br><small>{_text(trigger.detail)}</small>" if trigger.detail else ""
            yield (
                f'<tr><td class="kind">{_text(trigger.kind)}</td><td><code>{_text(trigger.path)}</code>{detail}</td>'
                f"<td>{_text(trigger.why)}</td><td><code>{_text(trigger.id)}</code></td></tr>"
            )
        yield "</table>"
    else:
        yield "<p>Nothing in it runs, obeys or hides anything on its own, as far as paths and contents tell.</p>"
    for note in review.notes:
        yield f'<p class="kind">{_text(note)}</p>'


def _commits(review: Review) -> Iterator[str]:
    yield "<h2>Commits</h2><table>"
    for commit in review.commits:
        yield (
            f"<tr><td><code>{_text(commit.hash[:12])}</code></td><td>{_text(commit.subject)}</td>"
            f"<td>{_text(commit.author)}</td></tr>"
        )
    yield "</table>"


def _files(patch: Iterable[str]) -> Iterator[str]:
    begun = False
    for number, line in enumerate(patch):
        if number >= _MOST_LINES:
            yield "</pre></details>" if begun else ""
            yield f"<p class=kind>The diff goes on: only its first {_MOST_LINES:,} lines are here.</p>"
            return
        if line.startswith("diff --git "):
            yield ("</pre></details>" if begun else "") + f"<details open><summary>{_text(line[11:])}</summary><pre>"
            begun = True
        elif begun:
            yield f'<span class="{style_of(line)}">{_text(line)}</span>'
    if begun:
        yield "</pre></details>"


def _text(text: str) -> str:
    return escape(visible(text))
