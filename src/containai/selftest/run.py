"""The self-test: three sessions at once, as ``containai run`` makes them, whose agents attack.

    first     everything but resources
    limits    resources, with little memory
    ending    a session that does not want to end

The engine and the policy are the user's own. What a session is started with is a command line: nothing here can take a
protection away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from containai.errors import SelfTestError
from containai.host.clock import monotonic_s, now_rfc3339
from containai.host.process import run
from containai.policy.load import load_user, parse_repository
from containai.policy.model import NetworkMode, Policy
from containai.policy.narrow import Flags, narrow
from containai.preflight.facts import Trials
from containai.preflight.report import refuse_if_needed
from containai.record import dataclass
from containai.selftest.catalogue import load_catalogue
from containai.selftest.judge import Session, judge, look
from containai.selftest.result import Finding, SelfTest, Verdict
from containai.selftest.stage import MEMORY_BYTES, PASSED_NAME, SECRET_NAME, Stage, set_stage
from containai.session.engines import ask_docker, images_of, look_at_host, settle_engine
from containai.session.identity import choose_identity

_THEMES = ("kernel", "files", "processes", "network", "credentials", "git", "evidence")
_TIMEOUT_S = 400.0
_ENDING_S, _SLOW_ENDING_S = 4, 60


_ENDING = ("--", "python3", "selftest/ending.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where the self-test takes place.

    Attributes:
        launcher: The words that start ``containai``.
        variables: The user's environment.
    """

    launcher: Sequence[str]
    variables: Mapping[str, str]
    home: Path
    state_dir: Path
    config_file: Path
    docker_host: str = ""


def refuse_unfit_host(ground: Ground, engine: str) -> None:
    """Refuse as the sessions would be refused, before any of them begins.

    Raises:
        PreflightRefused: This host cannot run the engine.
    """
    trials = Trials(choose_identity(), embedded=engine != "docker")
    policy = _policy(ground)
    docker = ask_docker(engine, ground.docker_host, images_of("shell", None), apparmor=trials.apparmor_enabled)
    with_proxy = policy.network.mode is not NetworkMode.NONE
    facts = look_at_host(trials, ground.state_dir, with_proxy=with_proxy, docker=docker)
    refuse_if_needed(facts, settle_engine(engine, facts)[0])


def run_selftest(ground: Ground, engine: str, version: str) -> SelfTest:
    """Attack.

    Raises:
        SelfTestError: A session could not be started: then nothing was tested.
    """
    begun, start = now_rfc3339(), monotonic_s()
    policy = _policy(ground)
    with set_stage(policy, ground.home, ground.state_dir) as stage:
        before = look(stage)
        first = ["--env", PASSED_NAME, "--", *_program(*_THEMES)]
        limits = ["--memory", f"{MEMORY_BYTES // 1024 // 1024}m", "--", *_program("limits")]
        with ThreadPoolExecutor(3) as threads:
            begun_ones = [threads.submit(_session, ground, stage, engine, words) for words in (first, limits)]
            begun_ones.append(threads.submit(_ending, ground, stage, engine))
            sessions = [session.result() for session in begun_ones]
        found = judge(stage, *sessions, before=before, config_dir=ground.config_file.parent)
        for session in sessions:
            _containai(ground, stage, ["remove", session.result["session"], "--force"])
    untried = (Verdict.UNAVAILABLE, "the session ended before it was tried")
    findings = []
    for name, claim in load_catalogue().items():
        verdict, detail = found.get(name, untried)
        findings.append(Finding(id=name, claim=claim, verdict=verdict, detail=detail))
    return SelfTest(
        engine=sessions[0].result["engine"],
        version=version,
        policy_sha256=sessions[0].result["policy_sha256"],
        begun=begun,
        duration_s=monotonic_s() - start,
        findings=tuple(findings),
    )


def _policy(ground: Ground) -> Policy:
    return narrow(load_user(ground.config_file), parse_repository(None), Flags()).policy


def _program(*themes: str) -> list[str]:
    # Honest work first: it must come home whatever the attacks do.
    script = 'echo work > honest-work && exec python3 selftest/main.py "$@"'
    return ["sh", "-c", script, "selftest", *themes]


def _ending(ground: Ground, stage: Stage, engine: str) -> Session:
    """A time limit that is over before the program has begun tests nothing: a slow machine gets a longer one."""
    try:
        return _session(ground, stage, engine, ["--timeout", str(_ENDING_S), *_ENDING])
    except SelfTestError as error:
        if error.code != "selftest.program":
            raise
        return _session(ground, stage, engine, ["--timeout", str(_SLOW_ENDING_S), *_ENDING])


def _session(ground: Ground, stage: Stage, engine: str, words: Sequence[str]) -> Session:
    status, out, said = _containai(ground, stage, ["run", str(stage.repository), "--json", "--engine", engine, *words])
    try:
        result = json.loads(out)
    except ValueError:
        raise SelfTestError(
            "a session of the self-test could not be started, so nothing was tested",
            code="selftest.session",
            details=said[-3000:] or f"status {status}",
            remedy=[f"containai doctor --engine {engine}"],
        ) from None
    heard = dict(_read_said(said.splitlines()))
    if not heard:
        raise SelfTestError(
            "the attacks of a session did not begin, so nothing was tested",
            code="selftest.program",
            details=said[-2000:] or f"status {status}",
            remedy=["the container needs python3, with ctypes"],
        )
    return Session(result=result, said=heard)


def _read_said(lines: Iterable[str]) -> Iterable[tuple[str, tuple[Verdict, str]]]:
    for line in lines:
        if line.startswith('{"selftest": '):
            said = json.loads(line)
            yield said["selftest"], (Verdict(said["outcome"]), said["detail"])


def _containai(ground: Ground, stage: Stage, words: Sequence[str]) -> tuple[int, bytes, str]:
    variables = {**ground.variables, SECRET_NAME: stage.secret, PASSED_NAME: stage.passed}
    done = run([*ground.launcher, *words], env=variables, cwd=stage.repository, timeout_s=_TIMEOUT_S)
    return done.status, done.stdout, done.said
