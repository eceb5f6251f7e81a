"""The program's own dataclass: what ``dataclasses`` makes of the same words, it makes too."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any

import pytest

from containai.engine.protocol import ContainerSpec
from containai.record import as_dict, dataclass, field, names_of, needed_by
from containai.record import replace as replace_ours

pytestmark = pytest.mark.user


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    name: str
    secret: str = field(repr=False, default="s3cret")
    many: tuple[int, ...] = ()
    each: dict[str, int] = field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    name: str
    secret: str = dataclasses.field(repr=False, default="s3cret")
    many: tuple[int, ...] = ()
    each: dict[str, int] = dataclasses.field(default_factory=dict, compare=False)


KINDS: list[Any] = [Ours, Theirs]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_made_with_keywords_of_its_fields_alone(kind: Any) -> None:
    assert kind(name="a", many=(1,)).many == (1,)
    for wrong in ({}, {"name": "a", "nome": "b"}):
        with pytest.raises(TypeError, match=r"name|nome"):
            kind(**wrong)
    with pytest.raises(TypeError, match="positional"):
        kind("a")


@pytest.mark.parametrize("kind", KINDS)
def test_it_cannot_be_changed(kind: Any) -> None:
    made = kind(name="a")
    with pytest.raises(FrozenInstanceError):
        made.name = "b"
    with pytest.raises(FrozenInstanceError):
        del made.name
    with pytest.raises((FrozenInstanceError, TypeError)):  # the latter is what Python 3.11's says
        made.other = "b"
    assert made.name == "a"
    assert not hasattr(made, "__dict__")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_to_be_shown_is_not(kind: Any) -> None:
    assert repr(kind(name="a", secret="t0p")) == f"{kind.__name__}(name='a', many=(), each={{}})"


@pytest.mark.parametrize("kind", KINDS)
def test_equal_are_those_with_the_same_content(kind: Any) -> None:
    one, same, other = kind(name="a", each={"x": 1}), kind(name="a"), kind(name="b")
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "a"
    assert len({one, same, other}) == 2


def test_ours_is_not_equal_to_another_kind_with_the_same_content() -> None:
    theirs: Any = Theirs(name="a")
    assert Ours(name="a") != theirs


@pytest.mark.parametrize("kind", KINDS)
def test_a_default_is_made_anew_each_time(kind: Any) -> None:
    kind(name="a").each["x"] = 1
    assert kind(name="b").each == {}


@pytest.mark.parametrize("kind", KINDS)
def test_the_tools_of_dataclasses_work_on_it(kind: Any) -> None:
    made = kind(name="a", many=(1, 2))
    assert [f.name for f in fields(made)] == ["name", "secret", "many", "each"]
    assert asdict(replace(made, name="b")) == {"name": "b", "secret": "s3cret", "many": (1, 2), "each": {}}
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made
        assert again is not made


@pytest.mark.parametrize("make", [dataclass, dataclasses.dataclass])
def test_a_method_of_the_classs_own_is_kept(make: Any) -> None:
    @make(frozen=True, slots=True, kw_only=True)
    class Own:
        name: str

        def __repr__(self) -> str:
            return "hidden"

    made: Any = Own
    assert repr(made(name="t0p")) == "hidden"
    assert made(name="a") == made(name="a")


def test_its_fields_are_told_in_order() -> None:
    assert names_of(Ours) == ("name", "secret", "many", "each")
    assert names_of(Theirs) == names_of(str) == ()
    assert needed_by(Ours) == {"name"}
    made = Ours(name="a", many=(1,))
    assert as_dict(made) == {"name": "a", "secret": "s3cret", "many": (1,), "each": {}}
    assert replace_ours(made, name="b") == Ours(name="b", many=(1,))
    with pytest.raises(TypeError, match="nome"):
        replace_ours(made, nome="b")  # type: ignore[call-arg]


def test_one_that_inherits_has_the_fields_of_both() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class More(Ours):
        last: int = 0

    made = More(name="a", last=1)
    assert (made.secret, made.last) == ("s3cret", 1)
    assert names_of(More) == (*names_of(Ours), "last") == tuple(f.name for f in fields(More))
    assert made != Ours(name="a")
    assert not hasattr(made, "__dict__")


def test_a_launch_does_not_load_dataclasses() -> None:
    """Nor what it is made of, which takes as long as all records."""
    look = "import sys, containai.cli.run, containai.session.run; print({'dataclasses', 'inspect'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "set()\n", done.stderr


def test_a_field_of_theirs_is_not_taken_for_a_default() -> None:
    """It would be: and what was not to be shown, shown."""
    with pytest.raises(TypeError, match="secret"):

        @dataclass(frozen=True, slots=True, kw_only=True)
        class Mixed:
            secret: str = dataclasses.field(repr=False, default="")


def test_a_default_that_all_would_share_is_refused() -> None:
    with pytest.raises(TypeError, match="shared"):

        @dataclass(frozen=True, slots=True, kw_only=True)
        class Shared:
            each: dict[str, int] = {}  # noqa: RUF012


def test_no_other_kind_is_made() -> None:
    with pytest.raises(TypeError, match="frozen"):
        dataclass(frozen=False, slots=True, kw_only=True)


def test_the_environment_of_a_container_is_not_shown() -> None:
    values = dict.fromkeys((f.name for f in fields(ContainerSpec)), ())
    spec = ContainerSpec(**(values | {"environment": {"TOKEN": "t0p"}}))  # type: ignore[arg-type]
    assert "t0p" not in repr(spec)
