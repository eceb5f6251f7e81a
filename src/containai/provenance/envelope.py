"""DSSE envelopes with one Ed25519 signature: one line of JSON each.

Source: Dead Simple Signing Envelope v1. The signing, and what exactly is signed (PAE), are securesystemslib's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from containai.errors import ProvenanceError
from containai.provenance.statement import PAYLOAD_TYPE, encode_json, parse_object

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

    from containai.provenance.keys import TrustedKey

_SIGNATURE_BYTES = 64  # Ed25519


def seal(payload: bytes, signer: CryptoSigner, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Sign ``payload``; the envelope, without a line feed."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer)
    return encode_json(envelope.to_dict())


def looks_like_envelope(line: bytes) -> bool:
    """Whether a line of a note claims to be one; other lines are notes of somebody else's."""
    return line.startswith(b"{") and b'"payload' in line


def open_envelope(
    line: bytes, keys: Mapping[str, TrustedKey], payload_type: str = PAYLOAD_TYPE
) -> tuple[bytes, TrustedKey]:
    """The payload of an envelope of this type that one of ``keys`` has signed, and that key.

    Raises:
        ProvenanceError: It is malformed, or signed by none of them.

    Trust: anyone may have written the line.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import Signature

    body = parse_object(line, "envelope")
    _expect(set(body) == {"payload", "payloadType", "signatures"}, "its fields")
    signatures = body["signatures"]
    _expect(isinstance(signatures, list) and len(signatures) == 1, "exactly one signature is expected")
    entry = signatures[0]
    _expect(isinstance(entry, dict) and set(entry) == {"keyid", "sig"}, "the signature's fields")
    _expect(isinstance(entry["keyid"], str) and isinstance(body["payloadType"], str), "text is expected")
    payload, signature = _decoded(body["payload"]), _decoded(entry["sig"])
    _expect(len(signature) == _SIGNATURE_BYTES, "the signature's length")
    key = keys.get(entry["keyid"])
    if key is None:
        raise ProvenanceError(
            "the statement is signed by a key that is not trusted here",
            code="provenance.untrusted-key",
            details=f"key {entry['keyid'][:64]!r}",
            remedy=["get the signer's public key from him (containai provenance key), then: --key FILE"],
        )
    envelope = Envelope(payload, body["payloadType"], {key.key_id: Signature(key.key_id, signature.hex())})
    public: SSlibKey = key.public
    try:
        envelope.verify([public], 1)
    except VerificationError as error:
        raise ProvenanceError(
            "the signature does not fit the statement", code="provenance.signature", details=f"key {key.key_id}"
        ) from error
    if envelope.payload_type != payload_type:
        raise ProvenanceError(
            "what was signed is something else than what is wanted here",
            code="provenance.payload-type",
            details=repr(envelope.payload_type)[:200],
        )
    return payload, key


def _decoded(text: Any) -> bytes:
    """Base64 in its one right spelling: spare bits are zero, so that no two texts mean the same bytes."""
    try:
        _expect(isinstance(text, str), "base64 is expected")
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProvenanceError(
            "the envelope is not as it must be", code="provenance.envelope", details=str(error)
        ) from error
    _expect(base64.b64encode(raw).decode() == text, "base64 is expected")
    return raw


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ProvenanceError("the envelope is not as it must be", code="provenance.envelope", details=what)
