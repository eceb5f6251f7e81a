"""What a self-test found, and the signed file that it leaves."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from containai.errors import StateError
from containai.provenance.envelope import open_envelope, seal
from containai.provenance.keys import TrustedKey, load_signer
from containai.record import dataclass

PAYLOAD_TYPE = "application/vnd.containai.selftest+json"


class Verdict(Enum):
    """What came of an attack."""

    HELD = "held"
    BROKEN = "broken"
    UNAVAILABLE = "unavailable"  # it could not be tried: nothing is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One attack, and what came of it."""

    id: str
    claim: str
    verdict: Verdict
    detail: str

    def as_json(self) -> dict[str, str]:
        """For ``--json`` and the signed file."""
        return {"id": self.id, "claim": self.claim, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """All findings of one run, and on what they were made."""

    engine: str
    version: str
    policy_sha256: str
    begun: str
    duration_s: float
    findings: tuple[Finding, ...]

    def of(self, verdict: Verdict) -> tuple[Finding, ...]:
        """The findings with this verdict."""
        return tuple(finding for finding in self.findings if finding.verdict is verdict)

    def as_json(self) -> dict[str, Any]:
        """The fields of the contract (``selftest --json``)."""
        return {
            "engine": self.engine,
            "passed": [finding.as_json() for finding in self.of(Verdict.HELD)],
            "failed": [finding.as_json() for finding in self.of(Verdict.BROKEN)],
            "unavailable": [finding.as_json() for finding in self.of(Verdict.UNAVAILABLE)],
            "containai_version": self.version,
            "policy_sha256": self.policy_sha256,
            "kernel": platform.release(),
            "machine": platform.machine(),
            "begun": self.begun,
            "duration_s": round(self.duration_s, 3),
        }


def write_signed(test: SelfTest, state_dir: Path, config_dir: Path) -> Path:
    """Sign a result with the user's key and keep it.

    Raises:
        ContainaiError: It cannot be signed or written.
    """
    payload = json.dumps(test.as_json(), sort_keys=True, separators=(",", ":")).encode()
    envelope = seal(payload, load_signer(config_dir), PAYLOAD_TYPE)
    place = state_dir / "selftest"
    path = place / f"{test.begun.replace(':', '').replace('-', '')}-{test.engine}.json"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(envelope + b"\n")
    except OSError as error:
        raise StateError(
            "the result cannot be kept", details=str(error), remedy=[f"ls -ld {place}", "df -h: is there room?"]
        ) from error
    return path


def read_signed(path: Path, keys: Mapping[str, TrustedKey]) -> dict[str, Any]:
    """What a signed file says.

    Raises:
        ContainaiError: It cannot be read, or no trusted key has signed it.
    """
    try:
        line = path.read_bytes().strip()
    except OSError as error:
        raise StateError("the result cannot be read", details=str(error), remedy=[f"ls -l {path}"]) from error
    payload, _ = open_envelope(line, keys, PAYLOAD_TYPE)
    said: dict[str, Any] = json.loads(payload)
    return said
