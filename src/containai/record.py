"""The dataclass that this program is made of, without code that is compiled at each start.

``dataclasses`` writes and compiles the methods of every class while it is imported. For the seventy classes that a
launch loads, that was half of the time until it did anything. All of them are of one kind (frozen, slots, keywords
only), so that one set of methods serves them all. What they are remains a dataclass: ``fields``, ``replace``,
``asdict`` and type checkers see no difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, cast, dataclass_transform

_Class = TypeVar("_Class", bound=type)
_put = object.__setattr__


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,))
def dataclass(*, frozen: bool, slots: bool, kw_only: bool) -> Callable[[_Class], _Class]:
    """``dataclasses.dataclass``, of this one kind.

    Args:
        frozen: Instances cannot be changed.
        slots: They have no other attributes.
        kw_only: They are made with keywords.

    Preconditions: the class inherits from no other record, and has no ``__post_init__``.
    """
    if not (frozen and slots and kw_only):
        raise TypeError("a record is frozen, has slots, and is made with keywords")
    return _make


def _make(cls: _Class) -> _Class:
    for method in (_init, _repr, _eq, _hash, _setattr, _delattr, _getstate, _setstate):
        name = f"__{method.__name__.strip('_')}__"
        if name not in cls.__dict__:  # a class may have one of its own, such as a __repr__ that hides a secret
            setattr(cls, name, method)
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, match_args=False, slots=True, kw_only=True)(cls)
    fields = dataclasses.fields(made)
    made._made_of = tuple((f.name, f.default, f.default_factory) for f in fields)
    made._shown = tuple(f.name for f in fields if f.repr)
    made._compared = tuple(f.name for f in fields if f.compare)
    return cast(_Class, made)


def _init(self: Any, **given: Any) -> None:
    for name, default, factory in self._made_of:
        if name in given:
            value = given.pop(name)
        elif default is not dataclasses.MISSING:
            value = default
        elif factory is not dataclasses.MISSING:
            value = factory()
        else:
            raise TypeError(f"{type(self).__qualname__}: {name} is missing")
        _put(self, name, value)
    if given:
        raise TypeError(f"{type(self).__qualname__} has no {', '.join(given)}")


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown)
    return f"{type(self).__qualname__}({shown})"


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in self._compared)


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _setattr(_self: Any, name: str, _value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(_self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, name) for name, *_ in self._made_of]


def _setstate(self: Any, state: list[Any]) -> None:
    for (name, *_), value in zip(self._made_of, state, strict=True):
        _put(self, name, value)
