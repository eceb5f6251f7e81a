"""Characters that nobody sees, and lines that an editor obeys. PURE.

Trust: every byte here is the agent's making.
"""

from __future__ import annotations

import re
import unicodedata

_SHOWN = 5
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0d-\x1f\x7f]")
# Source: Unicode, DerivedCoreProperties.txt, Default_Ignorable_Code_Point; without U+FE0F, which stands in every emoji.
_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0E), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
_PICTURE, _KEYCAP = "\ufe0f", "\u20e3"  # Source: Unicode TR 51, emoji presentation
_LETTERS_WITH_PICTURE = ("\u2139",)  # the information sign, which Unicode counts among the letters
_BLANK = (0x2800, 0x2028, 0x2029, 0x16FE4)  # fillers, and what some programs take for the end of a line

# Source: Vim, :help modeline; Emacs, "Specifying File Variables"; PEP 263.
_VIM = re.compile(r"(?:^|\s)(?:vi|[vV]im(?:[<=>]?\d+)?|ex):\s*(?:set?\s)?(.+)")
_EMACS = re.compile(r"-\*-(.*?)-\*-")
_VIM_LINES = 5  # at either end
_EMACS_REACH = (
    4000  # characters from the end: 3,000 of Emacs's, and the first of them may be in the middle of the words
)
_EMACS_LOCAL = re.compile(r"Local Variables:", re.IGNORECASE)
_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_VIM_HARMLESS = re.compile(
    r"(?:no)?(?:et|expandtab|ai|si|wrap|list|cin|hls)|(?:ts|sts|sw|tw|tabstop|softtabstop|shiftwidth|textwidth|ft|filetype"
    r"|syn|syntax|fdm|foldmethod|fdl|foldlevel|fenc|fileencoding|ff|fileformat|cc|nu|sr|spell|spl)=[\w,.+-]*|se[t]?|"
)
_EMACS_HARMLESS = re.compile(
    r"[\w+-]+|(?:mode|coding|encoding|lexical-binding|indent-tabs-mode|tab-width|fill-column|c-basic-offset|buffer-read-only"
    r"|c-file-style|python-indent-offset|js-indent-level|sh-basic-offset|truncate-lines):\s*[\w.+-]*|",
    re.IGNORECASE,
)
_CODINGS = frozenset(
    {"utf-8", "utf8", "utf-8-sig", "utf-8-unix", "ascii", "us-ascii", "latin-1", "iso-8859-1", "cp1252"}
)


def find_hidden(lines: list[str]) -> str:
    """Where characters stand that nobody sees. Source: CVE-2021-42574 ("Trojan Source"); Unicode TR 36."""
    counted: dict[str, int] = {}
    first = 0
    for number, line in enumerate(lines, 1):
        if line.isascii() and (line.isprintable() or not _CONTROL.search(line)):
            continue
        for at, character in enumerate(line):
            if is_hidden(character) or (character == _PICTURE and not _stands_behind_picture(line, at)):
                counted[character] = counted.get(character, 0) + 1
                first = first or number
    if not counted:
        return ""
    names = [unicodedata.name(c, f"U+{ord(c):04X}") for c in list(counted)[:_SHOWN]]
    return f"line {first}: {', '.join(names)}"


def _stands_behind_picture(line: str, at: int) -> bool:
    """Whether the sign that asks for a picture has one to ask for. A name with it looks like the one without."""
    before = line[at - 1 : at]
    if line[at + 1 : at + 2] == _KEYCAP:
        return before != "" and before in "#*0123456789"
    return before in _LETTERS_WITH_PICTURE or not (before == "" or before.isalnum() or before in ("_", _PICTURE))


def is_hidden(character: str) -> bool:
    """Whether a character shows nothing, or changes how others are shown."""
    code = ord(character)
    if code < 0x20 or code == 0x7F:
        return character not in "\t\n\f"  # what is left of carriage returns stands alone, and overprints
    if code < 0x80:
        return False
    return code < 0xA0 or unicodedata.category(character) == "Cf" or is_ignorable(character) or code in _BLANK


def is_ignorable(character: str) -> bool:
    """Whether programs may leave a character out when they show or compare text."""
    code = ord(character)
    return any(first <= code <= last for first, last in _IGNORABLE)


def find_modeline(lines: list[str]) -> str:
    """A line that an editor or interpreter obeys when it opens the file, beyond how text is indented; or nothing.

    Args:
        lines: The file's, with those left empty that were there before.
    """
    # The text ends with a line feed: behind that nothing is a line, for Vim.
    last = lines[:-1] if lines and not lines[-1] else lines
    for number, line in enumerate(lines[:_VIM_LINES] + last[-_VIM_LINES:]):
        vim = _VIM.search(line)
        if vim is not None and not all(map(_VIM_HARMLESS.fullmatch, re.split(r"[\s:]+", vim[1].strip()))):
            return f"vim: {vim[1].strip()[:80]}"
        coding = _CODING.search(line) if number < 2 else None
        if coding is not None and coding[1].casefold().replace("_", "-") not in _CODINGS:
            return f"read as {coding[1][:40]}"
    emacs = _EMACS.search(lines[0]) or (_EMACS.search(lines[1]) if len(lines) > 1 else None)
    if emacs is not None and not all(_EMACS_HARMLESS.fullmatch(word.strip()) for word in emacs[1].split(";")):
        return f"emacs: {emacs[1].strip()[:80]}"
    if _EMACS_LOCAL.search("\n".join(lines)[-_EMACS_REACH:]):
        return "emacs: Local Variables"
    return ""
