"""Configuration files, read strictly: what is not known is an error. Parsing is PURE; ``load_user`` reads a file.

Two files have the same form and different rights:

    the user's file         every table below
    the repository's file   ``network``, ``limits`` and ``mcp_servers`` only, and only to narrow (``narrow.py``)

    [network]       mode = "squid"|"restricted"|"none"    domains = ["api.example.org", "*.example.org"]
    [limits]        cpus = 2    memory = "4g"    pids = 1024    workspace = "20g"    timeout_s = 3600
    [exec]          deny = ["nc", "/usr/bin/nmap"]
    [[exec.rules]]  name = "no-force"    program = "git"    arguments = ["push", "--force*"]    sha256 = "..."
    [session]       credentials = "mount"|"none"    engine = "auto"|"embedded"|"docker"
    [commit]        author = "Name <name@example.org>"
    [mcp_servers.NAME]   command, args, env, cwd   or   url, bearer_token_env_var
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from containai.errors import PolicyError
from containai.policy.domains import parse_patterns
from containai.policy.execs import parse_programs, parse_rules
from containai.policy.mcp import McpServer, parse_mcp_servers
from containai.policy.model import PIDS_MAX, Author, CredentialMode, ExecRule, NetworkMode
from containai.policy.sizes import MAX_CPUS, MIN_CPUS, MIN_PIDS, parse_cpus, parse_size
from containai.policy.tables import Origin, Table
from containai.record import dataclass

_Raw = TypeVar("_Raw")
_Parsed = TypeVar("_Parsed")

MAX_FILE_BYTES = 256 * 1024
_STRINGS = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|#[^\n]*")  # and comments
_DEEP_KEY = re.compile(r"(?:[\w-]{0,200}[ \t]{0,20}\.[ \t]{0,20}){50}")  # what is quoted has been taken out
MAX_TIMEOUT_S = 366 * 24 * 3600.0
ENGINES = ("auto", "embedded", "docker", "kubernetes")

# Git takes these characters off both ends of a name or address: what is stored would not be what was written.
_CRUD = r"\s.,:;<>\"\\'"
_AUTHOR = re.compile(
    rf"(?=.{{1,200}}\Z)((?![{_CRUD}])[^<>]*[^{_CRUD}]) <((?![{_CRUD}])[!-;=?-~]+@[!-;=?-~]*[^{_CRUD}])>"
)

_REPOSITORY_TABLES = ("network", "limits", "exec", "mcp_servers")
_USER_TABLES = (*_REPOSITORY_TABLES, "session", "commit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What one file says. None is "says nothing".

    Attributes:
        origin: The file, as messages name it; empty when there is none.
        notes: What the file says that has no effect yet, for the user to read.
    """

    origin: str = ""
    mode: NetworkMode | None = None
    domains: tuple[str, ...] | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    pids_max: int | None = None
    workspace_bytes: int | None = None
    timeout_s: float | None = None
    denied_programs: tuple[str, ...] = ()
    exec_rules: tuple[ExecRule, ...] = ()
    credentials: CredentialMode | None = None
    engine: str | None = None
    author: Author | None = None
    mcp_servers: tuple[McpServer, ...] = ()
    notes: tuple[str, ...] = ()


NO_CONFIG = Config()


def load_user(path: Path) -> Config:
    """Read the user's file; a missing one says nothing.

    Raises:
        PolicyError: ``policy.unreadable``, ``policy.unsafe-file``, or what ``parse_user`` raises.
    """
    try:
        with open(path, "rb") as file:
            others_write = os.fstat(file.fileno()).st_mode & stat.S_IWOTH
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return NO_CONFIG
    except OSError as error:
        raise PolicyError(
            f"{path} cannot be read", code="policy.unreadable", details=str(error), remedy=[f"ls -l {path}"]
        ) from error
    if others_write:
        raise PolicyError(
            f"{path} can be written by every user of this machine",
            code="policy.unsafe-file",
            details="it decides what agents may do",
            remedy=[f"chmod o-w {path}"],
        )
    return parse_user(content, str(path))


def parse_user(content: bytes, origin: str) -> Config:
    """Parse the user's file.

    Raises:
        PolicyError: ``policy.invalid`` (the message names file and key), ``policy.domains``, ``policy.size``.
    """
    return _parse(_decode(content, origin), Origin(name=origin, tables=_USER_TABLES))


def parse_repository(content: bytes | None, origin: str = "config.toml of the repository") -> Config:
    """Parse the repository's file; None when the commit has none.

    Trust: hostile. The caller hands in the blob of the base commit, never a file of the working tree.

    Many programs call their file ``config.toml``: one with none of our tables is another program's.

    Raises:
        PolicyError: As ``parse_user``.
    """
    if content is None:
        return NO_CONFIG
    values = _decode(content, origin)
    if not set(_USER_TABLES) & set(values):
        notes = (f"{origin} has none of our tables: it belongs to another program, and is ignored",) if values else ()
        return Config(origin=origin, notes=notes)
    return _parse(values, Origin(name=origin, tables=_REPOSITORY_TABLES))


def _parse(values: Mapping[str, Any], origin: Origin) -> Config:
    root = Table(origin=origin, path="", values=values)
    root.only(*origin.tables)
    network, limits, session = root.table("network"), root.table("limits"), root.table("session")
    network.only("mode", "domains")
    limits.only("cpus", "memory", "pids", "workspace", "timeout_s")
    session.only("credentials", "engine")
    execs = root.table("exec")
    execs.only("deny", "rules")
    commit = root.table("commit")
    commit.only("author")
    servers = parse_mcp_servers(root.table("mcp_servers"))
    return Config(
        origin=origin.name,
        mode=network.choice("mode", NetworkMode),
        domains=_named(network, "domains", network.strings("domains"), parse_patterns),
        cpus=_named(limits, "cpus", limits.number("cpus", MIN_CPUS, MAX_CPUS), parse_cpus),
        memory_bytes=_named(limits, "memory", limits.size("memory"), parse_size),
        workspace_bytes=_named(limits, "workspace", limits.size("workspace"), _parse_workspace),
        pids_max=limits.integer("pids", MIN_PIDS, PIDS_MAX),
        timeout_s=limits.number("timeout_s", 1.0, MAX_TIMEOUT_S),
        denied_programs=parse_programs(execs),
        exec_rules=parse_rules(execs),
        credentials=session.choice("credentials", CredentialMode),
        engine=session.one_of("engine", ENGINES),
        author=_author(commit),
        mcp_servers=servers,
        notes=_notes(servers, origin.name),
    )


def _parse_workspace(value: str | int) -> int:
    return parse_size(value, what="workspace")


def _author(table: Table) -> Author | None:
    """``Name <email>``, in a form that git stores as it is. Source: git-commit-tree(1), Commit Information."""
    value = table.string("author")
    if value is None:
        return None
    found = _AUTHOR.fullmatch(value)
    if found is None or not value.isprintable() or not any(map(str.isalnum, found[1])):
        table.refuse("author", '"Name <name@example.org>": a printable name, an ASCII address, 200 characters in all')
    return Author(name=found[1], email=found[2])


def _decode(content: bytes, origin: str) -> Mapping[str, Any]:
    import tomllib  # 9 ms, and most repositories have no file

    if len(content) > MAX_FILE_BYTES:
        raise PolicyError(f"{origin} is larger than {MAX_FILE_BYTES // 1024} KiB", remedy=["make it smaller"])
    try:
        text = content.decode()
        if _DEEP_KEY.search(_STRINGS.sub("", text)):  # it takes the parser minutes, and no recursion
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError as error:
        raise PolicyError(f"{origin} is nested too deeply", remedy=[f"correct {origin}"]) from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
        raise PolicyError(
            f"{origin} is not valid TOML", details=ascii(str(error))[1:-1], remedy=["correct the file at that place"]
        ) from error


def _named(table: Table, key: str, value: _Raw | None, parse: Callable[[_Raw], _Parsed]) -> _Parsed | None:
    """Parse a value with an error that names file and key."""
    if value is None:
        return None
    try:
        return parse(value)
    except PolicyError as error:
        raise PolicyError(
            f"{table.where(key)}: {error.summary}", code=error.code, details=error.details, remedy=error.remedy
        ) from error


def _notes(servers: tuple[McpServer, ...], origin: str) -> tuple[str, ...]:
    if not servers:
        return ()
    names = ", ".join(server.name for server in servers)
    return (f"{origin}: MCP servers are not used in this version: {names}",)
