"""The docs say what the program does: generated parts are fresh, links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from containai.errors import ContainaiError
from containai.policy.domains import allows
from containai.policy.model import DEFAULT_DOMAINS
from scripts import generate_docs
from scripts.raised_errors import raised_errors

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them from headings."""
    headings = HEADING.findall(CODE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name}: {target}"
        assert ROOT in found.parents, f"{page.name}: {target} leaves the repository"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found), f"{page.name}: {target}"


def test_generated_parts_are_fresh() -> None:
    stale = [str(path.relative_to(ROOT)) for path in generate_docs.stale_pages()]
    assert stale == [], "run: make docs"


def test_every_part_is_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(generate_docs.PARTS) == {name for _, name, _ in generate_docs.PART.findall(text)}


def test_a_change_of_the_source_makes_a_page_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(generate_docs.PARTS, "error-table", lambda: "| other |\n")
    assert ROOT / "docs/errors.md" in generate_docs.stale_pages()


def test_every_error_has_a_stable_code() -> None:
    for error in raised_errors(ROOT / "src"):
        if not error.code.startswith("<"):
            assert re.fullmatch(r"[a-z]+(\.[a-z0-9<>_-]+)*", error.code), error
    kinds = [kind for kind in vars(__import__("containai.errors").errors).values() if isinstance(kind, type)]
    codes = [kind.default_code for kind in kinds if issubclass(kind, ContainaiError)]
    assert len(codes) == len(set(codes)) > 8


def test_a_placeholder_of_an_error_is_words_not_source() -> None:
    found = 0
    for error in raised_errors(ROOT / "src"):
        for text in (error.summary, error.remedy):
            placeholders = re.findall(r"<[^<>]*>", text)
            found += len(placeholders)
            assert [each for each in placeholders if not re.fullmatch(r"<[a-z][a-z` ]*>", each)] == [], error
            assert "<" not in re.sub(r"<[^<>]*>", "", text), error
    assert found > 100


def test_the_example_configuration_allows_what_pip_asks() -> None:
    (example,) = re.findall(
        r"^```toml\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    domains = tomllib.loads(example)["network"]["domains"]
    assert all(allows(domains, host) for host in ("pypi.org", "files.pythonhosted.org"))


def test_the_hosts_named_as_missing_are_not_on_the_default_list() -> None:
    page = (ROOT / "docs/network.md").read_text(encoding="utf-8")
    _, rows = page.split("| command | asks | on the default list |\n| --- | --- | --- |\n")
    table = rows.split("\n\n")[0]
    hosts = [name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[2])]
    assert hosts == ["pypi.org", "files.pythonhosted.org", "github.com"]
    assert not any(allows(DEFAULT_DOMAINS, host) for host in hosts)
