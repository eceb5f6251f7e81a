"""From what the user asked for to the source: the repository, its commit, and what of it is copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from containai.plan.model import Source
from containai.plan.request import RunRequest
from containai.record import replace
from containai.workspace.source import resolve_source
from containai.workspace.sparse import choose_sparse


def choose_source(request: RunRequest, user: Mapping[str, str], state_dir: Path) -> Source:
    """Find the source and decide what is copied. Writes nothing but, with ``--with-changes``, objects of git.

    Args:
        user: The launcher's environment (``run_git_as_user``).

    Raises:
        WorkspaceError: There is no usable repository, or something that was asked for cannot be taken.
        UsageError: A path makes no sense in it.
    """
    # Imported where needed: most launches use none of it.
    source = _found(request, user, state_dir)
    if request.with_changes:
        from containai.workspace.changes import take_changes

        source = take_changes(source, user)
    if request.with_submodules:
        from containai.workspace.submodules import find_submodules

        source = find_submodules(source)
    if request.with_lfs:
        source = replace(source, lfs=True)
    source = choose_sparse(source, request.sparse, user)
    if request.included:
        from containai.workspace.include import check_included

        source = check_included(source, request.included, request.source.resolve(), user)
    return source


def _found(request: RunRequest, user: Mapping[str, str], state_dir: Path) -> Source:
    if request.address is None:
        return resolve_source(request.source, user=user, state_dir=state_dir)
    from containai.workspace.remote import fetch_source

    return fetch_source(request.address, user, state_dir)
