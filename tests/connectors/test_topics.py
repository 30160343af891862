from connectors.topics import by_channel, split


def test_split_keeps_order_and_size():
    assert [list(part) for part in split(["a", "b", "c"], 2)] == [["a", "b"], ["c"]]
    assert list(split([], 2)) == []


def test_by_channel_gathers_then_splits():
    topics = ["t:A", "q:A", "t:B", "t:C:x"]
    assert list(by_channel(topics, 2)) == [("t", ["A", "B"]), ("t", ["C:x"]), ("q", ["A"])]
