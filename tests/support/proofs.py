"""Where each attack of the self-test has been seen to succeed: the runs, what is taken away in them, and what gets through.

An attack stands in ``RUNS`` or in ``EXCEPTIONS``, never in neither: ``tests/e2e/test_selftest_proofs.py`` compares this with
the catalogue, and each run with what it is said to show. docs/selftest.md has its numbers from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from containai.selftest.run import _THEMES

LOOKED_AT = "the kernel looked at it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Sessions of the self-test without some protections.

    Attributes:
        pieces: What is taken away, by names of ``tests/support/weakening.py``.
        sessions: Those of the self-test's three that take place.
        attacks: Those that get through, by theme.
        bare: Whether there is no container: only on a machine that is thrown away.
    """

    pieces: tuple[str, ...]
    attacks: Mapping[str, str]
    sessions: tuple[str, ...] = ("first",)
    themes: tuple[str, ...] = _THEMES
    bare: bool = False

    @property
    def proven(self) -> frozenset[str]:
        """The attacks' ids."""
        return frozenset(f"{theme}.{name}" for theme, names in self.attacks.items() for name in names.split())


# Nothing but namespaces and mounts is left; inside, the agent is root.
NO_GUARDS = Run(
    pieces=(
        *("unguarded", "every_capability", "the_hosts_ipc", "the_hosts_files", "no_limits"),
        *("the_launchers_environment", "the_users_password"),
    ),
    sessions=("first", "limits"),
    attacks={
        "kernel": "unshare-user unshare-mount unshare-pid unshare-network unshare-ipc unshare-uts unshare-cgroup"
        " clone-user-namespace clone3 mount fsopen open-tree umount2 chroot io-uring-setup perf-event-open keyctl add-key"
        " request-key sethostname userfaultfd name-to-handle-at memfd-secret quotactl personality move-mount pivot-root"
        " setns second-supervisor tiocsti tiocsetd socket-raw socket-packet socket-vsock socket-netfilter become-root"
        " capabilities i386-calls",
        "files": "read-canary host-tmp through-a-link through-the-root-of-process-1 memory-of-process-1"
        " descriptors-of-process-1 proc-oom-score",
        "processes": "trace-process-1 read-process-1 write-process-1 descriptors-of-process-1 compare-with-process-1"
        " shared-memory-of-the-host socket-file-of-the-host core-dump namespaces-of-the-host",
        "network": "proxy-variables",
        "credentials": "variables-of-the-launcher ssh-auth-sock gpg-agent-info dbus-session-bus-address display"
        " wayland-display home git-helper",
        "limits": "processes memory open-files tmp home shared-memory run flood-of-execs",
        "evidence": "plain-exec exec-of-a-script exec-from-memory exec-by-descriptor exec-by-the-loader"
        " exec-through-the-root-link exec-of-a-copy exec-by-a-thread exec-without-arguments-in-reach"
        " exec-from-memory-that-is-not-read exec-by-a-process-that-is-not-read exec-under-a-false-name",
    },
)

# In a small internet of the test's own: the agent has the launcher's network, the proxy and git refuse nothing.
OPEN_NETWORK = Run(
    pieces=("no_landlock", "the_launchers_network", "open_proxy", "credulous_relay", "any_git"),
    attacks={
        "processes": "abstract-socket-of-the-host",
        "network": "loopback-of-the-host loopback-of-the-host-ipv6 straight-out straight-out-ipv6 dns-by-udp"
        " name-resolution broadcast interfaces squid-itself proxy-unlisted-host proxy-unlisted-host-plain"
        " proxy-metadata-service proxy-address-literal proxy-host-by-address proxy-host-by-name"
        " proxy-host-by-name-with-dot proxy-host-by-number proxy-host-by-octal proxy-host-by-zero proxy-host-by-ipv6"
        " proxy-host-by-mapped-ipv6 proxy-host-by-tunnel proxy-two-names proxy-credentials-in-name proxy-name-as-suffix"
        " proxy-other-port proxy-mail-port proxy-manager proxy-ftp proxy-trace proxy-forged-sender proxy-smuggled"
        " seen-from-the-host refusals-recorded",
        "git": "push-main push-another-branch push-a-tag push-notes push-odd-ref delete-the-branch delete-main mirror"
        " fetch-another-branch fetch-a-hidden-commit archive another-repository the-hosts-repository read-a-hidden-object"
        " push-a-git-folder push-a-twin-by-case push-a-twin-by-unicode push-a-twin-on-windows push-a-path-upwards",
    },
)

# One thing at a time, as far as the attacks on each show it: the filter alone, each line of the quarantine's
# configuration, the log's chain, the return.
SINGLE_LAYERS = Run(
    pieces=(
        *("no_seccomp", "a_granted_service", "open_quarantine", "generous_quarantine", "unchecked_objects"),
        *("no_chain", "careless_return", "records_with_secrets"),
        *("finish_enters_repositories", "finish_runs_every_program"),
    ),
    attacks={
        "kernel": "clone3 io-uring-setup keyctl memfd-secret i386-calls personality tiocsetd socket-vsock socket-netfilter",
        "network": "loopback-of-the-host seen-from-the-host",
        "credentials": "secret-on-disk passed-value-on-disk",
        "git": "push-main push-another-branch push-a-tag push-notes mirror fetch-a-hidden-commit read-a-hidden-object"
        " push-a-git-folder push-a-twin-by-case push-a-twin-by-unicode push-a-twin-on-windows push-a-path-upwards"
        " plant-a-hook refs-of-the-host working-tree configuration",
        "evidence": "chain statement plant-for-the-last-commit",
    },
)

FORGETFUL = Run(
    pieces=("no_refusal_records", "no_return", "no_clearing", "no_time_limit", "short_output"),
    sessions=("first", "limits", "ending"),
    attacks={
        "network": "refusals-recorded",
        "git": "work-came-home push-recorded",
        "limits": "flood-of-output",
        "evidence": "from-beginning-to-end",
        "ending": "time-limit work-of-the-last-moment nothing-left",
    },
)

# No container: the agent is root on the host, which is a virtual machine for that reason.
BARE = Run(
    pieces=("no_container", "unguarded"),
    bare=True,
    themes=("kernel", "files", "processes", "credentials", "evidence"),
    attacks={
        "kernel": "bpf kexec-load init-module finit-module reboot clock-settime settimeofday open-by-handle-at"
        " fanotify-init swapon acct iopl ioperm syslog vhangup tioclinux socket-alg device-node become-root"
        " capabilities no-new-privileges mount",
        "files": "read-home read-state read-shadow write-usr write-etc write-root write-git write-passwd proc-core-pattern"
        " proc-sysrq proc-modprobe proc-kcore proc-kallsyms proc-keys block-devices sys control-groups socket-docker"
        " socket-containerd socket-dbus socket-systemd set-user-id set-user-id-of-the-system hard-link-out device-mounts"
        " above-the-workspace",
        "processes": "see-the-host kill-the-hosts real-time higher-priority raise-a-limit namespaces-of-the-host",
        "credentials": "variables-of-the-launcher key-of-the-proxy",
        "evidence": "read-the-log write-the-log",
    },
)

# No container, as an ordinary user who has other processes there.
OF_ITS_USER = Run(
    pieces=("no_container_for_a_shared_user", "unguarded"),
    bare=True,
    sessions=("ending",),
    attacks={"ending": "kill-everything"},
)

RUNS: Mapping[str, Run] = {
    "no-guards": NO_GUARDS,
    "open-network": OPEN_NETWORK,
    "single-layers": SINGLE_LAYERS,
    "forgetful": FORGETFUL,
    "bare": BARE,
    "of-its-user": OF_ITS_USER,
}

# The judge's own look at copies of a log: seen to fail in a test that takes the look away, without a session.
BY_THE_JUDGE = frozenset({"evidence.edited", "evidence.removed", "evidence.swapped", "evidence.cut"})

# A call whose success would be the damage: that the kernel has begun to read what it was given says that nothing forbids it.
ENOUGH_IF_LOOKED_AT = frozenset({"kernel.init-module", "kernel.finit-module"})

# What nothing that can be taken away stands for.
EXCEPTIONS: Mapping[str, str] = {
    "processes.kill-process-1": "the kernel drops a signal to the first process of a PID namespace from inside it",
    "kernel.x32-calls": "no kernel at hand carries such calls out: Debian's is built without CONFIG_X86_X32_ABI",
}


def proven() -> frozenset[str]:
    """Every attack that some test sees succeed."""
    return BY_THE_JUDGE.union(*(run.proven for run in RUNS.values()))


def unproven(run: Run, broken: Mapping[str, str]) -> dict[str, str]:
    """The attacks of a run that have not got through as they should, and what was said of each instead."""
    return {
        name: broken.get(name, "not broken")
        for name in sorted(run.proven)
        if name not in broken or (broken[name].startswith(LOOKED_AT) and name not in ENOUGH_IF_LOOKED_AT)
    }
