"""What is built, in which order and from which pins; the daemon's part is played by a recorder."""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from containai.agents.load import load_adapter
from containai.errors import ContainaiError, EngineError, UsageError
from containai.images import build as building
from containai.images.build import DATA, Options, build_images, find_registry, recipes

pytestmark = pytest.mark.user
REGISTRY = "https://npm.example/"


def test_the_base_comes_first_and_an_agents_image_has_its_tested_version() -> None:
    base, codex = recipes(["codex"], "debian:13", REGISTRY)
    assert (base.tag, base.arguments) == (
        "containai-base:latest",
        {"BASE_IMAGE": "debian:13", "NPM_REGISTRY": "https://npm.example"},
    )
    adapter = load_adapter("codex")
    assert codex.tag == "containai-codex:latest"
    assert codex.arguments["PACKAGES"] == f"@openai/codex@{adapter.tested_version}"
    assert codex.arguments["BINARIES"] == "codex"
    assert codex.arguments["NPM_REGISTRY"] == "https://npm.example"


@pytest.mark.parametrize("names", [[], ["all"], ["containai"]])
def test_without_a_name_all_agents_are_in_one_image(names: list[str]) -> None:
    _, everything = recipes(names, "ubuntu:24.04", REGISTRY)
    assert everything.tag == "containai:latest"
    assert everything.arguments["BINARIES"] == "claude codex copilot"


def test_names_with_and_without_the_prefix_are_one() -> None:
    assert recipes(["containai-claude", "claude"], "x", REGISTRY) == recipes(["claude"], "x", REGISTRY)
    assert [recipe.tag for recipe in recipes(["base"], "x", REGISTRY)] == ["containai-base:latest"]


@pytest.mark.parametrize("name", ["proxy", "../base", "Claude", ""])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        recipes([name], "x", REGISTRY)
    assert refused.value.code == "image.unknown"


class Recorder:
    """Stands for the daemon."""

    def __init__(self, broken: str = "") -> None:
        self.built: list[tuple[str, Mapping[str, str], list[str]]] = []
        self.broken = broken

    def build(self, context: bytes, tag: str, arguments: Mapping[str, str], _network: str) -> Iterator[str]:
        with tarfile.open(fileobj=io.BytesIO(context)) as archive:
            self.built.append((tag, arguments, archive.getnames()))
        if tag == self.broken:
            raise EngineError("it broke", code="image.build")
        yield "Step 1/1"

    def about(self) -> tuple[str, str]:
        return "Docker", "26.0"

    def image(self, reference: str) -> dict[str, Any]:
        return {"Id": f"sha256:{reference}"}


def test_a_certificate_goes_into_the_base_and_nothing_else_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corporate.crt").write_text("PEM")
    daemon = Recorder()
    monkeypatch.setattr(building, "Daemon", lambda: daemon)
    said: list[str] = []
    built = build_images(
        ["claude"], Options(npm_registry=REGISTRY, certificates=(tmp_path / "corporate.crt",)), said.append
    )
    assert built == {
        "containai-base:latest": "sha256:containai-base:latest",
        "containai-claude:latest": "sha256:containai-claude:latest",
    }
    (_, _, base), (_, _, agent) = daemon.built
    assert set(base) == {"Dockerfile", "install.sh", "needed.txt", "offered.txt", "builder-0.crt"}
    assert set(agent) == {"Dockerfile"}
    assert said[:2] == ["building containai-base:latest", "  Step 1/1"]


def test_a_base_that_breaks_ends_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Recorder(broken="containai-base:latest")
    monkeypatch.setattr(building, "Daemon", lambda: daemon)
    with pytest.raises(EngineError, match="it broke"):
        build_images(["claude"], Options(npm_registry=REGISTRY), lambda _line: None)
    assert len(daemon.built) == 1


NO_ROOM = "cp: error writing '/usr/bin/x': No space left on device"


@pytest.mark.parametrize("where", ["printed", "answered"])
def test_a_disk_that_is_full_is_said_and_what_makes_room(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A step that fails for want of room says so in what it prints; the daemon itself in its answer."""

    class Full(Recorder):
        def build(self, *_: Any) -> Iterator[str]:
            yield NO_ROOM if where == "printed" else "Step 1/8"
            raise EngineError("it broke", code="image.build", details="code 1" if where == "printed" else NO_ROOM)

    monkeypatch.setattr(building, "Daemon", Full)
    with pytest.raises(EngineError, match="no room on Docker's disk") as failed:
        build_images(["base"], Options(npm_registry=REGISTRY), lambda _line: None)
    assert (failed.value.code, failed.value.details) == ("image.space", NO_ROOM)
    assert any("docker image prune" in line for line in failed.value.remedy)


FAILING = """#!/bin/sh
# As mmdebstrap does: it says why, and sends a signal to every process of its group.
sleep 1000 &
echo "$!" >"$0.child"
dd if=/dev/zero of=/dev/full count=1
kill -HUP 0
"""


def build_on(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> EngineError:
    """How a build with ``--rootfs`` fails, this program being mmdebstrap."""
    program = folder / "mmdebstrap"
    if script:
        program.write_text(script)
        program.chmod(0o755)
    (folder / "tmp").mkdir()
    monkeypatch.setattr(building, "Daemon", Recorder)
    monkeypatch.setattr(building, "_MMDEBSTRAP", str(program))
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    with pytest.raises(EngineError) as failed:
        build_images(["base"], Options(npm_registry=REGISTRY, rootfs_suite="trixie"), lambda _line: None)
    assert not list((folder / "tmp").iterdir())
    return failed.value


def test_mmdebstrap_on_a_full_disk_ends_itself_and_not_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = build_on(tmp_path, FAILING, monkeypatch)
    assert (failed.code, failed.details) == ("image.space", "dd: writing to '/dev/full': No space left on device")
    assert any(line.startswith("TMPDIR=") for line in failed.remedy)
    child = Path(f"/proc/{(tmp_path / 'mmdebstrap.child').read_text().strip()}/stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_mmdebstrap_that_fails_otherwise_or_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails").mkdir()
    failed = build_on(tmp_path / "fails", "#!/bin/sh\necho E: no such suite >&2\nexit 25\n", monkeypatch)
    assert (failed.code, failed.details, failed.remedy) == ("image.rootfs", "E: no such suite", ())
    (tmp_path / "missing").mkdir()
    failed = build_on(tmp_path / "missing", "", monkeypatch)
    assert (failed.code, failed.remedy) == ("image.rootfs", ("sudo apt-get install mmdebstrap",))


def test_mmdebstrap_that_takes_too_long_is_ended_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_ROOTFS_TIMEOUT_S", 0.5)
    (tmp_path / "tmp").mkdir()
    program = tmp_path / "mmdebstrap"
    program.write_text('#!/bin/sh\nsleep 1000 &\necho "$!" >"$0.child"\nwait\n')
    program.chmod(0o755)
    monkeypatch.setattr(building, "_MMDEBSTRAP", str(program))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with pytest.raises(ContainaiError) as failed:
        building.make_rootfs(Recorder(), "trixie", lambda _line: None)  # type: ignore[arg-type]
    assert failed.value.code == "process.timeout"
    child = Path(f"/proc/{(tmp_path / 'mmdebstrap.child').read_text().strip()}/stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"
    assert not list((tmp_path / "tmp").iterdir())


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "Daemon", Recorder)
    with pytest.raises(UsageError, match=r"none\.crt cannot be read"):
        build_images(
            ["base"], Options(npm_registry=REGISTRY, certificates=(tmp_path / "none.crt",)), lambda _line: None
        )


def test_the_files_pin_by_content_and_leave_no_setuid_file() -> None:
    """M1."""
    script = (DATA / "base/install.sh").read_text()
    assert len(re.findall(r"^(NODE|NPM)_SHA512=[0-9a-f]{128}$", script, re.MULTILINE)) == 2
    for place in (script, (DATA / "agents/Dockerfile").read_text()):
        assert "-perm /6000 -exec chmod a-s" in place
    for name in ("base", "agents"):
        dockerfile = (DATA / name / "Dockerfile").read_text()
        assert re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE)[-1] == "1000:1000"
        assert not re.search(r"^(VOLUME|ENTRYPOINT|HEALTHCHECK|EXPOSE|ENV)\b", dockerfile, re.MULTILINE)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("https://npm.example/", True),
        ("http://127.0.0.1:4873", True),
        ("undefined", False),
        ("https://u:p@x/", False),
        ("", False),
    ],
)
def test_the_registry_is_the_one_of_the_users_npm(tmp_path: Path, answer: str, found: bool) -> None:
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n[ \"$*\" = 'config get registry' ] && echo '{answer}'\n")
    npm.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    if found:
        assert find_registry(variables) == answer
    else:
        with pytest.raises(UsageError) as refused:
            find_registry(variables)
        assert refused.value.code == "image.registry"


def test_without_npm_the_registry_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not known"):
        find_registry({"PATH": str(tmp_path)})


class Absent(Recorder):
    """Stands for a daemon that does not answer."""

    def about(self) -> tuple[str, str]:
        raise EngineError("it does not answer", code="engine.docker")


def test_the_daemon_is_asked_before_a_root_file_system_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(building, "Daemon", Absent)
    monkeypatch.setattr(building, "make_rootfs", lambda _daemon, suite, _say: made.append(suite))
    with pytest.raises(EngineError) as told:
        build_images(["base"], Options(npm_registry=REGISTRY, rootfs_suite="trixie"), lambda _line: None)
    assert (told.value.code, made) == ("engine.docker", [])
