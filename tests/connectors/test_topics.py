from connectors.topics import bounds, by_channel, split


def test_split_keeps_order_and_size():
    assert [list(part) for part in split(["a", "b", "c"], 2)] == [["a", "b"], ["c"]]
    assert list(split([], 2)) == []


def test_by_channel_gathers_then_splits():
    topics = ["t:A", "q:A", "t:B", "t:C:x"]
    assert list(by_channel(topics, 2)) == [("t", ["A", "B"]), ("t", ["C:x"]), ("q", ["A"])]


def test_bounds_hold_what_begins_with_a_prefix_and_nothing_else():
    least, beyond = bounds("orderbook.1.")
    topics = ["orderbook.1.BTCUSDT", "orderbook.1.~", "orderbook.10.BTCUSDT", "orderbook.2.A", "publicTrade.A", ""]
    assert [topic for topic in topics if least < topic < beyond] == ["orderbook.1.BTCUSDT", "orderbook.1.~"]
