"""What takes protections away, for tests that must see an attack succeed: a register of small pieces.

Only tests can take something away: the package itself has no switch for it, and reads no variable that could be one. A
piece replaces functions of the product in the process that is about to become a launcher (``tests/support/weakened.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WEAKENINGS: dict[str, Callable[[], None]] = {}


def weakening(function: Callable[[], None]) -> Callable[[], None]:
    """Register a piece under its name."""
    WEAKENINGS[function.__name__] = function
    return function


def importers(name: str) -> list[Any]:
    """Modules of the product that have taken a function by name."""
    import importlib
    import pkgutil

    import containai

    found = []
    for module in pkgutil.walk_packages(containai.__path__, "containai."):
        if not module.name.startswith("containai.data.") and not module.name.endswith("__main__"):
            loaded = importlib.import_module(module.name)
            if callable(getattr(loaded, name, None)):
                found.append(loaded)
    return found


def replace_everywhere(name: str, replacement: Any) -> None:
    """Put another function in the place of one, wherever the product has taken it by name."""
    for module in importers(name):
        setattr(module, name, replacement)
