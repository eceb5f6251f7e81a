"""How many files this process may have open: enough for what a session's guards need at once."""

from __future__ import annotations

import resource

_WANTED = 8192  # what tables its user's programs size by the limit, they size by this one


def allow_many() -> None:
    """Raise the soft limit of this process, and of the children to come, as far as the hard one lets it.

    The agent's own limit is set inside, by ``containai-shim``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def allowed() -> int:
    """The soft limit."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _WANTED if soft == resource.RLIM_INFINITY else soft
