"""Limits of time: what has too little of it ends with a reason, and what has enough is left alone."""

import pytest

from sgdsim.base import budget
from sgdsim.base.budget import OutOfTime, check, limited, require


@pytest.fixture
def now(monkeypatch):
    """A clock that is set by hand."""
    times = [0.0]
    monkeypatch.setattr(budget, "clock", lambda: times[0])
    return times


def test_what_is_over_its_limit_ends_where_it_looks(now):
    with limited(2.0):
        now[0] = 2.0
        check()
        now[0] = 2.5
        with pytest.raises(OutOfTime, match=r"^needs more than 2 s$"):
            check()
    check()  # outside, nothing is limited


def test_the_limit_around_holds_within(now):
    with limited(2.0):
        now[0] = 1.5
        with limited(100.0):
            now[0] = 2.5
            with pytest.raises(OutOfTime, match="more than 2 s"):
                check()
    with limited(100.0):
        with limited(2.0):
            now[0] = 5.0
            with pytest.raises(OutOfTime, match="more than 2 s"):
                check()
        check()  # the block around has more


def test_what_cannot_end_in_time_does_not_begin(now):
    with limited(20.0):
        now[0] = 5.0
        require(15.0, "a mesh")
        with pytest.raises(OutOfTime, match="needs about 16 s for a mesh, and has 20 s"):
            require(16.0, "a mesh")
    require(1e9, "nothing is limited here")


def test_what_takes_long_is_told_once(now):
    told = []
    with limited(say=lambda: told.append("outer")):
        for _ in range(3):
            with limited(50.0):
                now[0] += 0.4
                check()
        assert told == ["outer"]
        with limited(50.0, say=lambda: told.append("inner")):
            check()
            now[0] += 2.0
            check()
            check()
    assert told == ["outer", "inner"]


def test_what_is_quick_is_not_told_of(now):
    with limited(say=lambda: pytest.fail("it told")):
        now[0] = 0.9
        check()
