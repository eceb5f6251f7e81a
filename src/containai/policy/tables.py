"""Strict access to a parsed TOML table: every error names the file, the key and what is allowed. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NoReturn, TypeVar

from containai.errors import PolicyError
from containai.record import dataclass, field

_E = TypeVar("_E", bound=Enum)
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A file, and the tables that it may hold."""

    name: str
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of a file; ``path`` is its dotted name, empty for the file itself."""

    origin: Origin
    path: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """File and key, as a message begins."""
        return f"{self.origin.name}: {self._key(key)}"

    def only(self, *allowed: str) -> None:
        """Refuse every key but these.

        Raises:
            PolicyError: Naming the first unknown key and the allowed ones.
        """
        for key in self.values:
            if key not in allowed:
                raise PolicyError(
                    f"{self.where(key)} is not known here",
                    details=f"allowed {f'in [{self.path}]' if self.path else 'in this file'}: {', '.join(allowed)}",
                    remedy=[f"remove or correct {self._key(key)} in {self.origin.name}"],
                )

    def table(self, key: str) -> Table:
        """The sub-table ``key``; an empty one when it is absent."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            self.refuse(key, f"a table, written [{self._key(key)}]")
        return Table(origin=self.origin, path=self._key(key), values=value)

    def tables(self, key: str, most: int) -> tuple[Table, ...]:
        """The tables of the list ``key``, written ``[[key]]``; none when it is absent."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or len(value) > most or not all(isinstance(item, dict) for item in value):
            self.refuse(key, f"at most {most} tables, written [[{self._key(key)}]]")
        return tuple(
            Table(origin=self.origin, path=f"{self._key(key)}[{n}]", values=item) for n, item in enumerate(value)
        )

    def string(self, key: str) -> str | None:
        """A string without control characters."""
        value = self.values.get(key)
        if value is not None and not _is_text(value):
            self.refuse(key, "a string without control characters")
        return value

    def strings(self, key: str) -> tuple[str, ...] | None:
        """A list of strings."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(_is_text(item) for item in value):
            self.refuse(key, 'a list of strings, such as ["a", "b"]')
        return tuple(value)

    def string_map(self, key: str) -> tuple[tuple[str, str], ...]:
        """A table of strings, in order. Its values may be secrets: no message shows one."""
        inner = self.table(key)
        for name, value in inner.values.items():
            if not _is_text(value):
                raise PolicyError(
                    f"{inner.where(name)} is no string without control characters",
                    remedy=["write it as a string, in quotes, on one line"],
                )
        return tuple(inner.values.items())

    def number(self, key: str, low: float, high: float) -> float | None:
        """A number from ``low`` to ``high``."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.refuse(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, key: str, low: int, high: int) -> int | None:
        """A whole number from ``low`` to ``high``."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(key, f"a whole number from {low} to {high}")
        return value

    def size(self, key: str) -> str | None:
        """The text of a size, not yet parsed; a number stands for bytes."""
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            self.refuse(key, 'a size, such as "4g"')
        return str(value)

    def one_of(self, key: str, allowed: Sequence[str]) -> str | None:
        """One of a few words."""
        value = self.values.get(key)
        if value is not None and value not in allowed:
            self.refuse(key, f"one of {', '.join(allowed)}")
        return value

    def choice(self, key: str, kind: type[_E]) -> _E | None:
        """One of an enumeration's values."""
        value = self.one_of(key, [member.value for member in kind])
        return None if value is None else kind(value)

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Refuse the value of ``key``.

        Raises:
            PolicyError: Always.
        """
        if key not in self.values:
            raise PolicyError(
                f"{self.where(key)} is missing", details=f"expected {wanted}", remedy=[f"add {self._key(key)}"]
            )
        try:
            shown = _shorten(ascii(self.values.get(key)))
        except ValueError:  # an integer too long for Python to print
            shown = "that number"
        raise PolicyError(
            f"{self.where(key)} cannot be {shown}", details=f"expected {wanted}", remedy=[f"correct {self._key(key)}"]
        )

    def _key(self, key: str) -> str:
        # The key may come from a hostile file and goes to a terminal.
        plain = key if key.isascii() and key.isprintable() else ascii(key)
        return _shorten(f"{self.path}.{plain}" if self.path else plain)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any(ord(char) < 32 or ord(char) == 127 for char in value)


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
