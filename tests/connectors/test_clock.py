from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.clock import ReceiveClock


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**62), min_size=2, max_size=50))
def test_time_always_advances_whatever_the_system_s_clock_does(wall):
    clock = ReceiveClock(iter(wall).__next__)
    answers = [clock() for _ in wall]
    assert all(before < after for before, after in pairwise(answers))
    assert all(answer >= at for answer, at in zip(answers, wall, strict=True))


def test_it_is_the_wall_clock_while_that_advances():
    wall = [10, 20, 30, 25, 26, 40]
    clock = ReceiveClock(iter(wall).__next__)
    assert [clock() for _ in wall] == [10, 20, 30, 31, 32, 40]


def test_the_default_is_utc_now():
    assert ReceiveClock()() > 1_700_000_000_000_000_000
