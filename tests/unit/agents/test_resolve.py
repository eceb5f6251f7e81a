"""What of the user's machine an agent is shown: enough to run, and nothing more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from containai.agents.load import load_adapter
from containai.agents.model import Adapter, Program
from containai.agents.resolve import resolve_program
from containai.agents.search import elf_interpreter, search_directories
from containai.errors import AgentError
from containai.plan.model import MountKind

ROOT = PurePosixPath("/opt/containai/agent")
TRUE = Path(shutil.which("true") or "/usr/bin/true").resolve()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def adapter() -> Adapter:
    """An agent that no machine has."""
    return replace(
        load_adapter("shell"),
        name="zz",
        title="Zz",
        binaries=("zz-agent",),
        package="@zz/agent",
        tested_version="1.2.3",
        bundle_marker="zz-bundle.json",
    )


def package(directory: Path, name: str, **more: Any) -> Path:
    """An npm package in ``directory/node_modules``."""
    place = directory / "node_modules" / name
    place.mkdir(parents=True)
    (place / "package.json").write_text(json.dumps({"name": name, "version": "1.2.3", **more}))
    return place


def script(path: Path, first_line: str = "#!/usr/bin/env node") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{first_line}\n")
    path.chmod(0o755)
    return path


def link(path: Path, to: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)
    return path


def native(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(TRUE, path)
    return path


def with_loader(path: Path, loader: str) -> Path:
    """A native program that asks for another loader."""
    native(path)
    data = path.read_bytes()
    own = elf_interpreter(path).encode() + b"\0"
    assert len(own) > 1, f"{TRUE} is static; this test needs a dynamic program"
    path.write_bytes(data.replace(own, loader.encode()[: len(own) - 1].ljust(len(own), b"\0")))
    return path


def npm_global(prefix: Path) -> Path:
    """The agent as ``npm install --global`` leaves it; its package's directory."""
    place = package(prefix / "lib", "@zz/agent", optionalDependencies={"@zz/agent-linux": "1"})
    package(place, "@zz/agent-linux")
    link(prefix / "bin/zz-agent", script(place / "cli.js"))
    return place


def shown(program: Program) -> dict[str, str]:
    """What the container is shown read-only: place inside to path on the host."""
    assert all(mount.kind in (MountKind.READ_ONLY, MountKind.SYMLINK) for mount in program.mounts)
    return {str(mount.target): mount.source for mount in program.mounts if mount.kind is MountKind.READ_ONLY}


def links(program: Program) -> dict[str, str]:
    return {str(mount.target): mount.source for mount in program.mounts if mount.kind is MountKind.SYMLINK}


def refusal(adapter: Adapter, search_path: str, home: Path) -> AgentError:
    with pytest.raises(AgentError) as raised:
        resolve_program(adapter, search_path, home)
    return raised.value


def test_a_program_of_the_system_needs_no_mount(adapter: Adapter, home: Path) -> None:
    program = resolve_program(replace(adapter, binaries=("true",)), "/usr/bin", home)
    assert program.argv == ("/usr/bin/true",)
    assert program.mounts == ()
    assert program.path == ()


def test_a_link_to_a_program_of_the_system_is_followed(adapter: Adapter, home: Path) -> None:
    link(home / ".local/bin/zz-agent", TRUE)
    assert resolve_program(adapter, "", home).argv == (str(TRUE),)


@pytest.mark.needs("node")
def test_an_npm_package_is_shown_and_nothing_beside_it(adapter: Adapter, home: Path) -> None:
    place = npm_global(home / "prefix")
    package(home / "prefix/lib", "other-package")
    program = resolve_program(adapter, f"{home}/prefix/bin:/usr/bin", home)
    assert shown(program)[f"{ROOT}/node_modules/@zz/agent"] == str(place)
    assert not any("other-package" in source for source in shown(program).values())
    assert not any(Path(source) in place.parents for source in shown(program).values())
    assert program.argv == (f"{ROOT}/bin/zz-agent",)
    assert links(program)[f"{ROOT}/bin/zz-agent"] == f"{ROOT}/node_modules/@zz/agent/cli.js"
    assert program.path == (f"{ROOT}/bin",)
    assert program.version == "1.2.3"


@pytest.mark.needs("node")
@pytest.mark.parametrize("where", [".npm-global", ".local", "n", ".nvm/versions/node/v20.1.0"])
def test_installers_places_are_found_without_path(adapter: Adapter, home: Path, where: str) -> None:
    npm_global(home / where)
    assert resolve_program(adapter, "/usr/bin", home).found == home / where / "bin/zz-agent"


def test_the_prefix_of_npmrc_is_found(home: Path) -> None:
    (home / ".npmrc").write_text("registry=https://example.org\nprefix = ~/my npm\n")
    assert home / "my npm/bin" in search_directories("", home)


@pytest.mark.needs("node")
def test_the_newest_node_version_comes_first(adapter: Adapter, home: Path) -> None:
    for version in ("v9.9.9", "v22.1.0", "v20.11.1"):
        npm_global(home / ".nvm/versions/node" / version)
    assert "v22.1.0" in str(resolve_program(adapter, "", home).found)


@pytest.mark.parametrize("entry", ["", ".", "node_modules/.bin"])
def test_the_current_directory_never_chooses_the_program(
    adapter: Adapter, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    native(tmp_path / "repository" / entry / "zz-agent")
    monkeypatch.chdir(tmp_path / "repository")
    assert refusal(adapter, f"{entry}:/usr/bin", home).code == "agent.missing"


@pytest.mark.needs("node")
def test_packages_beside_it_that_it_needs_are_shown(adapter: Adapter, home: Path) -> None:
    place = package(home / "g", "@zz/agent", dependencies={"a": "1"}, optionalDependencies={"absent": "1"})
    package(home / "g", "a", dependencies={"b": "1"})
    package(home / "g", "b", dependencies={"@zz/agent": "1"})
    package(home / "g", "unrelated")
    link(home / "bin/zz-agent", script(place / "cli.js"))
    seen = shown(resolve_program(adapter, f"{home}/bin:/usr/bin", home))
    names = {target.removeprefix(f"{ROOT}/node_modules/") for target in seen if "/node_modules/" in target}
    assert names - {"npm"} == {"@zz/agent", "a", "b"}


@pytest.mark.needs("node")
def test_pnpm_s_links_are_followed_to_its_store(adapter: Adapter, home: Path) -> None:
    place = package(home / "store/agent@1", "@zz/agent", dependencies={"a": "1"})
    other = package(home / "store/a@1", "a")
    link(home / "store/agent@1/node_modules/a", other)
    link(home / "bin/zz-agent", script(place / "cli.js"))
    seen = shown(resolve_program(adapter, f"{home}/bin:/usr/bin", home))
    assert seen[f"{ROOT}/node_modules/a"] == str(other)


@pytest.mark.needs("node")
@pytest.mark.parametrize("name", ["../../.ssh", "/etc", "a/../../../.ssh", "..", ".ssh", "@zz/../../.ssh"])
def test_a_dependency_s_name_is_never_a_path(adapter: Adapter, home: Path, name: str) -> None:
    place = npm_global(home / ".npm-global")
    (place / "package.json").write_text(json.dumps({"name": "@zz/agent", "dependencies": {name: "1"}}))
    for secret in (home / ".ssh", home / ".npm-global/lib/.ssh", home / ".npm-global/lib/node_modules/.ssh"):
        secret.mkdir(parents=True)
        (secret / "package.json").write_text("{}")
    seen = shown(resolve_program(adapter, "/usr/bin", home))
    assert not any(".ssh" in source or source == "/etc" for source in seen.values())


@pytest.mark.needs("node")
def test_a_dependency_linked_out_of_the_packages_is_refused(adapter: Adapter, home: Path) -> None:
    place = npm_global(home / ".npm-global")
    (place / "package.json").write_text(json.dumps({"name": "@zz/agent", "dependencies": {"mine": "1"}}))
    (home / "src").mkdir()
    (home / "src/package.json").write_text("{}")
    link(home / ".npm-global/lib/node_modules/mine", home / "src")
    error = refusal(adapter, "/usr/bin", home)
    assert error.code == "agent.unusable"
    assert str(home / "src") in error.details


def test_a_package_linked_from_a_work_directory_is_refused(adapter: Adapter, home: Path) -> None:
    link(home / ".local/bin/zz-agent", script(home / "src/agent/cli.js"))
    (home / "src/agent/package.json").write_text("{}")
    assert refusal(adapter, "/usr/bin", home).code == "agent.unusable"


@pytest.mark.needs("node")
@pytest.mark.parametrize("at", [".", ".."])
def test_home_is_never_shown(adapter: Adapter, tmp_path: Path, at: str) -> None:
    """Someone's HOME may itself look like a package."""
    place = package(tmp_path, "victim")
    home = place if at == "." else place / "home"
    home.mkdir(exist_ok=True)
    link(place / "bin/zz-agent", script(place / "cli.js"))
    assert refusal(adapter, f"{place}/bin:/usr/bin", home).code == "agent.exposure"


def test_home_is_never_a_bundle(adapter: Adapter, home: Path) -> None:
    native(home / "bin/zz-agent")
    (home / "zz-bundle.json").write_text("{}")
    assert refusal(adapter, f"{home}/bin", home).code == "agent.exposure"


def test_a_native_program_is_shown_alone(adapter: Adapter, home: Path) -> None:
    real = native(home / ".local/share/zz/versions/2.0")
    (real.parent / "secret").write_text("x")
    link(home / ".local/bin/zz-agent", real)
    program = resolve_program(adapter, "/usr/bin", home)
    assert shown(program) == {f"{ROOT}/bin/zz-agent": str(real)}
    assert program.argv == (f"{ROOT}/bin/zz-agent",)


def test_a_bundle_is_shown_from_its_marker(adapter: Adapter, home: Path) -> None:
    real = native(home / ".zz/releases/1/bin/zz-agent")
    (home / ".zz/releases/1/zz-bundle.json").write_text("{}")
    link(home / ".local/bin/zz-agent", real)
    program = resolve_program(adapter, "/usr/bin", home)
    assert shown(program) == {f"{ROOT}/bundle": str(home / ".zz/releases/1")}
    assert links(program) == {f"{ROOT}/bin/zz-agent": f"{ROOT}/bundle/bin/zz-agent"}


def test_a_program_with_a_loader_of_its_own_is_refused(adapter: Adapter, home: Path) -> None:
    with_loader(home / ".local/bin/zz-agent", "/nix/store/ld.so")
    error = refusal(adapter, "/usr/bin", home)
    assert error.code == "agent.unusable"
    assert "/nix/store/ld.so" in error.details


@pytest.mark.parametrize("manager", ["mise", "volta-shim", "snap"])
def test_a_version_manager_s_shim_is_passed_over(adapter: Adapter, home: Path, manager: str) -> None:
    link(home / "shims/zz-agent", native(home / "tools" / manager))
    assert manager in refusal(adapter, f"{home}/shims", home).details
    native(home / ".local/bin/zz-agent")
    assert resolve_program(adapter, f"{home}/shims", home).found == home / ".local/bin/zz-agent"


def test_a_script_outside_of_a_package_is_passed_over(adapter: Adapter, home: Path) -> None:
    script(home / "shims/zz-agent", "#!/bin/sh")
    assert refusal(adapter, f"{home}/shims", home).code == "agent.unusable"
    native(home / ".local/bin/zz-agent")
    assert resolve_program(adapter, f"{home}/shims", home).found == home / ".local/bin/zz-agent"


def test_a_package_whose_install_script_did_not_run_is_refused(adapter: Adapter, home: Path) -> None:
    place = npm_global(home / ".npm-global")
    (place / "cli.js").write_text('echo "Error: native binary not installed." >&2\n')
    error = refusal(adapter, "/usr/bin", home)
    assert "without its program" in error.summary
    assert error.remedy[0] == "npm rebuild --global @zz/agent"


def test_node_outside_of_usr_comes_along_with_npm_and_no_other_package(adapter: Adapter, home: Path) -> None:
    prefix = home / ".nvm/versions/node/v22.0.0"
    npm_global(prefix)
    native(prefix / "bin/node")
    package(prefix / "lib", "npm")
    package(prefix / "lib", "other-package")
    program = resolve_program(adapter, "", home)
    assert shown(program)[f"{ROOT}/bin/node"] == str(prefix / "bin/node")
    assert shown(program)[f"{ROOT}/node_modules/npm"] == str(prefix / "lib/node_modules/npm")
    assert not any("other-package" in source for source in shown(program).values())
    assert links(program)[f"{ROOT}/bin/npm"] == f"{ROOT}/node_modules/npm/bin/npm-cli.js"


def test_a_native_program_needs_no_node(adapter: Adapter, home: Path) -> None:
    native(home / ".nvm/versions/node/v22.0.0/bin/node")
    native(home / ".local/bin/zz-agent")
    assert list(shown(resolve_program(adapter, "", home))) == [f"{ROOT}/bin/zz-agent"]


def test_missing_says_how_to_install_the_tested_version(adapter: Adapter, home: Path) -> None:
    error = refusal(adapter, "/usr/bin", home)
    assert error.code == "agent.missing"
    assert error.exit_status == 125
    assert error.remedy[0] == "npm install --global @zz/agent@1.2.3"
    assert error.remedy[1].startswith("npm install --global --prefix ~/.npm-global @zz/agent@1.2.3 ")


@pytest.mark.needs("node")
def test_a_shown_package_runs_where_it_is_shown(adapter: Adapter, home: Path, tmp_path: Path) -> None:
    """The same tree elsewhere, made of what was shown alone, runs with what it needs beside it."""
    place = package(home / "g", "@zz/agent", dependencies={"a": "1"}, type="module")
    (package(home / "g", "a", main="a.js") / "a.js").write_text("module.exports = 'from a'\n")
    link(home / "bin/zz-agent", script(place / "cli.js"))
    (place / "cli.js").write_text("#!/usr/bin/env node\nimport a from 'a'\nconsole.log(a)\n")
    program = resolve_program(adapter, f"{home}/bin:/usr/bin", home)
    inside = tmp_path / "inside"
    for mount in program.mounts:
        target = inside / str(mount.target).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if mount.kind is MountKind.SYMLINK:
            target.symlink_to(inside / mount.source.lstrip("/"))
        elif Path(mount.source).is_dir():
            shutil.copytree(mount.source, target)
        else:
            shutil.copy(mount.source, target)
    shutil.rmtree(home)
    done = subprocess.run([f"{inside}{program.argv[0]}"], capture_output=True, timeout=30, check=False)
    assert done.stdout == b"from a\n", done.stderr


def test_the_loader_of_this_python_is_the_system_s() -> None:
    assert elf_interpreter(Path(sys.executable).resolve()).startswith(("/lib", "/usr"))
    assert elf_interpreter(Path(__file__)) == ""
