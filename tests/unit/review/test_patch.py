"""Lines of a diff, as a terminal and a browser get them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from containai.review.model import Change, Commit, Review, Trigger
from containai.review.page import render_page
from containai.review.patch import style_of, visible


def test_what_is_not_seen_is_named() -> None:
    assert visible("+x\x1b[31m\u202e\x9b\udcff\tend") == "+x<1B>[31m<U+202E><U+009B><FF>\tend"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert all(c == "\t" or c.isprintable() for c in visible(text))


def test_an_endless_line_is_cut() -> None:
    assert visible("x" * 5000).endswith("... and 3000 more characters")


def test_styles() -> None:
    assert [style_of(line) for line in ("+a", "-a", "@@ -1 +1 @@", "diff --git a/x b/x", " a")] == [
        "added",
        "removed",
        "place",
        "head",
        "",
    ]


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_of_the_agents_is_markup_on_the_page(path: str, line: str) -> None:
    hostile = f"<script>{line}</script>"
    review = Review(
        branch=f"a/{path}",
        base="1" * 40,
        tip="2" * 40,
        commits=(Commit(hash="3" * 40, subject=hostile, author='" onload=x'),),
        files=(Change(path=b"x", old_mode="000000", new_mode="100644", old="0" * 40, new="4" * 40),),
        triggers=(Trigger(digest="55", id="5", kind="ci", path=hostile, why="why", detail=hostile),),
        notes=(hostile,),
    )
    page = render_page("claude", "6", review, ["diff --git a/" + hostile, "+" + hostile, " " + line])
    assert "<script" not in page
    assert set(re.findall(r"<(\w+)", page)) <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "code", "table", "tr", "td", "br"),
        *("small", "details", "summary", "pre", "span"),
    }
    assert "default-src 'none'" in page
