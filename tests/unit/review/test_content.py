"""What contents give away."""

from __future__ import annotations

import hashlib
import json

import pytest

from containai.review.content import check_content, check_entry
from containai.review.model import Change, build_trigger, name_all, shown

OLD, NEW, NONE = "1" * 40, "2" * 40, "0" * 40


def change(path: str | bytes = "f", old_mode: str = "000000", new_mode: str = "100644") -> Change:
    raw = path if isinstance(path, bytes) else path.encode()
    return Change(path=raw, old_mode=old_mode, new_mode=new_mode, old=NONE if old_mode == "000000" else OLD, new=NEW)


def kinds(path: str, new: str, old: str | None = None, **modes: str) -> dict[str, str]:
    before = None if old is None else old.encode()
    return {f.kind: f.detail for f in check_content(change(path, **modes), before, new.encode())}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/etc/passwd", "out of the repository"),
        ("../../x", "leaves the repository"),
        ("a/../../../x", "leaves the repository"),
        ("../.git/hooks", "git's own files"),
        ("../.GIT/config", "git's own files"),
        ("sibling", "writes there"),
    ],
)
def test_each_link_says_where_it_goes(target: str, says: str) -> None:
    found = list(check_content(change("dir/link", new_mode="120000"), None, target.encode()))
    assert [f.kind for f in found] == ["symlink"]
    assert says in found[0].why
    assert target in found[0].detail


def test_a_link_with_escapes_is_shown_without_them() -> None:
    (found,) = check_content(change("l", new_mode="120000"), None, b"/\x1b]0;x\x07")
    assert "\x1b" not in found.detail
    assert "\\x1b" in found.detail


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        ({}, {"scripts": {"postinstall": "x"}}, "scripts.postinstall"),
        ({"scripts": {"test": "a"}}, {"scripts": {"test": "b"}}, "scripts.test"),
        ({}, {"dependencies": {"left-pad": "git+ssh://h/x"}}, "dependencies"),
        ({}, {"devDependencies": {"a": "1"}}, "devDependencies"),
        ({}, {"bin": "x.js"}, "bin"),
    ],
)
def test_package_json_is_read(old: dict[str, object], new: dict[str, object], detail: str) -> None:
    assert detail in kinds("package.json", json.dumps(new), json.dumps(old))["package"]


def test_package_json_with_another_version_only_is_nothing() -> None:
    assert (
        kinds("package.json", '{"version": "2", "scripts": {"a": "b"}}', '{"version": "1", "scripts": {"a": "b"}}')
        == {}
    )


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_package_json_that_cannot_be_read_is_a_trigger(text: str) -> None:
    assert "package" in kinds("package.json", text)


def test_a_lock_file_with_a_new_source_names_it() -> None:
    old = '"resolved": "https://registry.example/a.tgz"'
    new = old + '\n"resolved": "https://user@evil.example/a.tgz"\n"git+ssh://git.example/x"'
    assert kinds("package-lock.json", new, old)["lock"] == "evil.example, git+git.example"
    assert "lock" not in kinds("package-lock.json", old + "\n" + old.replace("a.tgz", "b.tgz"), old)
    assert "git@github.example" in kinds("yarn.lock", "x@git@github.example:a/b", "")["lock"]


@pytest.mark.parametrize(
    "character",
    [
        "\u202e",
        "\u2066",
        "\u200b",
        "\ufeff",
        "\u00ad",
        "\x1b",
        "\x08",
        "\r",
        "\x85",
        "\U000e0041",
        "\u3164",
        "\ufe00",
        "\U000e0101",
    ],
)
def test_a_character_that_is_not_seen_is_a_trigger(character: str) -> None:
    assert "unicode" in kinds("a.py", f"fine\nx = 1 # {character}y\n")
    assert "line 2" in kinds("a.py", f"fine\nx = 1 # {character}y\n")["unicode"]


@pytest.mark.parametrize(
    "text", ["is_admin\ufe0f = 1", "x_\ufe0f", "\ufe0fx", "❤\ufe0f\ufe0f", "é\ufe0f", "a\ufe0f\u20e3"]
)
def test_the_sign_for_pictures_is_hidden_in_a_name(text: str) -> None:
    assert "VARIATION SELECTOR-16" in kinds("a.py", f"# one\n{text}\n")["unicode"]


@pytest.mark.parametrize(
    "text",
    ["❤\ufe0f", "1\ufe0f\u20e3 #\ufe0f\u20e3", "ℹ\ufe0f", "\u203c\ufe0f", "©\ufe0f ↔\ufe0f Ⓜ\ufe0f ㊗\ufe0f 〰\ufe0f"],
)
def test_behind_a_picture_it_is_not(text: str) -> None:
    assert "unicode" not in kinds("a.md", text)


def test_a_hidden_character_that_was_there_before_is_none() -> None:
    assert kinds("a.py", "\u200b\nnew\n", "\u200b\n") == {}


@pytest.mark.parametrize("text", ["tab\there\r\n", "größer \N{SNOWMAN} 漢字 ‹›", "👩‍💻".replace("\u200d", ""), "❤️"])
def test_ordinary_text_of_any_language_is_none(text: str) -> None:
    assert kinds("a.txt", text) == {}


def test_a_binary_is_a_trigger() -> None:
    assert kinds("x.bin", "\x7fELF\0\0")["binary"] == "6 bytes"


@pytest.mark.parametrize(
    ("old_mode", "new_mode", "kind"),
    [
        ("000000", "100755", "executable"),
        ("100644", "100755", "executable"),
        ("000000", "160000", "submodule"),
        ("160000", "160000", "submodule"),
        ("100644", "120000", "symlink"),
        ("120000", "100644", "symlink"),
    ],
)
def test_modes(old_mode: str, new_mode: str, kind: str) -> None:
    assert kind in {f.kind for f in check_entry(change("f", old_mode, new_mode))}


def test_an_executable_that_was_one_is_none() -> None:
    assert list(check_entry(change("f", "100755", "100755"))) == []
    assert list(check_entry(change("f", "100755", "100644"))) == []


@pytest.mark.parametrize(
    "name",
    [
        b"a\x1b[31mb",
        b"a\nb",
        b"\xff",
        "a\u202eb".encode(),
        b"aux.txt",
        b"dir/COM1",
        b"trailing.",
        b"a:b",
        b"a\\b",
        "e\u0301".encode(),
    ],
)
def test_odd_names(name: bytes) -> None:
    found = [f for f in check_entry(change(name)) if f.kind == "name"]
    assert found
    assert found[0].detail.isprintable()


def test_plain_names_are_not_odd() -> None:
    assert not list(check_entry(change("src/größe/auxiliary con.py")))


def test_an_id_changes_with_the_content_and_the_path() -> None:
    base = build_trigger(b"key", "ci", change("a"), "w")
    assert base.id == build_trigger(b"key", "ci", change("a"), "other words", "detail").id
    others = [
        build_trigger(b"key", "ci", change("b"), "w"),
        build_trigger(b"key", "hook", change("a"), "w"),
        build_trigger(b"key", "ci", change("a", new_mode="100755"), "w"),
    ]
    assert build_trigger(b"another key", "ci", change("a"), "w").id != base.id
    assert build_trigger(b"another key", "ci", change("a"), "w").digest == base.digest
    moved = Change(path=b"a", old_mode="000000", new_mode="100644", old=NONE, new="3" * 40)
    assert len({base.id, build_trigger(b"key", "ci", moved, "w").id, *(o.id for o in others)}) == 5


def test_of_endless_triggers_as_many_are_named_as_a_note_has_room_for() -> None:
    triggers = [build_trigger(b"k", "executable", change(f"{'é' * 150}{n}"), "why") for n in range(20_000)]
    named = name_all(triggers)
    assert len(json.dumps(named)) < 5 * 1024 * 1024
    assert named[:-1] == tuple(trigger.named for trigger in triggers[: len(named) - 1])
    rest = "".join(f"{trigger.named}\n" for trigger in triggers[len(named) - 1 :])
    assert named[-1] == f"and {20_001 - len(named)} more sha256:{hashlib.sha256(rest.encode()).hexdigest()}"
    assert name_all(triggers[:2]) == (triggers[0].named, triggers[1].named)


def test_a_path_is_shown_in_printable_characters() -> None:
    assert shown(b"a\xff\x1b\n\xe2\x80\xae") == "a\\xff\\x1b\\n\\u202e"


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("x\n# vim: set modelineexpr statusline=%{system('x')}:\n", "vim"),
        ("// ex: makeprg=evil\n", "vim"),
        ('# -*- eval: (shell-command "x") -*-\n', "emacs"),
        ("code\n// Local Variables:\n// eval: (x)\n// End:\n", "emacs"),
        ("# -*- coding: utf-7 -*-\n", "utf-7"),
        ("#!/usr/bin/python\n# coding=raw_unicode_escape\n", "raw_unicode_escape"),
        # The fifth line from the end; far to the right; so many lines from the end that they are still near enough.
        ("x\n" * 20 + "# vim: foldexpr=evil()\n" + "x\n" * 4, "vim"),
        ("x\n" * 20 + "# vim: foldexpr=evil()\n" + "x\n" * 3 + "x", "vim"),
        (" " * 2000 + " vim: foldexpr=evil()\n", "vim"),
        (";" + " " * 2000 + '-*- eval: (shell-command "x") -*-\n', "emacs"),
        ("# " + " " * 2000 + "coding: utf-7\n", "utf-7"),
        ("// local variables:\n// eval: (x)\n// end:\n" + "x\n" * 1000, "emacs"),
    ],
)
def test_a_line_that_an_editor_obeys_is_named(text: str, detail: str) -> None:
    assert detail in kinds("a.txt", text)["modeline"]


@pytest.mark.parametrize(
    "text",
    [
        "# vim: ts=4 sw=4 et:\n",
        "# vim: set ft=python:\n",
        "# -*- coding: utf-8 -*-\n",
        "# -*- mode: python; indent-tabs-mode: nil -*-\n",
        "the encoding: base64\n" * 3,
        "text about vim: it is an editor\n" + "more\n" * 20,
    ],
)
def test_a_line_about_indentation_is_none(text: str) -> None:
    assert "modeline" not in kinds("a.txt", "first\nsecond\n" * 3 + text if "vim: it" in text else text)


def test_a_modeline_that_was_there_is_not_the_agents() -> None:
    line = "# vim: set makeprg=x:\n"
    assert "modeline" not in kinds("a.txt", line + "new\n", line + "old\n")


@pytest.mark.parametrize("key", ["jest", "imports", "trustedDependencies", "gitHooks", "type", "anything-new"])
def test_any_key_of_package_json_but_words_for_people_counts(key: str) -> None:
    base = {"name": "x", "version": "1"}
    assert key in kinds("package.json", json.dumps({**base, key: {"a": "./evil.js"}}), json.dumps(base))["package"]
    people = {**base, "version": "2", "description": "d", "keywords": ["k"], "author": "a"}
    assert "package" not in kinds("package.json", json.dumps(people), json.dumps(base))


def test_on_a_forge_the_owner_is_part_of_the_source() -> None:
    old = '"resolved": "git+ssh://git@github.com/good/lib.git#aa"'
    assert kinds("package-lock.json", old.replace("good", "evil"), old)["lock"] == "git+github.com/evil/lib"
    assert "lock" not in kinds("package-lock.json", old.replace("#aa", "#bb"), old)
    flake = '{"nodes": {"n": {"locked": {"type": "github", "owner": "%s", "repo": "nixpkgs", "rev": "%s"}}}}'
    assert kinds("flake.lock", flake % ("evil", "a"), flake % ("NixOS", "a"))["lock"] == "github/evil/nixpkgs"
    assert "lock" not in kinds("flake.lock", flake % ("NixOS", "b"), flake % ("NixOS", "a"))


def test_a_version_with_another_content_is_named() -> None:
    old = '{"packages": {"node_modules/a": {"version": "1.0.0", "integrity": "sha512-AA"}}}'
    assert "node_modules/a 1.0.0" in kinds("package-lock.json", old.replace("AA", "BB"), old)["lock"]
    assert "lock" not in kinds("package-lock.json", old.replace("AA", "BB").replace("1.0.0", "1.0.1"), old)
    cargo = '[[package]]\nname = "a"\nversion = "1"\nchecksum = "aa"\n'
    assert "a 1" in kinds("Cargo.lock", cargo.replace("aa", "bb"), cargo)["lock"]


NPM_1 = '{"dependencies": {"a": {"version": "1", "dependencies": {"b": {"version": "2", "integrity": "sha512-AA"}}}}}'
YARN_1 = (
    '# yarn\n\nb@^1, "b@^2":\n  version "2"\n  resolved "https://r.example/b/-/b-2.tgz#AA"\n  integrity sha512-AA\n'
)
YARN_2 = '"b@npm:^2":\n  version: 2\n  resolution: "b@npm:2"\n  checksum: 10/AA\n  languageName: node\n'
SAME_VERSION = {
    "npm, version 1": ("package-lock.json", NPM_1, "a > b 2"),
    "yarn": ("yarn.lock", YARN_1, "b 2"),
    "yarn berry": ("yarn.lock", YARN_2, "b 2"),
    "pnpm": ("pnpm-lock.yaml", "packages:\n\n  'b@2':\n    resolution: {integrity: sha512-AA}\n", "b@2"),
    "go": ("go.sum", "example.com/b v2 h1:AA=\n", "example.com/b v2"),
    "composer": ("composer.lock", '{"packages": [{"name": "x/b", "version": "2", "dist": {"shasum": "AA"}}]}', "x/b 2"),
    "pipenv": ("Pipfile.lock", '{"default": {"b": {"version": "==2", "hashes": ["sha256:AA"]}}}', "b ==2"),
    "pip": ("requirements.txt", "b==2 \\\n    --hash=sha256:AA\nc==1\n", "b 2"),
}


@pytest.mark.parametrize("what", SAME_VERSION)
def test_in_each_format_a_version_with_another_content_is_named(what: str) -> None:
    name, old, package = SAME_VERSION[what]
    assert f"the same version with another content: {package}" in kinds(name, old.replace("AA", "BB"), old)["lock"]
    assert "lock" not in kinds(name, old, old)
    newer = old.replace("AA", "BB").replace("2", "3")
    assert "same version" not in kinds(name, newer, old).get("lock", "")


def test_another_package_of_the_same_registry_under_a_known_version_is_named() -> None:
    assert "b 2" in kinds("yarn.lock", YARN_1.replace("b/-/b-2", "evil/-/evil-1"), YARN_1)["lock"]


def test_a_lock_file_that_cannot_be_read_any_more_is_a_trigger() -> None:
    deep = '{"nodes": {}, "x": %s}' % ("[" * 2000 + "]" * 2000)
    assert "read" in kinds("flake.lock", deep, "{}")["lock"]
    assert "read" in kinds("package-lock.json", "{", "")["lock"]
    assert "read" in kinds("Cargo.lock", "a = [" * 9, "")["lock"]
    assert "read" in kinds("Cargo.lock", f'[[package]]\nname = "a"\nchecksum = 0x{"f" * 5000}\n', "")["lock"]
    assert "lock" not in kinds("flake.lock", deep, "{")


def test_half_a_character_in_json_is_shown() -> None:
    assert "\\xed\\xa0\\x80" in kinds("package.json", '{"\\ud800": 1}')["package"]
    flake = '{"nodes": {"n": {"locked": {"type": "\\udfff"}}}}'
    assert "\\xed\\xbf\\xbf" in kinds("flake.lock", flake)["lock"]


@pytest.mark.timeout(100)
def test_endless_words_take_no_hours() -> None:
    """Each of these took minutes to hours; the limit is the suite's own, for a test."""
    for text in ("a." * 150_000, "git@" * 70_000, "a://" * 70_000):
        kinds("yarn.lock", text)
    for name in ("requirements.txt", "pnpm-lock.yaml", "go.sum", "yarn.lock"):
        for text in ("a" * 300_000, "  a\n" * 70_000, "a==1 " * 60_000, "a==1\n" * 60_000, "a b " * 70_000):
            kinds(name, text)
    kinds("uv.lock", f"[a{'.a' * 40_000}]\n" + "".join(f"b.c{n} = 1\n" for n in range(30_000)))
    for word in ("secret", "pwd", "password="):
        kinds("notes.txt", (word * 600 + "\n") * 60)


@pytest.mark.parametrize("code", [0x2028, 0x2029, 0x180B, 0x2065, 0xE0001, 0xE0100, 0xFFF0, 0x00AD, 0x1BCA0])
def test_every_character_that_may_be_left_out_is_hidden(code: int) -> None:
    assert "unicode" in kinds("a.js", f"x{chr(code)}y\n")
    assert [f.kind for f in check_entry(change(f"a{chr(code)}b"))] == ["name"]
