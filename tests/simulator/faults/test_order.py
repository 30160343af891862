import pytest

from simulator.faults import CATALOGUE
from simulator.faults.order import Choice, Number, OrderError


def test_a_parameter_says_what_is_allowed():
    assert Number(1, 0, 5).check("delay_ms", 5) == 5
    assert Choice((429, 503)).check("status", 503) == 503
    assert Choice((429, 503)).default == 429
    for wrong in (6, "3", True, None, [1]):
        with pytest.raises(OrderError, match=r"delay_ms=.*: allowed is a number from 0 to 5"):
            Number(1, 0, 5).check("delay_ms", wrong)
    with pytest.raises(OrderError, match="status=1: allowed is 429, 503"):
        Choice((429, 503)).check("status", 1)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_fault_explains_itself(name):
    fault = CATALOGUE[name]
    assert fault.SAYS
    assert fault.SYMBOL in ("none", "may", "must")
    assert all(param.check(key, param.default) == param.default for key, param in fault.PARAMS.items())
