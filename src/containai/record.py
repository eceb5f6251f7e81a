"""The dataclass that this program is made of, without what a launch would pay for it.

``dataclasses`` writes and compiles the methods of every class while it is imported, and loads ``inspect`` with it: for
the seventy classes of a launch, more than half of the time until it did anything. All of them are of one kind (frozen,
slots, keywords only), so that one set of methods serves them all. What they are remains a dataclass: its own
``fields``, ``replace`` and ``asdict`` work on them too, and load it then; type checkers see no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar, dataclass_transform

__all__ = ["as_dict", "dataclass", "field", "names_of", "needed_by", "replace"]

_Class = TypeVar("_Class", bound=type)
_put = object.__setattr__


class _Absent:
    """Instead of a default, where there is none."""


class _Field(NamedTuple):
    name: str
    default: Any = _Absent
    factory: Any = _Absent
    shown: bool = True
    compared: bool = True

    @property
    def must_be_given(self) -> bool:
        return self.default is _Absent and self.factory is _Absent


if TYPE_CHECKING:
    from dataclasses import field, replace
else:

    def field(
        *,
        default: Any = _Absent,
        default_factory: Any = _Absent,
        repr: bool = True,  # noqa: A002  (as dataclasses calls it)
        compare: bool = True,
    ) -> Any:
        """``dataclasses.field``, as far as it is needed here, in its words."""
        return _Field("", default, default_factory, repr, compare)

    def replace(record: Any, **changes: Any) -> Any:
        """``dataclasses.replace``: the same record but for these fields."""
        return type(record)(**as_dict(record) | changes)


def names_of(kind: type) -> tuple[str, ...]:
    """The fields of a class of records; of another class, none."""
    return tuple(each.name for each in getattr(kind, "_made_of", ()))


def needed_by(kind: type) -> frozenset[str]:
    """The fields that have to be given."""
    made_of: tuple[_Field, ...] = kind._made_of  # type: ignore[attr-defined]
    return frozenset(each.name for each in made_of if each.must_be_given)


def as_dict(record: Any) -> dict[str, Any]:
    """The fields with their values, which are handed out as they are."""
    return {each.name: getattr(record, each.name) for each in type(record)._made_of}


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def dataclass(*, frozen: bool, slots: bool, kw_only: bool) -> Callable[[_Class], _Class]:
    """``dataclasses.dataclass``, of this one kind.

    Args:
        frozen: Instances cannot be changed.
        slots: They have no other attributes.
        kw_only: They are made with keywords.

    Preconditions: the class has no ``__post_init__`` and no class variables, and none of its methods says ``super()``.
    """
    if not (frozen and slots and kw_only):
        raise TypeError("a record is frozen, has slots, and is made with keywords")
    return _make


def _make(cls: _Class) -> _Class:
    own = tuple(_read(name, cls.__dict__.get(name, _Absent)) for name in cls.__annotations__)
    names = tuple(each.name for each in own)
    fields: tuple[_Field, ...] = (*getattr(cls, "_made_of", ()), *own)  # after those of a record that it inherits from
    # A class gets its slots when it is made, so that it is made again.
    kept = {k: v for k, v in cls.__dict__.items() if k not in names and k not in ("__dict__", "__weakref__")}
    given = {name: method for name, method in _METHODS.items() if name not in kept}
    kept |= given | {"__slots__": names, "__qualname__": cls.__qualname__, "__dataclass_fields__": _Fields()}
    kept["_made_of"] = fields
    kept["_shown"] = tuple(each.name for each in fields if each.shown)
    kept["_compared"] = tuple(each.name for each in fields if each.compared)
    return type(cls)(cls.__name__, cls.__bases__, kept)


def _read(name: str, said: Any) -> _Field:
    if type(said).__module__ == "dataclasses":
        raise TypeError(f"{name}: a record's field() is the one of containai.record")
    made = said._replace(name=name) if isinstance(said, _Field) else _Field(name, said)
    if isinstance(made.default, (list, dict, set)):
        raise TypeError(f"{name}: a default that can be changed would be shared")
    return made


class _Fields:
    """``__dataclass_fields__``, by which ``dataclasses`` knows its own: made when it asks for the first time."""

    def __get__(self, _record: Any, cls: Any) -> Any:
        import dataclasses

        plain: dict[str, Any] = {"__annotations__": {}, "__module__": cls.__module__}
        for base in reversed(cls.__mro__[:-1]):
            plain["__annotations__"] |= base.__annotations__
        for name, default, factory, shown, compared in cls._made_of:
            words = {"default": default, "default_factory": factory}
            words = {word: value for word, value in words.items() if value is not _Absent}
            plain[name] = dataclasses.field(**words, repr=shown, compare=compared)
        made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=True)(type(cls.__name__, (), plain))
        cls.__dataclass_fields__ = made.__dataclass_fields__
        return made.__dataclass_fields__


def _init(self: Any, **given: Any) -> None:
    for name, default, factory, *_ in self._made_of:
        if name in given:
            value = given.pop(name)
        elif default is not _Absent:
            value = default
        elif factory is not _Absent:
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


def _setattr(_self: Any, name: str, _value: Any) -> NoReturn:
    _refuse(f"cannot assign to field {name!r}")


def _delattr(_self: Any, name: str) -> NoReturn:
    _refuse(f"cannot delete field {name!r}")


def _refuse(why: str) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(why)


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, name) for name, *_ in self._made_of]


def _setstate(self: Any, state: list[Any]) -> None:
    for (name, *_), value in zip(self._made_of, state, strict=True):
        _put(self, name, value)


_METHODS = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,  # a class that says __eq__ and not this has a __hash__ of None, which is kept
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
