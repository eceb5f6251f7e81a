"""Reads ``data/agents/NAME.toml``, strictly: an unknown key is an error.

The files are trusted: they ship with the program (C5). Still nothing in one can reach beyond HOME, since a mistake
in a new file would otherwise become a mount.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

from containai.agents.model import PROMPT_FIELD, Adapter, HostFile, TextFile
from containai.errors import AgentError, PolicyError, UsageError
from containai.policy.domains import parse_patterns
from containai.policy.tables import Origin, Table

BUILT_IN = Path(__file__).resolve().parent.parent / "data" / "agents"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_BINARY = re.compile(r"(/usr)?(/bin/)?[A-Za-z0-9][A-Za-z0-9._-]*")
# Source: npm's documentation of package.json, "name"; it becomes a path, so nothing else may pass.
PACKAGE_NAME = re.compile(r"(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*")
_KEYS = (
    "name", "title", "binaries", "package", "tested_version", "bundle_marker", "interactive", "prompt", "environment",
    "credential_variables", "writable", "text_files", "host_files", "api_hosts", "notes",
)  # fmt: skip


def list_agents(directory: Path = BUILT_IN) -> tuple[str, ...]:
    """Names of the known agents, sorted."""
    return tuple(sorted(path.stem for path in directory.glob("*.toml")))


def load_adapter(name: str, directory: Path = BUILT_IN) -> Adapter:
    """The adapter called ``name``.

    Raises:
        UsageError: ``agent.unknown``: there is none; the known ones are listed.
        AgentError: ``agent.invalid``: its file is malformed.
    """
    known = list_agents(directory)
    if name not in known:  # also keeps a name with slashes from becoming a path
        raise _unknown(name, known)
    path = directory / f"{name}.toml"
    try:
        return _parse(tomllib.loads(path.read_text(encoding="utf-8")), path)
    except (PolicyError, tomllib.TOMLDecodeError, OSError, UnicodeError) as error:
        details = error.details if isinstance(error, PolicyError) else ""
        raise AgentError(
            f"{path.name} describes no agent: {error}",
            code="agent.invalid",
            details=details,
            remedy=[f"correct {path}"],
        ) from error


def _unknown(name: str, known: tuple[str, ...]) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), known, n=1)
    return UsageError(
        f"there is no agent {ascii(name)[:60]}",
        code="agent.unknown",
        details=f"known agents: {', '.join(known)}",
        remedy=[f"containai run --agent {near[0] if near else known[0]}", "containai run -- COMMAND [ARG ...]"],
    )


def _parse(values: dict[str, Any], path: Path) -> Adapter:
    table = Table(origin=Origin(name=path.name, tables=()), path="", values=values)
    table.only(*_KEYS)
    name = _text(table, "name", _NAME)
    if name != path.stem:
        table.refuse("name", f"the name of the file, {path.stem}")
    prompt = table.strings("prompt") or ()
    if prompt and sum(part.count(PROMPT_FIELD) for part in prompt) != 1:
        table.refuse("prompt", f"arguments with {PROMPT_FIELD} in one of them")
    interactive = table.strings("interactive")
    if interactive is None:
        table.refuse("interactive", "a list of arguments, which may be empty")
    return Adapter(
        name=name,
        title=_text(table, "title"),
        binaries=_some(table, "binaries", _BINARY),
        package=_text(table, "package", PACKAGE_NAME, optional=True),
        tested_version=_text(table, "tested_version", optional=True),
        bundle_marker=_text(table, "bundle_marker", _BINARY, optional=True),
        interactive=interactive,
        prompt=prompt,
        environment=_environment(table),
        credential_variables=_some(table, "credential_variables", _VARIABLE, optional=True),
        writable=tuple(_below_home(table, "writable", path) for path in table.strings("writable") or ()),
        text_files=_text_files(table),
        host_files=_host_files(table),
        api_hosts=parse_patterns(hosts) if (hosts := table.strings("api_hosts")) else (),
        notes=table.strings("notes") or (),
    )


def _text(table: Table, key: str, form: re.Pattern[str] | None = None, *, optional: bool = False) -> str:
    value = table.string(key)
    if value is None:
        return "" if optional else table.refuse(key, "a string")
    if not value or (form is not None and not form.fullmatch(value)):
        table.refuse(key, f"a string of the form {form.pattern}" if form else "a string that is not empty")
    return value


def _some(table: Table, key: str, form: re.Pattern[str], *, optional: bool = False) -> tuple[str, ...]:
    values = table.strings(key) or ()
    if not (values or optional) or not all(form.fullmatch(value) for value in values):
        table.refuse(key, f"a list of strings of the form {form.pattern}")
    return values


def _environment(table: Table) -> tuple[tuple[str, str], ...]:
    pairs = table.string_map("environment")
    for name, _ in pairs:
        if not _VARIABLE.fullmatch(name):
            table.refuse("environment", f"names of variables, of the form {_VARIABLE.pattern}")
    return pairs


def _below_home(table: Table, key: str, text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != text:
        table.refuse(key, "paths below HOME, such as .config/agent")
    return text


def _entries(table: Table, key: str) -> tuple[Table, ...]:
    entries = table.values.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        table.refuse(key, f"tables, written [[{key}]]")
    return tuple(Table(origin=table.origin, path=key, values=entry) for entry in entries)


def _text_files(table: Table) -> tuple[TextFile, ...]:
    files = []
    for entry in _entries(table, "text_files"):
        entry.only("path", "content")
        content = entry.values.get("content")  # a file has more than one line, which a plain string has not
        if not isinstance(content, str):
            entry.refuse("content", "the text of the file")
        files.append(TextFile(path=_below_home(entry, "path", _text(entry, "path")), content=content))
    return tuple(files)


def _host_files(table: Table) -> tuple[HostFile, ...]:
    files = []
    for entry in _entries(table, "host_files"):
        entry.only("path", "candidates", "secret")
        secret = entry.values.get("secret", True)
        if not isinstance(secret, bool):
            entry.refuse("secret", "true or false")
        candidates = tuple(_below_home(entry, "candidates", path) for path in entry.strings("candidates") or ())
        if not candidates:
            entry.refuse("candidates", "a list of paths below HOME")
        path = _below_home(entry, "path", _text(entry, "path"))
        files.append(HostFile(path=path, candidates=candidates, secret=secret))
    return tuple(files)
