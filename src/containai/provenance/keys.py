"""The key that signs statements, and the keys that are trusted.

    <config>/keys/provenance.pem       the private key, made at first use, mode 0600
    <config>/trusted-keys/*.pub        public keys of others (PEM)

A key is Ed25519. Its id is the SHA-256 of its public key's DER form:
``openssl pkey -pubin -in FILE -outform der | sha256sum``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from containai.errors import ProvenanceError
from containai.record import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib.signer import CryptoSigner, SSlibKey

_NAME = "provenance.pem"
_MAX_BYTES = 64 * 1024
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key whose statements count, and where it came from."""

    key_id: str
    origin: str
    public: SSlibKey


def load_signer(config_dir: Path) -> CryptoSigner:
    """The user's own key; made if there is none. Safe against others who make it at the same moment.

    Raises:
        ProvenanceError: It cannot be made, or others could have read or put it there.
    """
    try:
        (config_dir / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
        with _open_directory(config_dir / "keys") as directory:
            pem = _read_private(directory)
            if pem is None:
                _make(directory)
                pem = _read_private(directory)
    except OSError as error:
        raise ProvenanceError(
            "the signing key cannot be used",
            code="provenance.key-unusable",
            details=str(error),
            remedy=[f"ls -ld {config_dir / 'keys'}", "df -h: is there room?"],
        ) from error
    assert pem is not None
    return _signer(pem)


def public_pem(config_dir: Path) -> str:
    """The public half of the user's own key, to be given to those who verify."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = load_signer(config_dir).public_key._crypto_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def trusted_keys(config_dir: Path, named: Sequence[Path]) -> dict[str, TrustedKey]:
    """The keys that count, by id: those of ``named`` files alone, or else the user's own and ``trusted-keys/*.pub``.

    Raises:
        ProvenanceError: A key file cannot be used, or there is no key at all.
    """
    keys = [_read_public(path, _anyone) for path in named] if named else _configured(config_dir)
    if not keys:
        raise ProvenanceError(
            "there is no key to verify with",
            code="provenance.no-key",
            details=f"none was given, and {config_dir} has none",
            remedy=["containai provenance verify --key FILE COMMIT"],
        )
    return {key.key_id: key for key in keys}


def _configured(config_dir: Path) -> list[TrustedKey]:
    keys = []
    with contextlib.suppress(FileNotFoundError):
        with _open_directory(config_dir / "keys") as directory:
            pem = _read_private(directory)
        if pem is not None:
            public = _signer(pem).public_key
            keys.append(TrustedKey(key_id=public.keyid, origin="your own key", public=public))
    others = sorted((config_dir / "trusted-keys").glob("*.pub"))
    return keys + [_read_public(path, _unwritable_by_others) for path in others]


@contextlib.contextmanager
def _open_directory(path: Path) -> Iterator[int]:
    """The directory of the private key: the user's own, not a link, written by nobody else."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        entry = os.fstat(fd)
        if entry.st_uid != os.geteuid():
            raise _refused(path, "it belongs to another user", f"chown {os.geteuid()} {path}")
        if entry.st_mode & 0o022:
            raise _refused(path, "others can write the directory", f"chmod 700 {path}")
        yield fd
    finally:
        os.close(fd)


def _read_private(directory: int) -> bytes | None:
    """The private key's file, if there is one that nobody else could have read or written."""
    try:
        return _read(_NAME, _private, directory)
    except FileNotFoundError:
        return None


def _make(directory: int) -> None:
    """Make a key under another name, and give it its name only if there is none by then."""
    from securesystemslib.signer import CryptoSigner

    temporary = f".{_NAME}.{secrets.token_hex(8)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(CryptoSigner.generate_ed25519().private_bytes)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another launch was first: its key is the key
            os.link(temporary, _NAME, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.unlink(temporary, dir_fd=directory)
    os.fsync(directory)


def _signer(pem: bytes) -> CryptoSigner:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        private = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key("keys/provenance.pem", str(error)) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _no_key("keys/provenance.pem", "an Ed25519 key is expected")
    return CryptoSigner(private, _named(private.public_key()))


def _read_public(path: Path, check: Callable[[str, os.stat_result], None]) -> TrustedKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(_read(os.fspath(path), check))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _no_key(os.fspath(path), str(error)) from error
    if not isinstance(public, Ed25519PublicKey):
        raise _no_key(os.fspath(path), "an Ed25519 key is expected")
    named = _named(public)
    return TrustedKey(key_id=named.keyid, origin=path.name, public=named)


def _named(public: Ed25519PublicKey) -> SSlibKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from securesystemslib.signer import SSlibKey

    encoded = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SSlibKey.from_crypto(public, hashlib.sha256(encoded).hexdigest())


def _read(path: str, check: Callable[[str, os.stat_result], None], directory: int | None = None) -> bytes:
    """The bytes of a file that ``check`` accepts. The file that is judged is the file that is read."""
    try:
        # A file that somebody names himself may be a link; those that are found may not.
        flags = _FLAGS & ~os.O_NOFOLLOW if check is _anyone else _FLAGS
        fd = os.open(path, flags, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(path, "it is a symbolic link", f"replace {path} by the file itself") from error
        raise
    entry = os.fstat(fd)
    if not stat.S_ISREG(entry.st_mode):
        os.close(fd)
        raise _refused(path, "it is no regular file", f"replace {path} by a file")
    with os.fdopen(fd, "rb") as file:
        check(path, entry)
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise _no_key(path, "the file is too large")
    return content


def _anyone(path: str, entry: os.stat_result) -> None:
    """No demand: the user has named this file himself."""


def _unwritable_by_others(path: str, entry: os.stat_result) -> None:
    if entry.st_uid not in (os.geteuid(), 0):
        raise _refused(path, "it belongs to another user", f"chown {os.geteuid()} {path}")
    if entry.st_mode & 0o022:
        raise _refused(path, "others can write it", f"chmod go-w {path}")


def _private(path: str, entry: os.stat_result) -> None:
    if entry.st_uid != os.geteuid():
        raise _refused(path, "it belongs to another user", f"remove keys/{path}; a new key is made at the next use")
    if entry.st_mode & 0o077:
        raise _refused(
            path,
            f"its mode is {stat.S_IMODE(entry.st_mode):04o}: others can read or write it",
            f"if nobody has: chmod 600 keys/{path}; else remove it, and a new key is made",
        )


def _refused(path: str | Path, why: str, remedy: str) -> ProvenanceError:
    return ProvenanceError(
        "a key file cannot be trusted", code="provenance.key-permissions", details=f"{path}: {why}", remedy=[remedy]
    )


def _no_key(path: str, why: str) -> ProvenanceError:
    return ProvenanceError(
        "a key file cannot be read as a key",
        code="provenance.key",
        details=f"{path}: {why}",
        remedy=["containai provenance key # what a public key looks like"],
    )
