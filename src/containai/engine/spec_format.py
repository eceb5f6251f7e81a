"""The specification that ``containai-shim`` reads inside (native/spec.c has the format). PURE."""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Iterable, Mapping, Sequence

from containai.policy.model import Limits
from containai.record import dataclass
from containai.render.landlock import LandlockRules

_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A directory (``content`` is None) or a file that the first process makes where the agent may write."""

    path: str
    mode: int
    content: bytes | None = None


def encode_spec(
    *,
    command: Sequence[str],
    environment: Mapping[str, str],
    working_directory: str,
    ports: Sequence[int],
    limits: Limits,
    rlimits: Iterable[tuple[int, int]] = (),
    landlock: LandlockRules,
    seccomp_filter: bytes,
    apparmor_profile: str,
    supervised: bool,
    terminal: bool,
    read_inside: bool = False,
    made: Iterable[Made] = (),
    preparation: Sequence[str] = (),
    preparation_environment: Mapping[str, str] = _NOTHING,
) -> bytes:
    """Encode one specification.

    ``read_inside``: the first process reads memory for the launcher (native/reader.c).

    Trust: ``command`` and ``environment`` are the user's; lengths delimit them, so no content can
    turn into another record.
    """
    records = [_record(b"A", os.fsencode(argument)) for argument in command]
    records += [_record(b"E", os.fsencode(f"{name}={value}")) for name, value in environment.items()]
    records += [_record(b"a", os.fsencode(argument)) for argument in preparation]
    records += [_record(b"e", os.fsencode(f"{name}={value}")) for name, value in preparation_environment.items()]
    records.append(_record(b"W", os.fsencode(working_directory)))
    records += [_record(b"P", struct.pack("<H", port)) for port in ports]
    for kind, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, limits.open_files), *rlimits):
        records.append(_record(b"R", struct.pack("<IQQ", kind, value, value)))
    records.append(_record(b"H", struct.pack("<QQQ", landlock.handled_fs, landlock.handled_net, landlock.scoped)))
    records += [_record(b"L", struct.pack("<Q", rights) + os.fsencode(path)) for path, rights in landlock.paths]
    records += [_made(each) for each in made]
    records.append(_record(b"F", seccomp_filter))
    if apparmor_profile:
        records.append(_record(b"M", apparmor_profile.encode()))
    if supervised:
        records.append(_record(b"N", b""))
    if read_inside:
        records.append(_record(b"I", b""))
    if terminal:
        records.append(_record(b"T", b""))
    return b"".join(records)


def _made(each: Made) -> bytes:
    path = os.fsencode(each.path)
    if each.content is None:
        return _record(b"D", struct.pack("<I", each.mode) + path)
    return _record(b"C", struct.pack("<II", each.mode, len(path)) + path + each.content)


def _record(tag: bytes, content: bytes) -> bytes:
    return tag + struct.pack("<I", len(content)) + content
