from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.pipe import (
    BatchReader,
    CollectorConfig,
    Endpoint,
    Follow,
    News,
    Serve,
    Stop,
    decode_command,
    decode_config,
    encode_batch,
    encode_line,
)
from market.schema import END_OF_INPUT, TICK, Gap, TickBatch, VenueCounters
from tests.connectors.ticks import batches_of


@st.composite
def batches(draw):
    rows = draw(st.integers(0, 5))
    raw = draw(st.binary(min_size=rows * TICK.itemsize, max_size=rows * TICK.itemsize))
    counters = st.builds(
        VenueCounters, messages=st.integers(0, 2**62), state=st.sampled_from(["live", "down"]), last_reject=st.text()
    )
    watermark_ns = draw(st.integers(-(2**63), END_OF_INPUT))
    return TickBatch(draw(st.integers(0, 6)), np.frombuffer(raw, TICK), watermark_ns, draw(st.none() | counters))


def same(one, other):
    return (
        (one.venue, one.watermark_ns, one.status) == (other.venue, other.watermark_ns, other.status)
        and one.ticks.dtype == other.ticks.dtype
        and one.ticks.tobytes() == other.ticks.tobytes()
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(batches(), max_size=6), st.lists(st.integers(0, 2_000), max_size=12))
def test_any_cut_of_the_stream_gives_the_same_batches(sent, cuts):
    stream = b"".join(encode_batch(batch) for batch in sent)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = BatchReader()
    read = [batch for start, end in pairwise(edges) for batch in reader.feed(stream[start:end])]
    assert len(read) == len(sent)
    assert all(same(one, other) for one, other in zip(read, sent, strict=True))


def test_byte_by_byte():
    sent = batches_of(3, seed=2)
    reader = BatchReader()
    read = [b for byte in b"".join(map(encode_batch, sent)) for b in reader.feed(bytes([byte]))]
    assert all(same(one, other) for one, other in zip(read, sent, strict=True))


def test_ticks_are_the_reader_s_own():
    """Sequencing changes them in place."""
    (sent,) = batches_of(1, seed=3)
    first, second = BatchReader().feed(encode_batch(sent) * 2)
    first.ticks["event_ns"] = 7
    assert not (second.ticks["event_ns"] == 7).any()
    assert not (sent.ticks["event_ns"] == 7).any()


def test_the_counters_read_are_the_reader_s_own():
    counters = VenueCounters(messages=1)
    (read,) = BatchReader().feed(encode_batch(TickBatch(0, np.zeros(0, TICK), 1, counters)))
    counters.messages = 2
    assert read.status.messages == 1


def test_lines_round_trip():
    config = CollectorConfig(
        symbols=["BTC-USDT"],
        natives={"okx": {"BTC-USDT": "BTC-USDT"}},
        endpoints={"okx": Endpoint("ws://127.0.0.1:1", "http://127.0.0.1:2")},
        seed=4,
        ca_file="a\nb",
    )
    line = encode_line(config)
    assert b"\n" not in line
    assert decode_config(line) == config
    for command in (Serve("okx"), Stop()):
        assert decode_command(encode_line(command)) == command
    with pytest.raises(ValueError, match="Invalid value"):
        decode_command(b'{"type":"restart"}')


def test_gaps_go_along():
    gaps = [Gap(2, 5, 10, 20, 3, filled=False), Gap(2, 6, 10, 11, 0, filled=True)]
    (read,) = BatchReader().feed(encode_batch(TickBatch(2, np.zeros(0, TICK), 1, None, gaps)))
    assert (read.status, read.gaps) == (None, gaps)


def test_news_go_with_their_batch():
    sent = batches_of(3, seed=5)
    news = [News(follows=0), None, News(3, {"BTC-USDT": 5.5})]
    heard = []
    reader = BatchReader(lambda venue, watermark_ns, said: heard.append((venue, watermark_ns, said)))
    read = list(reader.feed(b"".join(map(encode_batch, sent, news))))
    assert all(same(one, other) for one, other in zip(read, sent, strict=True))
    assert heard == [(sent[at].venue, sent[at].watermark_ns, news[at]) for at in (0, 2)]
    assert len(list(BatchReader().feed(encode_batch(sent[0], news[0])))) == 1


def test_changes_of_symbols_arrive():
    command = Follow(4, {0: "", 17: "NEW-USDT"})
    assert decode_command(encode_line(command)) == command
