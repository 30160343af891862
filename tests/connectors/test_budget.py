import asyncio

from hypothesis import given
from hypothesis import strategies as st

from connectors.budget import Budget
from tests.connectors.peers import run


async def takings(budget, count):
    """Return the loop times at which so many waiters, all there at once, are served."""
    served = []

    async def take():
        served.append(await budget.take())

    await asyncio.gather(*(take() for _ in range(count)))
    return served


def test_what_is_within_the_limit_does_not_wait():
    served = run(takings(Budget(3, 60.0), 3), skipping=True)
    assert served[-1] - served[0] < 1


@given(st.integers(1, 5), st.integers(1, 12))
def test_no_window_holds_more_than_the_limit(most, count):
    served = run(takings(Budget(most, 10.0), count), skipping=True)
    assert len(served) == count
    assert all(later >= earlier + 10.0 for earlier, later in zip(served, served[most:], strict=False))


def test_a_waiter_that_leaves_takes_nothing():
    async def check():
        budget = Budget(1, 100.0)
        await budget.take()
        leaving = asyncio.create_task(budget.take())
        await asyncio.sleep(1)
        leaving.cancel()
        started_s = asyncio.get_running_loop().time()
        await budget.take()
        assert 98 <= asyncio.get_running_loop().time() - started_s <= 100

    run(check(), skipping=True)
