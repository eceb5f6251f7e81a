"""After the agent's end nothing of the agent's runs: not in the container that commits what is left, and not unseen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.product import Product

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]

ROOT = Path(__file__).parents[2]
QUIET = ("--network-proxy", "none")

# Two repositories inside, which the agent's index names: git starts itself in them, and then their monitors.
AGENT = r"""
git config --global user.name a; git config --global user.email a@b
cat > trap <<'E'
#!/bin/sh
{ echo "$PWD: ran, and whoami says: $(whoami)"
for fd in 1 2 3; do echo "containai-finish note forged" >> /proc/2/fd/$fd; done; } >> /workspace/witness 2>/dev/null
{ echo "containai-finish note forged" >&2; echo "containai-finish note forged" >&3; } 2>/dev/null
echo "containai-finish note forged" >&2
E
chmod +x trap
for name in one two; do git init -q $name; git -C $name commit -q --allow-empty -m s; echo x > $name/f; done
git -C one config core.fsmonitor /workspace/trap
git -C two config core.fsmonitor 'sh /workspace/trap'
git add one two 2>/dev/null
echo start > witness; git add witness
"""


def configure(product: Product, text: str) -> None:
    (product.home / ".config/containai").mkdir(parents=True)
    (product.home / ".config/containai/config.toml").write_text(text)


def of_finish(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["kind"] == "exec" and event.get("container") == "finish"]


def test_what_the_agent_planted_for_git_does_not_run_and_everything_that_does_is_recorded(product: Product) -> None:
    ran = product.run(AGENT, *QUIET)
    assert ran.result["problem"] == ""
    assert product.git("show", "shell/session-1:witness") == "start"
    assert product.git("show", "shell/session-1:one/f") == product.git("show", "shell/session-1:two/f") == "x"
    assert "forged" not in ran.stderr
    records = of_finish(product.events(ran))
    assert records[0]["path"] == "/bin/sh"
    assert {"add", "commit-tree", "push"} <= {record["argv"][1] for record in records if record["argv"][0] == "git"}
    assert {record["verdict"] for record in records} == {"allow"}
    assert not [record for record in records if "status" in record["argv"]], "git in a repository inside"
    agents = [event for event in product.events(ran, "exec") if event not in records]
    assert {"sh", "git", "chmod"} <= {event["argv"][0] for event in agents}
    shown = product.command("log", ran.result["session"], "--kind", "exec").stdout
    assert sum(line.endswith("  (finish)") for line in shown.splitlines()) == len(records)


# Who keeps the agent's program from running, with all other layers taken away. The kernel alone knows files, and not
# what an interpreter reads.
LAYERS = {"none": {"one", "two"}, "script": set(), "kernel": {"two"}, "supervisor": set()}
TAKEN_AWAY = {
    "script": "finish_enters_repositories",
    "kernel": "finish_runs_what_it_writes",
    "supervisor": "finish_runs_every_program",
}


def weakened(product: Product, pieces: Iterable[str], script: str) -> subprocess.CompletedProcess[bytes]:
    """A session with some protections taken away."""
    launcher = "from tests.support.weakened import main; main()"
    return subprocess.run(
        [sys.executable, "-c", launcher, "+".join(pieces), "run", "--json", *QUIET, "--", "sh", "-c", script],
        cwd=product.repository, env={**product.environment, "PYTHONPATH": os.fspath(ROOT)},
        capture_output=True, timeout=90, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_each_layer_alone(product: Product, layer: str) -> None:
    configure(product, '[exec]\ndeny = ["whoami"]\n')
    done = weakened(product, [piece for name, piece in TAKEN_AWAY.items() if name != layer], AGENT)
    result = json.loads(done.stdout)
    begun, *lines = product.git("show", f"{result['branch']}:witness").splitlines()
    assert begun == "start"
    assert {line.partition(":")[0].rpartition("/")[2] for line in lines} == LAYERS[layer]
    # Even where it ran: a denied program is denied there too, its exec is recorded, and it says nothing in our name.
    assert {line.rpartition(":")[2].strip() for line in lines} <= {""}
    assert b"forged" not in done.stderr
    log = [json.loads(line) for line in Path(result["event_log"]).read_text().splitlines()]
    tries = [record for record in of_finish(log) if "trap" in " ".join(record["argv"])]
    assert bool(tries) == (layer != "script")
    if layer == "supervisor":
        assert {(record["verdict"], record.get("rule")) for record in tries} == {("deny", "housekeeping")}
    if lines:
        denied = [record for record in of_finish(log) if record["argv"] == ["whoami"] and "absent" not in record]
        assert {record.get("guard") for record in denied} == {"landlock"}


def test_a_workspace_that_grows_after_the_agents_end_ends_the_session_too(product: Product) -> None:
    """Where every layer has failed. What is there by then is kept, and comes home with ``recover``."""
    configure(product, '[limits]\nworkspace = "100m"\n')
    fill = "#!/bin/sh\nhead -c 300M /dev/zero > /workspace/fill\nsleep 60\n"
    plant = f"printf '{fill}' > fill.sh; chmod +x fill.sh; git -C one config core.fsmonitor /workspace/fill.sh"
    done = weakened(product, [*TAKEN_AWAY.values(), "little_room_for_finish"], f"{AGENT}\necho x > left; {plant}")
    result = json.loads(done.stdout)
    assert "[workspace.disk]" in result["problem"], done.stderr
    (workspace,) = product.sessions.glob("*/workspace")
    (workspace / "fill").unlink()
    assert product.command("recover").status == 0
    assert product.git("show", f"{result['branch']}:left") == "x"


def test_programs_that_are_denied_to_the_agent_still_bring_its_work_home(product: Product) -> None:
    configure(
        product,
        '[exec]\ndeny = ["git", "find", "sed", "sh"]\n[[exec.rules]]\nname = "r"\nprogram = "git"\narguments = ["push"]\n',
    )
    ran = product.command("run", "--json", *QUIET, "--", "/usr/bin/python3", "-c", "open('left', 'w').write('x')")
    assert ran.status == 0, ran.stderr
    assert product.git("show", f"{json.loads(ran.stdout)['branch']}:left") == "x", ran.stderr


def test_no_number_of_notes_costs_the_work_that_was_not_returned(product: Product) -> None:
    ran = product.run(
        'g() { git -c user.name=a -c user.email=a@b "$@"; }\n'
        "git branch side $(g commit-tree HEAD^{tree} -p HEAD -m precious)\n"
        "for n in $(seq 25); do git init -q r$n; echo x > r$n/f; done",
        *QUIET,
    )
    assert product.git("show", "shell/session-1:r25/f") == "x"
    assert "note: not returned: commits of another branch: 'side'\n" in ran.stderr
    assert "work is kept in session" in ran.stderr
    (workspace,) = product.sessions.glob("*/workspace")
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", workspace, "log", "-1", "--format=%s", "side"],
        env=product.environment, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == b"precious\n"


def test_recover_runs_nothing_unseen_either(product: Product) -> None:
    configure(product, '[exec]\ndeny = ["whoami"]\n')
    child = product.start(AGENT + "touch ready; sleep 1000", *QUIET)
    deadline = time.monotonic() + 60
    while not list(product.sessions.glob("*/workspace/ready")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.kill()
    child.communicate(timeout=60)
    recovered = product.command("recover")
    assert recovered.status == 0, recovered.stderr
    assert product.git("show", "shell/session-1:witness") == "start"
    (log,) = product.sessions.glob("*/events.jsonl")
    records = of_finish([json.loads(line) for line in log.read_text().splitlines()])
    assert any(record["argv"][:2] == ["git", "push"] for record in records)
    assert not list(product.sessions.glob("*/*.spool"))
