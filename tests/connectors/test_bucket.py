import asyncio

from connectors.bucket import Bucket
from tests.connectors.peers import run


def taken_at(budget_of, count, before=lambda budget: None):
    """Return when each of `count` requests may be made, in seconds of a loop that skips its waits."""

    async def check():
        loop = asyncio.get_running_loop()
        budget = budget_of()
        before(budget)
        start_s = loop.time()
        times = []
        for _ in range(count):
            await budget.take()
            times.append(loop.time() - start_s)
        return times

    return run(check(), skipping=True)


def test_a_full_budget_is_spent_at_once_and_then_at_its_rate():
    times = taken_at(lambda: Bucket(4, 2.0), 10)
    assert times[3] < 0.4
    assert 2.5 < times[9] < 3.5


def test_no_stretch_holds_more_than_twice_the_budget():
    times = taken_at(lambda: Bucket(10, 1.0), 60)
    assert all(sum(at <= time < at + 1.0 for time in times) <= 21 for at in times)


def test_held_back_it_waits_and_then_goes_one_by_one():
    times = taken_at(lambda: Bucket(10, 1.0), 3, lambda budget: budget.hold(30.0))
    assert times[0] >= 30.0
    held = taken_at(lambda: Bucket(10, 10.0), 3, lambda budget: budget.hold(0.0))
    assert held[1] - held[0] > 0.8
