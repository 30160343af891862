import random
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.retry import BANNED_S, CAP_S, FIRST_S, backoff, least_wait_s


def ceilings(count):
    return [min(CAP_S, FIRST_S * 2**attempt) for attempt in range(count)]


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_every_wait_lies_between_nothing_and_the_doubled_ceiling(seed):
    waits = list(islice(backoff(random.Random(seed)), 30))
    assert all(0.0 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings(30), strict=True))


def test_the_jitter_is_full():
    """Each attempt's waits fill their whole range evenly: clients that failed together do not come back together."""
    runs = [list(islice(backoff(random.Random(seed)), 12)) for seed in range(2_000)]
    for waits, ceiling in zip(zip(*runs, strict=True), ceilings(12), strict=True):
        assert abs(sum(waits) / len(waits) - ceiling / 2) < 0.05 * ceiling
        assert min(waits) < 0.01 * ceiling
        assert max(waits) > 0.99 * ceiling


def test_the_same_seed_waits_the_same():
    assert list(islice(backoff(random.Random(5)), 9)) == list(islice(backoff(random.Random(5)), 9))


def test_bounds_can_be_given():
    assert max(islice(backoff(random.Random(1), first_s=4.0, cap_s=8.0), 200)) <= 8.0


def test_bans_wait_longer_than_any_back_off():
    assert {code: least_wait_s(code) for code in (403, 418, 429)} == dict.fromkeys((403, 418, 429), BANNED_S)
    assert BANNED_S > CAP_S
    assert [least_wait_s(code) for code in (0, 200, 404, 500, 503, 1000, 1006, 1013)] == [0.0] * 8
