"""The address of a remote repository, as a user may give it on the command line. PURE."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from containai.errors import UsageError
from containai.record import dataclass

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(::|://)")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_PART = re.compile(r"[A-Za-z0-9_~][A-Za-z0-9._~+@=,-]{0,199}")
_MAX = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An HTTPS repository. ``url`` holds no name and no password; ``place`` is where it is kept, as a relative path."""

    url: str
    place: str


def looks_remote(text: str) -> bool:
    """Whether ``text`` is meant as an address (``https://...``, ``ext::...``), not as a path."""
    return _SCHEME.match(text) is not None


def parse_address(text: str) -> Address:
    """Judge an address. Nothing of it is looked up.

    Raises:
        UsageError: It is not plain HTTPS, holds a name or password, or is not well formed. What it says never quotes
            a password.
    """
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[2] != "://" or scheme[1].lower() != "https":
        raise _refused(f"{scheme[1] if scheme else 'this'} is not HTTPS", "https://HOST/PATH, or clone it yourself")
    if len(text) > _MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise _refused("it is too long, or has characters that no address has", "https://HOST/PATH")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _refused("its host or port makes no sense", "https://HOST/PATH") from error
    if "@" in parts.netloc:
        raise _refused(
            "it holds a user name or a password: every user of this machine can read a command line",
            "leave it out, and let git ask your credential helper: git help credentials",
        )
    if "?" in text or "#" in text:
        raise _refused("a repository's address has no '?' and no '#'", "https://HOST/PATH")
    host = (parts.hostname or "").lower()
    names = parts.path.strip("/").split("/")
    if not _HOST.fullmatch(host) or ".." in host or port == 0:
        raise _refused("its host is no host name", "https://HOST/PATH")
    if unquote(parts.path) != parts.path or not all(_PART.fullmatch(name) for name in names):
        raise _refused("its path has parts that no repository has", "https://HOST/OWNER/NAME")
    if names[-1] == ".git" or any(name.lower().endswith((".git", ".lock")) for name in names[:-1]):
        raise _refused("its path leads into a repository", "https://HOST/OWNER/NAME")
    at = host if port in (None, 443) else f"{host}:{port}"
    path = "/".join(names)
    return Address(url=f"https://{at}/{path}", place=f"{at}/{path.removesuffix('.git')}.git")


def _refused(why: str, remedy: str) -> UsageError:
    return UsageError("this address cannot be a source", code="usage.source", details=why, remedy=[remedy])
