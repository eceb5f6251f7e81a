"""Rules for every test: what it needs of the machine, and that nothing is skipped in silence."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.support import features
from tests.support.users import OrdinaryUser, ordinary_user

# The same examples on every fast run, so that a red run is about the change; new and many ones in depth.
settings.register_profile("fast", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("fast")

_unavailable: list[tuple[str, str]] = []


def _needs(item: pytest.Item) -> tuple[str, ...]:
    return tuple(name for mark in item.iter_markers("needs") for name in mark.args)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a name that no probe knows: it would be a skip for ever."""
    unknown = {name for item in items for name in _needs(item)} - set(features.PROBES)
    if unknown:
        raise pytest.UsageError(f"@needs: unknown to tests/support/features.py: {', '.join(sorted(unknown))}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose features are not all here, naming those."""
    absent = features.missing(_needs(item))
    if absent:
        pytest.skip(f"this machine has no {', '.join(absent)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where the machine has all that the test asked for."""
    report = yield
    needed = _needs(item)
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if needed and not features.missing(needed):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} skipped itself ({reason}), but this machine has {', '.join(needed)}"
        else:
            _unavailable.append((item.nodeid, reason.removeprefix("Skipped: ")))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each test that could not run here, with its reason."""
    if _unavailable:
        terminalreporter.section("could not run here")
        for name, reason in _unavailable:
            terminalreporter.line(f"{name}: {reason}")


@pytest.fixture(scope="session")
def ordinary() -> OrdinaryUser:
    """An ordinary user: the caller, or ``containai-test`` for root."""
    user = ordinary_user()
    if user is None:
        pytest.skip("no ordinary user could be made")
    return user
