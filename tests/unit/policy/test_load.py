"""The two configuration files: what they may say, and what is refused with file and key named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from containai.errors import PolicyError
from containai.policy.load import MAX_FILE_BYTES, NO_CONFIG, load_user, parse_repository, parse_user
from containai.policy.mcp import McpServer
from containai.policy.model import Author, CredentialMode, ExecRule, NetworkMode

pytestmark = pytest.mark.user

FULL = b"""
[network]
mode = "restricted"
domains = ["api.example.org", "*.Example.net"]
[limits]
cpus = 1
memory = "1g"
pids = 512
timeout_s = 60
[mcp_servers.docs]
command = "docs-mcp"
args = ["--stdio"]
cwd = "tools"
env = { TOKEN = "hunter2" }
[mcp_servers.remote]
url = "https://mcp.example.org/sse"
bearer_token_env_var = "MCP_TOKEN"
"""


def test_a_file_says_what_it_says() -> None:
    config = parse_user(FULL + b'[session]\ncredentials = "none"\nengine = "embedded"\n', "config.toml")
    assert config.mode is NetworkMode.RESTRICTED
    assert config.domains == ("api.example.org", "*.example.net")
    assert (config.cpus, config.memory_bytes, config.pids_max, config.timeout_s) == (1.0, 1 << 30, 512, 60.0)
    assert config.credentials is CredentialMode.NONE
    assert config.engine == "embedded"


def test_mcp_servers_are_kept_as_data_and_said_to_be_unused() -> None:
    for config in (parse_user(FULL, "here"), parse_repository(FULL, "here")):
        assert config.mcp_servers == (
            McpServer(name="docs", command="docs-mcp", args=("--stdio",), cwd="tools", env=(("TOKEN", "hunter2"),)),
            McpServer(name="remote", url="https://mcp.example.org/sse", bearer_token_env_var="MCP_TOKEN"),
        )
        assert config.notes == ("here: MCP servers are not used in this version: docs, remote",)
        assert "hunter2" not in repr(config)


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert load_user(tmp_path / "none.toml") == NO_CONFIG
    assert parse_repository(None) == NO_CONFIG
    empty = parse_user(b"", "x")
    assert (empty.mode, empty.domains, empty.cpus, empty.memory_bytes, empty.pids_max) == (None,) * 5


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"[netwrok]\n", ["netwrok", "network, limits, exec, mcp_servers, session"]),
        (b"[network]\nmodes = 1\n", ["network.modes", "mode, domains"]),
        (b'[network]\nmode = "open"\n', ["network.mode", "'open'", "squid, restricted, none"]),
        (b"[network]\nmode = 1\n", ["network.mode", "1"]),
        (b"[network]\nmode = []\n", ["network.mode", "[]"]),
        (b"network = 1\n", ["network", "a table"]),
        (b'[network]\ndomains = "a.example"\n', ["network.domains", "list of strings"]),
        (b"[network]\ndomains = [1]\n", ["network.domains", "list of strings"]),
        (b"[network]\ndomains = []\n", ["network.domains", "empty"]),
        (b'[network]\ndomains = ["*"]\n', ["network.domains", "'*'"]),
        (b"[limits]\nswap = 1\n", ["limits.swap", "cpus, memory, pids, workspace, timeout_s"]),
        (b"[limits]\ncpus = true\n", ["limits.cpus", "True"]),
        (b"[limits]\ncpus = nan\n", ["limits.cpus", "nan"]),
        (b'[limits]\ncpus = "2"\n', ["limits.cpus", "'2'"]),
        (b"[limits]\nmemory = 1.5\n", ["limits.memory", "1.5"]),
        (b'[limits]\nmemory = "lots"\n', ["limits.memory", "'lots'"]),
        (b"[limits]\nmemory = -1\n", ["limits.memory", "-1"]),
        (b"[limits]\nmemory = 0x" + b"f" * 9000 + b"\n", ["limits.memory", "that number"]),
        (b"[limits]\npids = 4097\n", ["limits.pids", "4097", "4096"]),
        (b"[limits]\npids = 2.0\n", ["limits.pids", "2.0"]),
        (b"[limits]\ntimeout_s = 0\n", ["limits.timeout_s", "0"]),
        (b"[limits]\ntimeout_s = 1979-05-27\n", ["limits.timeout_s"]),
        (b'[session]\ncredentials = "all"\n', ["session.credentials", "mount, none"]),
        (b'[session]\nengine = "vm"\n', ["session.engine", "auto, embedded"]),
        (b"[session]\nforce = true\n", ["session.force", "credentials, engine"]),
        (b"[mcp_servers.a]\n", ["mcp_servers.a", "command or url"]),
        (b'[mcp_servers.a]\ncommand = "x"\nurl = "https://h"\n', ["mcp_servers.a", "command or url"]),
        (b'[mcp_servers.a]\ncommand = "x"\nbearer_token_env_var = "T"\n', ["bearer_token_env_var", "command"]),
        (b'[mcp_servers.a]\nurl = "https://h"\nargs = []\n', ["mcp_servers.a.args", "url"]),
        (b'[mcp_servers.a]\nurl = "file:///etc/passwd"\n', ["mcp_servers.a.url", "https://"]),
        (b'[mcp_servers.a]\ncommand = ""\n', ["mcp_servers.a.command"]),
        (b'[mcp_servers.a]\ncommand = "x"\nsecret = "y"\n', ["mcp_servers.a.secret"]),
        (b'[mcp_servers.a]\nurl = "https://h"\nbearer_token_env_var = "A B"\n', ["bearer_token_env_var"]),
        (b'[mcp_servers."a b"]\ncommand = "x"\n', ["name of a server"]),
        (b"[mcp_servers]\na = 1\n", ["mcp_servers.a", "a table"]),
        (b"= 1", ["TOML"]),
        (b"\xff", ["TOML"]),
        (b"a = " + b"[" * 100_000, ["cfg.toml"]),
        (b"#" * (MAX_FILE_BYTES + 1), ["256 KiB"]),
    ],
)
def test_an_error_names_file_key_and_what_is_allowed(content: bytes, names: list[str]) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_user(content, "cfg.toml")
    said = f"{refused.value.summary} {refused.value.details}"
    assert "cfg.toml" in refused.value.summary
    assert all(name in said for name in names), said
    assert len(said) < 400


@pytest.mark.parametrize("content", [b"[mcp_servers.a]\ncommand = 'x'\nenv = {TOKEN = 12345}\n",
                                     b"[mcp_servers.a]\ncommand = 'x'\nenv = {'A B' = '12345'}\n"])  # fmt: skip
def test_an_error_does_not_show_a_servers_secret(content: bytes) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_user(content, "cfg.toml")
    assert "12345" not in f"{refused.value.summary} {refused.value.details} {refused.value.remedy}"


@pytest.mark.parametrize(
    "content", [b'[session]\nengine = "docker"\n', b'[session]\ncredentials = "none"\n', b"[session]\n"]
)
def test_a_repository_has_no_say_about_the_session(content: bytes) -> None:
    with pytest.raises(PolicyError, match="session is not known here"):
        parse_repository(content)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["a", "'b c'", '"d"'])
def test_a_key_of_thousands_of_parts_takes_no_minutes(part: str) -> None:
    content = f"[{' . '.join([part] * 12_000)}]\n" + "".join(f"b.c{n} = 1\n" for n in range(10_000))
    with pytest.raises(PolicyError, match="nested too deeply"):
        parse_repository(content.encode())


def test_another_programs_numbers_and_sentences_are_no_keys() -> None:
    content = (
        "a = ["
        + "0.5, " * 100
        + "]\n"
        + 'b = """\n'
        + "It is so. And so on.\n" * 100
        + '"""\nc = "'
        + "x." * 100
        + '"\n'
    )
    assert "another program" in parse_repository(content.encode()).notes[0]


def test_another_programs_file_is_left_alone_and_said() -> None:
    config = parse_repository(b'baseURL = "https://example.org"\n[params]\nx = 1\n', "config.toml")
    assert config.notes == ("config.toml has none of our tables: it belongs to another program, and is ignored",)
    assert (config.mode, config.domains, config.cpus) == (None, None, None)
    assert parse_repository(b"# nothing\n").notes == ()
    with pytest.raises(PolicyError, match="params is not known here"):  # ours, and then every key counts
        parse_repository(b"[params]\nx = 1\n[network]\n")
    with pytest.raises(PolicyError, match="baseURL is not known here"):
        parse_user(b'baseURL = "x"\n', "config.toml")


def test_what_a_hostile_file_says_reaches_no_terminal() -> None:
    for content in (b'[network]\n"\\u001b[2J\\u202e" = 1\n', b'[network]\nmode = "\\u001b[2J"\n', b'a = "\x1b[2J"\n'):
        with pytest.raises(PolicyError) as refused:
            parse_repository(content)
        said = f"{refused.value.summary}{refused.value.details}{''.join(refused.value.remedy)}"
        assert said.isprintable()
        assert said.isascii()


def test_a_users_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as refused:
        load_user(tmp_path)  # a directory
    assert refused.value.code == "policy.unreadable"


def test_a_users_file_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(FULL)
    path.chmod(0o664)
    assert load_user(path).origin == str(path)
    path.chmod(0o666)
    with pytest.raises(PolicyError) as refused:
        load_user(path)
    assert refused.value.code == "policy.unsafe-file"
    assert os.fspath(path) in refused.value.remedy[0]


@pytest.mark.parametrize(
    ("written", "name", "email"),
    [
        ("A B <a@example.org>", "A B", "a@example.org"),
        ("Ünal <u@x>", "Ünal", "u@x"),
        ("build[bot] <1+build[bot]@users.example.org>", "build[bot]", "1+build[bot]@users.example.org"),
    ],
)
def test_the_users_file_names_the_author(written: str, name: str, email: str) -> None:
    assert parse_user(f'[commit]\nauthor = "{written}"\n'.encode(), "x").author == Author(name=name, email=email)


@pytest.mark.parametrize(
    "written",
    [
        *("", "A", "<a@b>", "A <>", "A <a>", "A<a@b>", "A <a@b", "A <a@b>>", "A <<a@b>", "A <a b@c>", "A <a@b> x"),
        *("- <a@b>", ". <a@b>", "A. <a@b>", " A <a@b>", "A <.a@b>", "A <a@b.>", "A <ä@b>", "A\u202e <a@b>"),
        *("A\u200b <a@b>", f"{'A' * 200} <a@b>", "A\\n <a@b>", "A\u00a0 <a@b>"),
    ],
)
def test_an_author_that_git_would_change_or_a_reader_not_see_is_refused(written: str) -> None:
    with pytest.raises(PolicyError, match="author cannot be"):
        parse_user(f'[commit]\nauthor = "{written}"\n'.encode(), "x")


def test_a_repository_names_no_author() -> None:
    with pytest.raises(PolicyError, match="commit is not known here"):
        parse_repository(b'[commit]\nauthor = "A <a@b>"\n')


def test_denied_programs_are_names_or_plain_paths() -> None:
    config = parse_user(b'[exec]\ndeny = ["nc", "/usr/bin/a b", "g++"]\n', "cfg.toml")
    assert config.denied_programs == ("nc", "/usr/bin/a b", "g++")
    assert parse_repository(b'[exec]\ndeny = ["nc"]\n').denied_programs == ("nc",)
    for bad in ("bin/nc", "/usr/../bin/nc", "/usr/bin/", "", "a b", "..", "/", "//x", "a\\n"):
        with pytest.raises(PolicyError, match="deny"):
            parse_user(f'[exec]\ndeny = ["{bad}"]\n'.encode(), "cfg.toml")


def test_exec_rules_are_read() -> None:
    text = f"""
[[exec.rules]]
name = "no-force"
program = "git"
arguments = ["push", "--force*"]
[[exec.rules]]
name = "miner"
sha256 = "{"AB" * 32}"
"""
    for config in (parse_user(text.encode(), "cfg.toml"), parse_repository(text.encode())):
        assert config.exec_rules == (
            ExecRule(name="no-force", program="git", arguments=("push", "--force*")),
            ExecRule(name="miner", sha256="ab" * 32),
        )


CANNOT_MATCH = ("[z", "[", "[]", "[!]", "[!", "a[b]c[", "[z-a]", "x[]a")


def test_brackets_that_are_whole_and_a_program_of_that_name_are_fine() -> None:
    for pattern in ("[z]", "[]]", "[!]]", "[[]", "]", "[a-z]*", "-[!x]"):
        text = f'[[exec.rules]]\nname = "a"\nprogram = "["\narguments = ["{pattern}"]\n'
        (rule,) = parse_user(text.encode(), "cfg.toml").exec_rules
        assert (rule.program, rule.arguments) == ("[", (pattern,))
    for path in ("[", "/usr/bin/["):
        assert parse_user(f'[exec]\ndeny = ["{path}"]\n'.encode(), "cfg.toml").denied_programs == (path,)


def test_a_rule_without_a_name_is_told_so() -> None:
    with pytest.raises(PolicyError) as refused:
        parse_user(b'[[exec.rules]]\nprogram = "git"\narguments = ["x"]\n', "cfg.toml")
    assert refused.value.summary == "cfg.toml: exec.rules[0].name is missing"


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ('program = "git"\narguments = ["x"]', "name"),
        ('name = "a b"\nsha256 = ""', "name"),
        ('name = "a"\nprogram = "git"', "program"),
        ('name = "a"\narguments = ["x"]', "arguments"),
        ('name = "a"\nprogram = "git"\narguments = [""]', "arguments"),
        ('name = "a"\nprogram = "../git"\narguments = ["x"]', "program"),
        *(
            (f'name = "a"\nprogram = "{bad}"\narguments = ["x"]', "program")
            for bad in ("git[", "gi*", "g?t", "/bin/[g]it")
        ),
        *((f'name = "a"\nprogram = "git"\narguments = ["x", "{bad}"]', "arguments") for bad in CANNOT_MATCH),
        ('name = "a"\nsha256 = "abc"', "sha256"),
        ('name = "a"\nsha256 = 3', "sha256"),
        ('name = "a"\nallow = true', "allow"),
        ("", "name"),
    ],
)
def test_a_rule_that_says_nothing_or_too_much_is_refused(rule: str, key: str) -> None:
    with pytest.raises(PolicyError, match=rf"cfg.toml: exec.rules\[0\].{key}"):
        parse_user(f"[[exec.rules]]\n{rule}\n".encode(), "cfg.toml")


def test_rules_need_names_of_their_own_and_are_tables() -> None:
    same = '[[exec.rules]]\nname = "a"\nprogram = "b"\narguments = ["c"]\n' * 2
    for text in (same, "[exec]\nrules = 3\n", '[exec]\nrules = ["a"]\n'):
        with pytest.raises(PolicyError, match=r"cfg.toml: exec\.rules"):
            parse_user(text.encode(), "cfg.toml")
