"""Every attack and the claim that it tests. PURE, but for reading this package's own table."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

TABLE = resources.files("containai.data") / "selftest" / "attacks.toml"


@cache
def load_catalogue() -> dict[str, str]:
    """Claims by the attacks' ids, ``theme.name``, in the order in which they are shown."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {f"{theme}.{name}": claim for theme, attacks in table.items() for name, claim in attacks.items()}
