"""Lock files: which content each version of a package has. PURE.

Trust: every byte here is the agent's making. What cannot be read has no content, and ``can_be_read`` says so.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_MOST_DOTS = 40  # in a line of a lock file: an address or a version has a few

# Formats that are lines. Each block of a package begins at the margin, or at a known indentation.
_YARN_FIELD = re.compile(r"^  (version|resolved|integrity|checksum|resolution):? +\"?([^\s\"]+)", re.MULTILINE)
_PNPM = re.compile(r"^  ['\"]?/?([^\s'\"]{1,300})['\"]?:\n    resolution: *(\{[^\n]*)", re.MULTILINE)
_GO = re.compile(r"^(\S+ \S+) (h1:\S+)$", re.MULTILINE)
_PIP = re.compile(r"^([\w.-]+)(?:\[[^]\n]*\])?==([^\s;]+)[^\n]*", re.MULTILINE)
_PIP_HASH = re.compile(r"--hash=(\S+)")

Pairs = Iterator[tuple[str, str]]


def read_contents(name: str, text: str) -> dict[str, str]:
    """Digests by package and version; nothing where the format is not known. ``name``: the file's, in lower case."""
    if name in _OF_JSON:
        return dict(_OF_JSON[name](read_json(text)))
    if name in _TOML_FILES:
        return dict(_cargo(_read_toml(text)))
    reader = _OF_LINES.get(name) or (_pip if "requirements" in name or name.startswith("constraints") else None)
    return dict(reader(text.replace("\r", ""))) if reader else {}


def can_be_read(name: str, text: str) -> bool:
    """False for what is no data of its format, for us: a package manager may read deeper, or longer numbers."""
    try:
        if name in _OF_JSON:
            json.loads(text or "{}")
        elif name in _TOML_FILES:
            _load_toml(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_json(text: str) -> dict[str, Any]:
    """The object that ``text`` is; an empty one where it is none."""
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _npm(lock: Mapping[str, Any]) -> Pairs:
    """Source: npm, package-lock.json(5): ``packages`` since version 2 of the format, else ``dependencies``."""
    for place, about in _objects(lock.get("packages")):
        yield f"{place} {about.get('version')}", str(about.get("integrity"))
    waiting = [("", lock.get("dependencies"))]
    while waiting:
        above, dependencies = waiting.pop()
        for name, about in _objects(dependencies):
            yield f"{above}{name} {about.get('version')}", str(about.get("integrity"))
            waiting.append((f"{above}{name} > ", about.get("dependencies")))


def _composer(lock: Mapping[str, Any]) -> Pairs:
    for key in ("packages", "packages-dev"):
        for about in _list(lock.get(key)):
            places = [about.get("dist"), about.get("source")]
            yield f"{about.get('name')} {about.get('version')}", json.dumps(places, sort_keys=True)


def _pipenv(lock: Mapping[str, Any]) -> Pairs:
    for key in ("default", "develop"):
        for name, about in _objects(lock.get(key)):
            yield f"{name} {about.get('version')}", json.dumps(about.get("hashes"))


def _cargo(lock: Mapping[str, Any]) -> Pairs:
    for about in _list(lock.get("package")):
        digest = [about.get("checksum"), about.get("sdist"), about.get("files"), about.get("wheels")]
        yield f"{about.get('name')} {about.get('version')}", json.dumps(digest, default=str)


def _yarn(text: str) -> Pairs:
    for block in re.split(r"\n(?=[^\s#])", text):
        name = block.partition("\n")[0].partition(",")[0].strip('": ').rpartition("@")[0]
        fields = dict(_YARN_FIELD.findall(block))
        if name and "version" in fields:
            yield f"{name} {fields.pop('version')}", json.dumps(fields, sort_keys=True)


def _pnpm(text: str) -> Pairs:
    yield from _PNPM.findall(text)


def _go(text: str) -> Pairs:
    yield from _GO.findall(text)


def _pip(text: str) -> Pairs:
    for line in _PIP.finditer(text.replace("\\\n", " ")):
        if digests := _PIP_HASH.findall(line[0]):
            yield f"{line[1]} {line[2]}", " ".join(sorted(digests))


_OF_JSON: Mapping[str, Callable[[Mapping[str, Any]], Pairs]] = {
    "package-lock.json": _npm,
    "npm-shrinkwrap.json": _npm,
    "composer.lock": _composer,
    "pipfile.lock": _pipenv,
    "flake.lock": lambda _lock: iter(()),  # a node has no version; its sources are looked at
}
_TOML_FILES = frozenset({"cargo.lock", "poetry.lock", "uv.lock", "pdm.lock"})
_OF_LINES: Mapping[str, Callable[[str], Pairs]] = {"yarn.lock": _yarn, "pnpm-lock.yaml": _pnpm, "go.sum": _go}


def _objects(found: object) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, about in found.items() if isinstance(found, dict) else ():
        if isinstance(about, dict):
            yield name, about


def _list(found: object) -> Iterator[dict[str, Any]]:
    yield from (about for about in (found if isinstance(found, list) else ()) if isinstance(about, dict))


def _read_toml(text: str) -> dict[str, Any]:
    try:
        return _load_toml(text)
    except (ValueError, RecursionError):
        return {}


def _load_toml(text: str) -> dict[str, Any]:
    """Raises ``ValueError`` too for what takes the parser hours, and for what is read but cannot be written again."""
    if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):  # a key of thousands of parts
        raise ValueError("a line of too many dots")
    found = tomllib.loads(text)
    json.dumps(found, default=str)  # fails for a number of thousands of hexadecimal digits
    return found
