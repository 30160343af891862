"""The jury on few trades: what belongs to an excursion, what is too late to judge, what a record says."""

import numpy as np
import pytest

from market.records import CONFIRMED, UNVERIFIED, WICK
from market.schema import TRADE
from market.venues import VENUES
from operators.consensus import BAND_SCALES, EDGE_LEAST, EDGE_SCALES, Consensus
from operators.evidence import CELL_NS, CELLS, Evidence
from operators.hold import QUANTUM_NS
from operators.horizon import Horizon
from operators.jury import (
    ANCHOR_SHARE,
    BURST_SCALES,
    CROWD,
    CROWD_SCALES,
    EXCURSION_NS,
    EXCURSION_SCALES,
    Judged,
    Jury,
)
from tests.operators.markets import MS, START_NS, by_receipt, hold_of, learn, quotes, trades

WINDOW_NS = 150 * MS
CALM_MS = 10_000.0
AT_MS = CALM_MS + 40
OTHERS = (0, 1, 3)


def judged(*suspects, peers=(), least=1, scale=None):
    """Judge the trades of venue 2 among the ticks given, after a calm of all venues; return (Judged, rows, wicks).

    A `scale` stands for the dispersion that was learned.
    """
    calm = by_receipt(*(quotes(venue, np.arange(0, CALM_MS, 50.0) + venue) for venue in (*OTHERS, 2)))
    rows = by_receipt(calm, *suspects, *peers)
    consensus, evidence, horizon = learn(Consensus(1), calm), Evidence(1), Horizon()
    if scale is not None:
        consensus.scale[:] = scale
        consensus.band[:], consensus.edge[:] = BAND_SCALES * scale, EDGE_SCALES * scale
    hold = hold_of(rows, 1)
    for seen in hold.see(int(rows["receive_ns"].max())):
        evidence.add(seen)
    due = hold.due(int(rows["receive_ns"].max()) + QUANTUM_NS)
    found = np.flatnonzero((due.ticks["kind"] == TRADE) & (due.ticks["venue"] == 2))
    size = due.place.size
    centre = consensus.centre.T.take(due.place)
    sheet = Judged(due, np.full(size, CONFIRMED, np.int8), np.exp(centre), due.value - centre)
    jury, wicks = Jury(consensus, evidence, horizon, WINDOW_NS, least), []
    for quantum_ns in np.unique(due.quantum_ns[found]):
        wicks += jury.judge(sheet, found[due.quantum_ns[found] == quantum_ns])
    assert len(horizon) == len(wicks)
    return sheet, found, wicks


def heard_after():
    return [quotes(venue, [AT_MS + 60]) for venue in OTHERS]


def test_a_far_print_against_live_venues_is_a_wick_and_its_record_says_why():
    sheet, rows, wicks = judged(trades(2, [AT_MS], 0.03), peers=heard_after())
    assert sheet.verdict[rows].tolist() == [WICK]
    assert (wicks[0].trade_id, wicks[0].venue, wicks[0].witnesses) == ("1", 2, len(OTHERS))
    assert wicks[0].deviation_bps == pytest.approx(300, abs=5)
    assert {name: said["vote"] for name, said in wicks[0].evidence.items()} == {
        VENUES[venue]: "did not follow" for venue in OTHERS
    }


def test_venues_that_follow_confirm_it():
    sheet, rows, wicks = judged(
        trades(2, [AT_MS], 0.03), peers=[quotes(venue, [AT_MS + 60], 0.029) for venue in OTHERS]
    )
    assert sheet.verdict[rows].tolist() == [CONFIRMED]
    assert wicks == []


def test_more_witnesses_than_there_are_condemn_nobody():
    sheet, rows, _ = judged(trades(2, [AT_MS], 0.03), peers=heard_after(), least=len(OTHERS) + 1)
    assert sheet.verdict[rows].tolist() == [UNVERIFIED]


@pytest.mark.parametrize(("apart_ms", "verdict"), [(EXCURSION_NS / MS / 3, WICK), (3 * EXCURSION_NS / MS, CONFIRMED)])
def test_a_print_between_edge_and_band_is_of_the_excursion_that_is_near_in_time(apart_ms, verdict):
    small = 2.5 * EDGE_LEAST
    prints = trades(2, [AT_MS, AT_MS + apart_ms], np.array([0.03, small]))
    peers = [quotes(venue, [AT_MS + apart_ms + 60]) for venue in OTHERS]
    sheet, rows, _ = judged(prints, peers=peers)
    assert sheet.verdict[rows].tolist() == [WICK, verdict]


@pytest.mark.parametrize(("scales", "verdict"), [(EXCURSION_SCALES - 0.3, CONFIRMED), (EXCURSION_SCALES + 0.3, WICK)])
def test_an_ordinary_print_beside_a_wick_is_none(scales, verdict):
    scale = 0.01
    sheet, rows, _ = judged(
        trades(2, [AT_MS, AT_MS + 10], np.array([0.1, scales * scale])), peers=heard_after(), scale=scale
    )
    assert sheet.verdict[rows].tolist() == [WICK, verdict]


ASTRAY = (BURST_SCALES + BAND_SCALES) / 2
"""Dispersions: beyond the band of a burst, within that of a print by itself."""
CROWDED = (CROWD_SCALES + BURST_SCALES) / 2
"""Beyond the band of a crowd, within that of a burst."""


@pytest.mark.parametrize(
    ("at_ms", "scales", "verdicts"),
    [
        ([0], [ASTRAY], [CONFIRMED]),
        ([1, 2], [ASTRAY, ASTRAY], [WICK, WICK]),
        ([1, 2], [ASTRAY, -ASTRAY], [CONFIRMED, CONFIRMED]),
        ([0, 40], [EDGE_SCALES + 0.1, ASTRAY], [CONFIRMED, WICK]),
        ([0, 40], [ASTRAY, ASTRAY], [CONFIRMED, WICK]),
        ([0, EXCURSION_NS / MS + 40], [ASTRAY, ASTRAY], [CONFIRMED, CONFIRMED]),
        ([1] * CROWD, [CROWDED] * CROWD, [WICK] * CROWD),
        ([1] * (CROWD - 1), [CROWDED] * (CROWD - 1), [CONFIRMED] * (CROWD - 1)),
        ([1] * (CROWD - 1) + [40], [CROWDED] * CROWD, [CONFIRMED] * (CROWD - 1) + [WICK]),
        ([1] * (CROWD - 1) + [EXCURSION_NS / MS + 40], [CROWDED] * CROWD, [CONFIRMED] * CROWD),
    ],
)
def test_those_that_stray_together_have_a_narrower_band(at_ms, scales, verdicts):
    """Only what was before it or beside it counts for a print, so the first of a slow burst has the wide band."""
    scale = 0.02
    prints = trades(2, AT_MS + np.array(at_ms), np.array(scales) * scale)
    peers = [quotes(venue, [AT_MS + at_ms[-1] + 60]) for venue in OTHERS]
    sheet, rows, _ = judged(prints, peers=peers, scale=scale)
    assert sheet.verdict[rows].tolist() == verdicts


def test_an_excursion_has_one_side():
    sheet, rows, _ = judged(trades(2, [AT_MS, AT_MS + 1], np.array([0.03, -2.5 * EDGE_LEAST])), peers=heard_after())
    assert sheet.verdict[rows].tolist() == [WICK, CONFIRMED]


def test_what_is_near_the_anchor_is_behind_the_market_and_no_wick():
    assert 0 < ANCHOR_SHARE < 1
    moved = [quotes(venue, CALM_MS + np.arange(0, 30, 10.0), 0.05) for venue in OTHERS]
    sheet, rows, wicks = judged(trades(2, [AT_MS], 0.0), peers=[*moved, *heard_after()])
    assert sheet.verdict[rows].tolist() == [CONFIRMED]
    assert wicks == []


def test_a_trade_older_than_the_evidence_is_unverified():
    late_ms = (CELLS + 20) * CELL_NS / MS
    sheet, rows, _ = judged(trades(2, [AT_MS], 0.03, delay_ms=late_ms), peers=heard_after())
    assert sheet.verdict[rows].tolist() == [UNVERIFIED]
    assert int(sheet.due.event_ns[rows[0]]) > START_NS
