"""The table of execution triggers: what it catches, what it leaves alone, how it is evaded."""

from __future__ import annotations

import pytest

from containai.review.read import _ORDER
from containai.review.rules import find_rules, load_rules

CAUGHT = {
    "hook": [
        ".husky/pre-commit",
        "sub/.pre-commit-config.yaml",
        "lefthook.yml",
        ".githooks/post-merge",
        "hooks/pre-push",
        ".hg/hgrc",
        ".trunk/trunk.yaml",
    ],
    "ci": [
        ".github/workflows/x.yml",
        ".gitlab-ci.yml",
        "a/Jenkinsfile",
        ".circleci/config.yml",
        "action.yml",
        ".github/dependabot.yml",
        "sub/action.yml",
        ".taskcluster.yml",
    ],
    "owners": ["CODEOWNERS", ".github/CODEOWNERS"],
    "editor": [
        ".run/all.run.xml",
        ".vscode/tasks.json",
        "pkg/.idea/workspace.xml",
        ".devcontainer/devcontainer.json",
        ".exrc",
        ".gdbinit",
        "lldbinit",
    ],
    "shell": [".envrc", ".env", ".env.local", "a/mise.toml", "flake.nix", ".ruby-version"],
    "agent": [
        ".coderabbit.yaml",
        ".claude-plugin/plugin.json",
        "docs/x.instructions.md",
        "CLAUDE.md",
        ".claude/settings.json",
        ".mcp.json",
        "AGENTS.md",
        ".cursorrules",
        "config.toml",
        ".github/copilot-instructions.md",
    ],
    "git": [".gitattributes", "a/.gitattributes", ".gitmodules", ".lfsconfig", ".mailmap", "a/.gitignore"],
    "package": [
        "setup.py",
        "tests/conftest.py",
        "pyproject.toml",
        "x.pth",
        ".npmrc",
        "build.rs",
        "a/b/App.csproj",
        "vite.config.ts",
        "gradle/wrapper/gradle-wrapper.jar",
        ".pylintrc",
        "mypy.ini",
        ".Rprofile",
        "a/knip.config.ts",
        ".stylelintrc.cjs",
        "node_modules/x/index.js",
        ".storybook/main.js",
        "Snakefile",
        "x.egg-info/entry_points.txt",
        "Cargo.toml",
        "requirements-dev.txt",
        "sitecustomize/__init__.py",
        "prisma/schema.prisma",
        "nim.cfg",
        "x-1.rockspec",
        ".nrepl.edn",
    ],
    "build": ["Makefile", "lib/rules.mk", "CMakeLists.txt", "sub/justfile", "BUILD.bazel", "main.tf"],
    "container": ["Dockerfile", "deploy/Dockerfile.prod", "compose.yaml", "docker-compose.override.yml"],
}


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, paths in CAUGHT.items() for path in paths])
def test_a_file_that_something_runs_is_a_trigger(kind: str, path: str) -> None:
    assert kind in {rule.kind for rule in find_rules(path.encode())}


@pytest.mark.parametrize(
    "path",
    [
        "src/main.py",
        "README.md",
        "docs/make.md",
        "src/hooks/useThing.ts",
        "sub/config.toml",
        "notes/env",
        "Makefile_notes/x",
    ],
)
def test_a_plain_file_is_none(path: str) -> None:
    assert list(find_rules(path.encode())) == []


@pytest.mark.parametrize(
    "path",
    [
        "MAKEFILE",
        ".VSCode/Tasks.JSON",
        "Claude.md",
        "Make\N{HANGUL FILLER}file",
        "Make\N{ZERO WIDTH SPACE}file",  # printed, it is Makefile
        "\N{FULLWIDTH LATIN CAPITAL LETTER M}akefile",
        ".hu\N{SOFT HYPHEN}sky/pre-commit",
    ],
)
def test_a_twin_of_a_name_is_caught_too(path: str) -> None:
    assert list(find_rules(path.encode()))


def test_bytes_that_are_no_text_are_matched() -> None:
    assert [rule.kind for rule in find_rules(b".vscode/\xff\xfe")] == ["editor"]


def test_each_kind_has_a_reason_and_a_place_in_the_order() -> None:
    assert all(rule.why and rule.kind in _ORDER for rule in load_rules())
    assert set(CAUGHT) == {rule.kind for rule in load_rules()}
