"""Values behave like frozen dataclasses."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbridge.values import REGISTRY, Value, ValueType, field


class Point(Value):
    x: int
    y: int = 0
    why: str = field(default="", compare=False)


class Checked(Value):
    port: int

    def __post_init__(self) -> None:
        if self.port > 65535:
            raise ValueError("too big")


class Other(Value):
    x: int
    y: int = 0
    why: str = field(default="", compare=False)


points = st.builds(Point, st.integers(), st.integers(), st.text())


def test_fields_by_position_and_name() -> None:
    assert Point(1, 2) == Point(x=1, y=2) == Point(1, y=2)
    assert Point(1).y == 0
    assert Point(1).why == ""


def test_fields_are_in_their_order() -> None:
    assert Point.__match_args__ == ("x", "y", "why")


def test_a_value_type_has_no_subtypes() -> None:
    with pytest.raises(TypeError, match="no base but Value"):
        ValueType("Named", (Point,), {})
    assert "Named" not in REGISTRY


def test_a_type_has_no_attribute_that_nobody_gave_it() -> None:
    with pytest.raises(AttributeError, match=r"'Point' has no attribute 'colour'"):
        Point.colour  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "misses its field 'x'"),
        ((1, 2, "", 3), {}, "takes 3 fields, got 4"),
        ((1,), {"z": 1}, "no field 'z'"),
        ((1,), {"x": 1}, "'x'"),
    ],
)
def test_a_wrong_call_is_refused_with_the_field(args: tuple[int, ...], kwargs: dict[str, int], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Point(*args, **kwargs)


def test_frozen() -> None:
    point = Point(1, 2)
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 3  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del point.x  # type: ignore[misc]
    with pytest.raises(AttributeError):
        point.colour = "red"  # type: ignore[attr-defined]
    assert not hasattr(point, "__dict__"), "slots only: ten thousand ports are ten thousand values"
    assert point == Point(1, 2)


def test_checked_where_it_is_born_and_where_it_is_changed() -> None:
    with pytest.raises(ValueError, match="too big"):
        Checked(70000)
    with pytest.raises(ValueError, match="too big"):
        Checked(80).replace(port=70000)


@given(points, points)
def test_equality_is_that_of_the_compared_fields(one: Point, two: Point) -> None:
    assert (one == two) == ((one.x, one.y) == (two.x, two.y))
    if one == two:
        assert hash(one) == hash(two)
        assert len({one, two}) == 1


@given(points, st.text())
def test_the_reason_is_beside_the_value(point: Point, why: str) -> None:
    assert point.replace(why=why) == point
    assert hash(point.replace(why=why)) == hash(point)


def test_another_class_is_another_value() -> None:
    assert Point(1, 2) != Other(1, 2)
    assert Point(1, 2) != (1, 2)


@given(points, st.integers())
def test_replace_changes_one_field_only(point: Point, x: int) -> None:
    changed = point.replace(x=x)
    assert (changed.x, changed.y, changed.why) == (x, point.y, point.why)
    assert type(changed) is Point


def test_replace_refuses_unknown_fields() -> None:
    with pytest.raises(TypeError, match="no field 'z'"):
        Point(1).replace(z=1)


@given(points)
def test_copies_and_pickles_keep_every_field(point: Point) -> None:
    for twin in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert twin == point
        assert twin.why == point.why


@given(points)
def test_repr_is_the_call_that_makes_it(point: Point) -> None:
    again = eval(repr(point), {"Point": Point})
    assert again == point
    assert again.why == point.why


def test_repr_leaves_defaults_out() -> None:
    assert repr(Point(1)) == "Point(x=1)"


def test_a_value_can_be_matched_by_position() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
        case _:
            pytest.fail("no match")


def test_every_value_type_is_known_by_name() -> None:
    from nsbridge.values import REGISTRY

    assert REGISTRY["Point"] is Point
    assert type(Point) is ValueType
