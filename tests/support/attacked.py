"""Sessions of the self-test on a product from which protections were taken away, and what came of their attacks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from containai.errors import SelfTestError
from containai.policy.load import load_user, parse_repository
from containai.policy.narrow import Flags, narrow
from containai.selftest import run as selftest
from containai.selftest.judge import Said, judge, look
from containai.selftest.result import Verdict
from containai.selftest.run import Ground
from containai.selftest.stage import MEMORY_BYTES, PASSED_NAME, set_stage
from tests.support.product import Product
from tests.support.weak_container import few_files_of

ROOT = Path(__file__).resolve().parents[2]
WEAKENED = "from tests.support.weakened import main; main()"
LATER = ("limits", "ending")  # themes that have a session of their own


def ground_of(product: Product, pieces: Collection[str], more: Mapping[str, str] | None = None) -> Ground:
    """The self-test's ground: a launcher without these protections."""
    return Ground(
        launcher=(sys.executable, "-c", WEAKENED, "+".join(pieces)),
        variables={**product.environment, "PYTHONPATH": os.fspath(ROOT), **(more or {})},
        home=product.home,
        state_dir=product.home / "state/containai",
        config_file=product.home / ".config/containai/config.toml",
    )


def attacked(
    ground: Ground, sessions: Collection[str] = ("first", *LATER), themes: Collection[str] = selftest._THEMES
) -> dict[str, Said]:
    """What came of the attacks of these sessions, all at once; of the first one's, of these themes."""
    policy = narrow(load_user(ground.config_file), parse_repository(None), Flags()).policy
    policy = replace(policy, limits=replace(policy.limits, open_files=few_files_of(policy.limits.open_files)))
    with set_stage(policy, ground.home, ground.state_dir) as stage:
        before = look(stage)
        words = {
            "first": ["--env", PASSED_NAME, "--", *selftest._program(*themes)],
            "limits": ["--memory", f"{MEMORY_BYTES // 1024 // 1024}m", "--", *selftest._program("limits")],
        }
        with ThreadPoolExecutor(3) as threads:
            begun = {
                name: threads.submit(selftest._session, ground, stage, "embedded", words[name])
                if name in words
                else threads.submit(selftest._ending, ground, stage, "embedded")
                for name in sessions
            }
        try:
            made = {name: session.result() for name, session in begun.items()}
        except SelfTestError as error:
            raise AssertionError(f"{error.summary}: {error.details}") from error
        any_one = next(iter(made.values()))
        order = [made.get(name, any_one) for name in ("first", *LATER)]
        found = judge(stage, *order, before=before, config_dir=ground.config_file.parent)
    # What the judge says about a session that there was not is about another one.
    return {name: said for name, said in found.items() if _session_of(name) in made}


def _session_of(attack: str) -> str:
    theme = attack.partition(".")[0]
    return theme if theme in LATER else "first"


def broken(found: Mapping[str, Said]) -> dict[str, str]:
    """The attacks that got through, and what they say of it."""
    return {name: detail for name, (verdict, detail) in found.items() if verdict is Verdict.BROKEN}


def build_unguarded(folder: Path) -> Path:
    """``containai-shim`` with ``tests/support/unguarded.c`` in the place of its guards, compiled in two pieces: in a moment."""
    program, tether = folder / "unguarded", folder / "tether.o"
    compiler = ["cc", "-static", "-pthread", "-D_GNU_SOURCE=", f"-I{ROOT}/native"]
    others = [path for path in sorted(ROOT.glob("native/*.c")) if path.name not in ("guard.c", "tether.c")]
    together = [word for path in others for word in ("-include", str(path))]
    for command in (
        [*compiler, "-c", "-o", str(tether), f"{ROOT}/native/tether.c"],
        [*compiler, "-o", str(program), *together, f"{ROOT}/tests/support/unguarded.c", str(tether)],
    ):
        subprocess.run(command, check=True, timeout=120)
    return program
