"""Finds the errors that the source raises, for docs/errors.md: their words, with plain placeholders for what varies."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from containai.errors import ContainaiError

# Functions that change how a value is shown, not what it is: the placeholder is that of the value.
_WRAPPERS = frozenset(
    ("printable", "ascii", "repr", "str", "quote", "shown", "shorten", "where", "min", "_key", "_name", "join")
)
# Where the source's own name would not tell a reader what stands there.
_WORDS = {
    "argv": "program",
    "commits": "commit",
    "installation": "how it is installed",
    "missing": "name",
    "mixed": "key",
    "near": "name",
    "known": "name",
    "state dir": "state directory",
    "git dir": "git directory",
    "gettempdir": "temporary directory",
    "timeout s": "number of seconds",
    "tip": "commit",
    "tuple": "what `containai doctor` prints",
    "wanted": "what was asked for",
}
_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RaisedError:
    """One error that the code raises, as far as its source tells."""

    code: str
    exit_status: str
    summary: str
    remedy: str


def raised_errors(source: Path) -> Iterator[RaisedError]:
    """Find each call of an error class that has its code written out, below a directory with the package."""
    from containai import errors

    classes: dict[str, type[errors.ContainaiError]] = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ContainaiError)
    }
    for path in sorted(source.glob("containai/**/*.py")):
        module = ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            kind = classes.get(node.func.id)
            if kind is None:
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            words = _Words(module)
            yield RaisedError(
                code=words.of(given["code"]) if "code" in given else kind.default_code,
                exit_status=_status(kind),
                summary=words.of(node.args[0]),
                remedy=words.of(given["remedy"]) if "remedy" in given else "",
            )


def _status(kind: type[ContainaiError]) -> str:
    return " or ".join(map(str, getattr(kind, "exit_statuses", (kind.exit_status,))))


class _Words:
    """What an expression of a module says, with a placeholder for what is known only at run time."""

    def __init__(self, module: str) -> None:
        self.module = module

    def of(self, node: ast.expr) -> str:  # noqa: PLR0911  # one for each form
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(self.of(part) for part in parts)
            case ast.FormattedValue(value=value):
                return self.of(value)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return "; ".join(self.of(item) for item in items)
            case ast.IfExp(body=body, orelse=orelse):
                one, other = self.of(body), self.of(orelse)
                return one if other.startswith(one) else "; or: ".join(filter(None, (one, other)))
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return f"{self.of(left)}{self.of(right)}"
            case ast.BoolOp(values=values):
                return " or ".join(map(self.of, values))
            case ast.Starred(value=value):
                return self.of(value)
        if isinstance(node, ast.Constant):
            return "" if node.value is None else str(node.value)
        constant = self._constant(node)
        return constant if constant is not None else _bracketed(_placeholder(node))

    def _constant(self, node: ast.expr) -> str | None:
        """The value, where the expression is made of the module's own constants."""
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        if not names or not all(_CONSTANT.fullmatch(name) for name in names):
            return None
        known = vars(importlib.import_module(self.module))
        if not all(isinstance(known.get(name), (str, int, list, tuple)) for name in names):
            return None
        used = {name: known[name] for name in names}
        value: Any = eval(compile(ast.Expression(node), "<constant>", "eval"), {}, used)  # our own source
        return "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _bracketed(name: str) -> str:
    return f"<{_WORDS.get(name, name)}>"


def _placeholder(node: ast.expr) -> str:  # noqa: PLR0911  # one for each form
    """A name for what stands there, in words."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").replace("_", " ").lower()
        case ast.Subscript(value=value):
            return _placeholder(value)
        case ast.BinOp(left=left):
            return _placeholder(left)
        case ast.Call(func=ast.Name(id="len")):
            return "number"
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[first, *_]) if name in _WRAPPERS:
            return _placeholder(first)
        case ast.Call(func=ast.Attribute(attr=name, value=value), args=[]) if name != "gettempdir":
            return _placeholder(value)
        case ast.Call(func=function):
            return _placeholder(function)
        case ast.JoinedStr():
            return "name"
        case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
            return _placeholder(element)
    return "value"
