"""Canonical digest of frozen data: equal data, equal digest, on every machine."""

from __future__ import annotations

import hashlib
import json
from enum import Enum
from pathlib import PurePath
from typing import Any

from containai.record import names_of


def canonical(value: Any) -> Any:  # noqa: PLR0911  (one for each type)
    """Reduce frozen data to plain JSON values, with nothing left to chance.

    Raises:
        TypeError: ``value`` holds something that has no canonical form (a set of mixed types, say).
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if names := names_of(type(value)):
        return {name: canonical(getattr(value, name)) for name in names}
    if isinstance(value, (tuple, list)):
        return [canonical(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(canonical(item) for item in value)
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    raise TypeError(f"no canonical form for {type(value).__name__}")


def canonical_json(value: Any) -> bytes:
    """``value`` as canonical JSON: sorted keys, no spaces, ASCII only."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":")).encode()


def sha256_of(value: Any) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of ``value`` (A1)."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
