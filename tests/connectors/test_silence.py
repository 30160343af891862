import numpy as np
import pytest

from connectors.silence import FIRST_DATA_S, FIRST_WAIT_S, GAPS, LEAST_S, MOST_S, MOST_WAIT_S, SilenceTable
from tests.connectors.ticks import START_NS

S = 1_000_000_000


class Watched:
    """A table looked at once a second; symbols tick at given gaps."""

    def __init__(self, symbols=2):
        self.table = SilenceTable(symbols)
        self.now_s = 0
        self.asked = np.full(symbols, START_NS, np.int64)
        self.fell, self.rose, self.due = [], [], []

    def pass_(self, seconds, every=()):
        """Let seconds pass; `every` is (symbol, seconds from tick to tick)."""
        for _ in range(seconds):
            self.now_s += 1
            now_ns = START_NS + self.now_s * S
            ticked = np.array([symbol for symbol, gap_s in every if self.now_s % gap_s == 0], np.int64)
            self.table.saw(ticked, np.full(ticked.size, now_ns))
            look = self.table.look(now_ns, self.asked)
            for found, codes in ((self.fell, look.fell), (self.rose, look.rose), (self.due, look.due)):
                found += [(self.now_s, code) for code in codes.tolist()]


def test_a_symbol_never_heard_falls_silent_and_the_others_do_not():
    watched = Watched()
    watched.pass_(200, every=[(0, 1)])
    assert [code for _, code in watched.fell] == [1]
    assert watched.fell[0][0] == pytest.approx(FIRST_DATA_S, abs=2)
    assert watched.table.silent.tolist() == [False, True]


def test_a_silent_symbol_is_due_at_once_and_then_at_growing_intervals():
    watched = Watched()
    watched.pass_(5_000, every=[(0, 1)])
    times = [at for at, _ in watched.due]
    assert np.diff(times).tolist() == pytest.approx([FIRST_WAIT_S * 2**n for n in range(len(times) - 1)], abs=2)
    assert len(times) == 5
    assert MOST_WAIT_S > FIRST_WAIT_S


def test_a_symbol_is_measured_by_its_own_rate():
    """One tick a second is silent after LEAST_S; one every ten may be quiet for GAPS times that."""
    watched = Watched()
    watched.pass_(1_000, every=[(0, 1), (1, 10)])
    assert watched.fell == []
    watched.pass_(int(LEAST_S + GAPS * 10 * 2))
    (fast_s, fast), (slow_s, slow) = watched.fell
    assert (fast, slow) == (0, 1)
    assert fast_s - 1_000 == pytest.approx(LEAST_S, abs=3)
    assert GAPS * 10 <= slow_s - 1_000 <= GAPS * 10 * 2


def test_patience_has_an_end():
    watched = Watched(1)
    watched.pass_(4_000, every=[(0, 1_000)])
    assert all(at < 1_000 for at, _ in watched.fell)  # before the first, it was never heard
    watched.pass_(int(MOST_S) + 10)
    assert watched.fell[-1][0] == pytest.approx(4_000 + MOST_S, abs=3)


def test_a_symbol_heard_again_is_said_once_and_starts_anew():
    watched = Watched(1)
    watched.pass_(100)
    watched.pass_(50, every=[(0, 1)])
    assert len(watched.fell) == len(watched.rose) == 1
    assert not watched.table.silent.any()
    watched.pass_(200)
    assert len(watched.fell) == 2
    assert watched.due[-1][0] - watched.fell[-1][0] == 0


def test_asking_anew_does_not_hide_the_silence():
    watched = Watched(1)
    watched.pass_(40)
    for _ in range(3):
        watched.asked[:] = 0  # let go, and asked for at once
        watched.pass_(1)
        watched.asked[:] = START_NS + watched.now_s * S
        watched.pass_(100)
    assert len(watched.fell) == 1
    assert watched.table.silent.all()


def test_what_is_not_asked_for_is_not_judged():
    watched = Watched()
    watched.asked[1] = 0
    watched.pass_(100)
    assert [code for _, code in watched.fell] == [0]


def test_time_in_which_nothing_was_read_is_nobody_s_silence():
    watched = Watched(1)
    watched.pass_(20, every=[(0, 1)])
    watched.now_s += 1_000
    watched.pass_(20)
    assert watched.fell == []


def test_forgotten_symbols_begin_anew():
    watched = Watched()
    watched.pass_(100, every=[(1, 1)])
    watched.table.forget(np.array([0, 1]))
    assert not watched.table.silent.any()
    assert watched.table.rate.tolist() == [0, 0]


def test_a_link_is_as_patient_as_all_its_symbols_together():
    watched = Watched()
    assert watched.table.link_patience_s(np.array([0, 1])) == LEAST_S
    watched.pass_(3_000, every=[(0, 10), (1, 100)])
    both, slow = (watched.table.link_patience_s(np.array(codes)) for codes in ([0, 1], [1]))
    assert LEAST_S < both < GAPS * 10 * 1.1
    assert slow > GAPS * 100 * 0.5
