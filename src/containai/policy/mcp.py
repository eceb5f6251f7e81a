"""``[mcp_servers.NAME]``: recognised and checked in both files, kept as data (C7). PURE."""

from __future__ import annotations

import re

from containai.errors import PolicyError
from containai.policy.tables import Table
from containai.record import dataclass

MAX_SERVERS = 100

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_COMMAND_KEYS = ("command", "args", "env", "cwd")
_URL_KEYS = ("url", "bearer_token_env_var")


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """One MCP server: either ``command`` or ``url`` is set.

    Attributes:
        env: Variables of a command server. May hold secrets: never log it.
        bearer_token_env_var: Name of the variable with a remote server's token, not the token.
    """

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = ""
    url: str = ""
    bearer_token_env_var: str = ""

    def __repr__(self) -> str:
        return f"McpServer({self.name!r})"


def parse_mcp_servers(servers: Table) -> tuple[McpServer, ...]:
    """Parse all servers of a file, in its order.

    Raises:
        PolicyError: ``policy.invalid``: a name, key, type or combination is not allowed.
    """
    if len(servers.values) > MAX_SERVERS:
        raise PolicyError(f"{servers.origin.name}: more than {MAX_SERVERS} MCP servers", remedy=["name fewer"])
    return tuple(_parse_server(name, servers.table(name)) for name in servers.values)


def _parse_server(name: str, table: Table) -> McpServer:
    if not _NAME.fullmatch(name):
        raise PolicyError(
            f"{table.origin.name}: {table.path} is no name of a server",
            details="allowed: letters, digits, - and _, at most 64",
            remedy=["give it another name"],
        )
    table.only(*_COMMAND_KEYS, *_URL_KEYS)
    keys = set(table.values)
    if ("command" in keys) == ("url" in keys):
        raise PolicyError(
            f"{table.origin.name}: {table.path} needs either command or url",
            remedy=['command = "PROGRAM", for one on this machine', 'url = "https://...", for one elsewhere'],
        )
    mixed = keys & set(_COMMAND_KEYS if "url" in keys else _URL_KEYS)
    if mixed:
        kind = "url" if "url" in keys else "command"
        raise PolicyError(f"{table.where(min(mixed))} does not go with {kind}", remedy=["remove one of them"])
    server = McpServer(
        name=name,
        command=table.string("command") or "",
        args=table.strings("args") or (),
        env=table.string_map("env"),
        cwd=table.string("cwd") or "",
        url=table.string("url") or "",
        bearer_token_env_var=table.string("bearer_token_env_var") or "",
    )
    _check(server, table)
    return server


def _check(server: McpServer, table: Table) -> None:
    if not server.command and not server.url:
        table.refuse("url" if "url" in table.values else "command", "something that is not empty")
    if server.url and not server.url.startswith(("https://", "http://")):
        table.refuse("url", "an address that begins with https://")
    if server.bearer_token_env_var and not _VARIABLE.fullmatch(server.bearer_token_env_var):
        table.refuse("bearer_token_env_var", "the name of a variable")
    for variable, _ in server.env:
        if not _VARIABLE.fullmatch(variable):
            raise PolicyError(
                f"{table.table('env').where(variable)} is no name of a variable",
                remedy=["letters, digits and _ are expected, and no digit at the beginning"],
            )
