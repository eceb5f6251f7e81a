"""The self-test on this machine, and the proof that it can fail: each protection taken away is noticed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import pytest

from containai.provenance.keys import trusted_keys
from containai.selftest import judge
from containai.selftest.catalogue import load_catalogue
from containai.selftest.result import SelfTest, Verdict, read_signed
from containai.selftest.run import Ground, run_selftest
from tests.support.product import Product

ROOT = Path(__file__).resolve().parents[2]
WEAKENED = "from tests.support.weakened import main; main()"


@pytest.mark.user
def test_every_attack_is_held(product: Product) -> None:
    done = product.command("selftest", "--json", timeout_s=110)
    found = json.loads(done.stdout)
    assert found["failed"] == []
    # Whatever cannot be tried says why; on this kernel everything can.
    assert found["unavailable"] == []
    assert {attack["id"] for attack in found["passed"]} == set(load_catalogue())
    assert len(found["passed"]) >= 80
    assert done.status == 0, done.stderr
    signed = read_signed(Path(found.pop("signed")), trusted_keys(product.home / ".config/containai", []))
    assert signed == found
    assert list(product.sessions.iterdir()) == []  # its sessions are not kept among the user's


def test_a_session_that_cannot_start_tests_nothing(product: Product) -> None:
    refused = product.command("selftest", "--engine", "docker")
    assert refused.status not in (0, 1)
    assert "held" not in refused.stdout


def test_the_catalogue_is_what_is_attacked() -> None:
    """No attack without a claim, no claim without an attack."""
    inside = set()
    place = resources.files("containai.data") / "selftest"
    for theme in ("kernel", "files", "processes", "network", "credentials", "git", "limits", "evidence"):
        assert (place / f"{theme}.py").is_file()
        inside.add(theme)
    assert {name.partition(".")[0] for name in load_catalogue()} == {*inside, "ending"}


# The protection, and attacks that get through without it. What no single protection stands for is listed in docs/selftest.md.
BROKEN = {
    "no_seccomp": {
        *("kernel.unshare-user", "kernel.clone3", "kernel.io-uring-setup", "kernel.i386-calls", "kernel.personality"),
        *("kernel.tiocsetd", "kernel.socket-vsock", "kernel.socket-netfilter", "kernel.keyctl", "kernel.memfd-secret"),
    },
    "no_landlock": {"files.proc-oom-score"},
    "the_hosts_tmp": {
        *("files.read-canary", "files.host-tmp", "processes.socket-file-of-the-host"),
    },
    "the_hosts_ipc": {"processes.shared-memory-of-the-host", "processes.namespaces-of-the-host"},
    "open_proxy": {
        *("network.proxy-unlisted-host", "network.proxy-host-by-address", "network.proxy-host-by-tunnel"),
        *("network.seen-from-the-host", "network.refusals-recorded"),
    },
    "open_quarantine": {"git.push-another-branch", "git.push-a-tag", "git.push-notes", "git.mirror"},
    "generous_quarantine": {"git.fetch-a-hidden-commit", "git.read-a-hidden-object"},
    "unchecked_objects": {"git.push-a-git-folder", "git.push-a-twin-by-case", "git.push-a-path-upwards"},
    "no_limits": {"limits.processes", "limits.memory", "limits.tmp", "limits.home", "limits.shared-memory"},
    "the_launchers_environment": {
        *("credentials.variables-of-the-launcher", "credentials.ssh-auth-sock", "credentials.gpg-agent-info"),
        *("credentials.dbus-session-bus-address", "credentials.display", "credentials.wayland-display"),
    },
    "a_granted_service": {"network.loopback-of-the-host", "network.seen-from-the-host"},
    "no_refusal_records": {"network.refusals-recorded", "git.push-recorded", "evidence.from-beginning-to-end"},
    "no_exec_records": {"evidence.plain-exec", "evidence.exec-from-memory", "evidence.exec-by-a-thread"},
    "records_with_secrets": {"credentials.secret-on-disk", "credentials.passed-value-on-disk"},
    "no_chain": {"evidence.chain", "evidence.statement"},
    "no_statement": {"evidence.statement"},
    "careless_return": {"git.refs-of-the-host", "git.working-tree", "git.configuration", "git.plant-a-hook"},
    "no_return": {"git.work-came-home", "ending.work-of-the-last-moment"},
}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("protection", BROKEN)
def test_without_a_protection_the_attack_gets_through(product: Product, protection: str) -> None:
    test = weakened(product, protection)
    broken = {finding.id for finding in test.of(Verdict.BROKEN)}
    print(protection, sorted(broken))
    print({finding.id: finding.detail for finding in test.of(Verdict.UNAVAILABLE)})
    assert broken >= BROKEN[protection]


def test_without_the_check_of_the_chain_a_forged_log_passes(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "find_break", lambda _: None)
    ground = ground_of(product, (sys.executable, "-m", "containai"))
    broken = {finding.id for finding in run_selftest(ground, "embedded", "test").of(Verdict.BROKEN)}
    assert broken == {"evidence.edited", "evidence.removed", "evidence.swapped"}


def weakened(product: Product, protection: str) -> SelfTest:
    return run_selftest(ground_of(product, (sys.executable, "-c", WEAKENED, protection)), "embedded", "test")


def ground_of(product: Product, launcher: Sequence[str]) -> Ground:
    return Ground(
        launcher=launcher,
        variables={**product.environment, "PYTHONPATH": os.fspath(ROOT)},
        home=product.home,
        state_dir=product.home / "state/containai",
        config_file=product.home / ".config/containai/config.toml",
    )
