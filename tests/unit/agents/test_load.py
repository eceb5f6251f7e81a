"""Adapters: the shipped files are sound, and a malformed one is refused whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from containai.agents.load import BUILT_IN, list_agents, load_adapter
from containai.agents.model import PROMPT_FIELD
from containai.errors import AgentError, UsageError
from tests.vendor.cases import CASES

MINIMAL = 'name = "x"\ntitle = "X"\nbinaries = ["x"]\ninteractive = []\n'
VENDORS = ("claude", "codex", "copilot", "gemini", "opencode")


def write(directory: Path, text: str, name: str = "x") -> Path:
    (directory / f"{name}.toml").write_text(text)
    return directory


def test_all_agents_are_known() -> None:
    assert list_agents() == (*VENDORS, "shell")


@pytest.mark.parametrize("name", VENDORS)
def test_a_shipped_vendor_adapter_is_complete(name: str) -> None:
    adapter = load_adapter(name)
    assert adapter.name == name
    assert adapter.package
    assert adapter.tested_version
    assert adapter.api_hosts
    assert adapter.credential_variables
    assert sum(part.count(PROMPT_FIELD) for part in adapter.prompt) == 1
    targets = [file.path for file in adapter.host_files]
    assert len(targets) == len(set(targets))


def test_host_files_are_files_and_belong_to_one_agent_alone() -> None:
    owners: dict[str, set[str]] = {}
    for name in list_agents():
        for file in load_adapter(name).host_files:
            for candidate in file.candidates:
                owners.setdefault(candidate, set()).add(name)
    assert {candidate for candidate, names in owners.items() if len(names) > 1} == set()
    assert all(Path(candidate).suffix for candidate in owners), "a directory would show more than is named"
    assert owners[".config/gh/hosts.yml"] == {"copilot"}


@pytest.mark.parametrize("prompt", ["--version", "-p", "two\nlines", 'a "b" $HOME `id`', "{prompt}", " "])
@pytest.mark.parametrize("name", VENDORS)
def test_a_prompt_is_one_argument_and_never_an_option(name: str, prompt: str) -> None:
    adapter = load_adapter(name)
    arguments = adapter.arguments(prompt)
    assert len(arguments) == len(adapter.prompt)
    place = next(index for index, part in enumerate(adapter.prompt) if PROMPT_FIELD in part)
    assert arguments[place] in (prompt, f"--prompt={prompt}")
    if arguments[place] == prompt:
        assert arguments[place - 1] == "--", "whatever stands there is read as an option when it begins with one"


def test_an_agent_without_prompt_mode_says_so() -> None:
    with pytest.raises(UsageError) as raised:
        load_adapter("shell").arguments("do it")
    assert raised.value.code == "agent.no-prompt"


def test_unknown_agent_names_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(UsageError) as raised:
        load_adapter("cladue")
    assert raised.value.code == "agent.unknown"
    assert raised.value.exit_status == 2
    assert all(name in raised.value.details for name in list_agents())
    assert raised.value.remedy[0].endswith("--agent claude")


@pytest.mark.parametrize("name", ["../x", "", ".", "/etc/passwd", "x\x1b[31m", "x/../x", "X"])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    write(tmp_path, MINIMAL)
    write(inner, MINIMAL)
    with pytest.raises(UsageError) as raised:
        load_adapter(name, inner)
    assert "\x1b" not in raised.value.summary


def test_a_new_agent_is_one_file(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL)
    adapter = load_adapter("x", tmp_path)
    assert (adapter.binaries, adapter.api_hosts, adapter.host_files, adapter.prompt) == (("x",), (), (), ())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('surprise = "1"\n', "surprise"),
        ('[[host_files]]\npath = "a"\ncandidates = ["a"]\nmode = "rw"\n', "host_files.mode"),
        ('[[host_files]]\npath = "a"\ncandidates = ["../a"]\n', "candidates"),
        ('[[host_files]]\npath = "a"\ncandidates = ["/etc/shadow"]\n', "candidates"),
        ('[[host_files]]\npath = "a/../../b"\ncandidates = ["a"]\n', "path"),
        ('[[host_files]]\npath = "a"\ncandidates = []\n', "candidates"),
        ('[[host_files]]\npath = "a"\ncandidates = ["."]\n', "candidates"),
        ('[[host_files]]\npath = "a"\ncandidates = ["a"]\nsecret = "no"\n', "secret"),
        ('[[text_files]]\npath = "/etc/passwd"\ncontent = ""\n', "path"),
        ('[[text_files]]\npath = "a"\n', "content"),
        ("text_files = 3\n", "text_files"),
        ('writable = ["../x"]\n', "writable"),
        ('api_hosts = ["*"]\n', "domain"),
        ('api_hosts = ["1.2.3.4"]\n', "domain"),
        ('prompt = ["-p"]\n', "prompt"),
        ('prompt = ["{prompt}", "{prompt}"]\n', "prompt"),
        ('package = "../../etc"\n', "package"),
        ('bundle_marker = "../.bashrc"\n', "bundle_marker"),
        ('[environment]\n"LD_PRELOAD=x" = "1"\n', "environment"),
        ("[environment]\nA = 1\n", "environment"),
        ('credential_variables = ["A-B"]\n', "credential_variables"),
        ("not toml", "Expected"),
    ],
)
def test_a_malformed_file_is_refused_by_key(tmp_path: Path, text: str, names: str) -> None:
    write(tmp_path, MINIMAL + text)
    with pytest.raises(AgentError) as raised:
        load_adapter("x", tmp_path)
    assert raised.value.code == "agent.invalid"
    assert names in raised.value.summary


@pytest.mark.parametrize("key", ["name", "title", "binaries", "interactive"])
def test_what_an_agent_cannot_do_without(tmp_path: Path, key: str) -> None:
    write(tmp_path, "".join(line for line in MINIMAL.splitlines(keepends=True) if not line.startswith(key)))
    with pytest.raises(AgentError, match=key):
        load_adapter("x", tmp_path)


def test_the_name_is_the_files(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, name="y")
    with pytest.raises(AgentError, match="name"):
        load_adapter("y", tmp_path)


def test_every_shipped_file_is_on_the_page() -> None:
    page = (Path(__file__).parents[3] / "docs/agents.md").read_text()
    for name in list_agents():
        adapter = load_adapter(name)
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert adapter.title in row
        assert adapter.tested_version in row
        for variable in adapter.credential_variables:
            assert f"`{variable}`" in page
        for file in adapter.host_files:
            assert f"`~/{file.candidates[0]}`" in page
        for host in adapter.api_hosts:
            assert f"`{host}`" in page
    assert BUILT_IN.is_dir()


def test_every_agent_of_a_vendor_is_tested_for_real() -> None:
    assert {case.agent for case in CASES} == {name for name in list_agents() if load_adapter(name).package}
