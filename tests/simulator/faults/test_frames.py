import json

import pytest
from websockets.exceptions import ConnectionClosedError

from market.venues import VENUES
from tests.simulator.client import WAIT_S, receive_until, trade_ids


def texts(client, wanted):
    """Return frames as text up to the first that satisfies `wanted`, that one included."""
    found = []
    while not found or not wanted(found[-1]):
        found.append(client.recv(timeout=WAIT_S))
    return found


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def is_trade(venue):
    return lambda text: bool(trade_ids(venue, parsed(text)))


@pytest.mark.parametrize("venue", VENUES)
def test_garbage_comes_among_real_frames(faulty, venue):
    with faulty.feed(venue) as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))
        assert faulty.order(venue, "garbage", count=6)["connections"] == 1
        seen = texts(client, lambda text: text == "")
        bad = [text for text in seen if not isinstance(parsed(text), dict | list) and text not in ("pong", "NaN")]
        assert len(bad) == 5
        texts(client, is_trade(venue))


@pytest.mark.parametrize("venue", VENUES)
def test_a_truncated_frame_precedes_the_whole(faulty, venue):
    with faulty.feed(venue) as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))
        faulty.order(venue, "truncated", symbol="BTC-USDT")
        cut = texts(client, lambda text: parsed(text) is None and text != "pong")[-1]
        assert client.recv(timeout=WAIT_S).startswith(cut)


@pytest.mark.parametrize("venue", VENUES)
def test_an_unknown_channel_is_a_copy_of_what_follows(faulty, venue):
    with faulty.feed(venue) as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))
        faulty.order(venue, "unknown_channel")
        odd = texts(client, lambda text: "nosuchchannel" in text)[-1]
        real = client.recv(timeout=WAIT_S)
        channel = {"binance": "trade", "okx": "trades", "bybit": "publicTrade", "gateio": "spot.trades"}
        channel = channel.get(venue, "/market/match" if venue == "kucoin" else "trade")
        assert odd == real.replace(channel, "nosuchchannel", 1)


@pytest.mark.parametrize("venue", VENUES)
def test_wrong_types_keep_the_keys(faulty, venue):
    with faulty.feed(venue) as client:
        receive_until(client, lambda frame: trade_ids(venue, frame))
        faulty.order(venue, "wrong_types")
        odd = json.loads(texts(client, lambda text: '{"text":' in text)[-1])
        real = json.loads(client.recv(timeout=WAIT_S))
        assert trade_ids(venue, real)
        assert list(odd) == list(real)
        leaves = list(zip(leaves_of(odd_data(odd)), leaves_of(odd_data(real)), strict=True))
        assert leaves
        assert all(type(one) is not type(other) for one, other in leaves)


def odd_data(frame):
    data = frame.get("data", frame.get("result"))
    return data[0] if isinstance(data, list) else data


def leaves_of(row):
    return [row[key] for key in sorted(row)]


def test_a_huge_frame(faulty):
    with faulty.feed("gateio", max_size=2**23) as client:
        assert faulty.order("gateio", "huge_frame")["connections"] == 1
        assert len(texts(client, lambda text: len(text) > 2**22)[-1]) > 5 * 2**20
    with faulty.feed("gateio") as client:
        faulty.order("gateio", "huge_frame")
        with pytest.raises(ConnectionClosedError, match="1009"):
            receive_until(client, lambda frame: False)
