"""Durations as people write them."""

UNITS = {"s": 1, "m": 60, "h": 3600}


def parse(text: str) -> int:
    """Seconds in a duration such as ``90s`` or ``2h``."""
    return int(text[:-1]) * UNITS[text[-1]]
