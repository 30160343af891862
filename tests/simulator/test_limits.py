from simulator.limits import MOST_COUNTS, Budget, Limit


def test_a_window_fills_and_the_next_one_is_empty():
    budget = Budget((Limit(3, 2.0),))
    used = [budget.spend("/a", {}, 100.0 + i / 10)[0] for i in range(4)]
    assert [window.over for window in used] == [False, False, False, True]
    assert (used[-1].until_s, round(used[-1].left_s, 6)) == (102.0, 1.7)
    assert not budget.spend("/a", {}, 102.0)[0].over


def test_weights_paths_and_query_values_are_counted_apart():
    pool, path, pair = Limit(100, 60.0, {"/a": 40}), Limit(1, 1.0, by_path=True), Limit(1, 1.0, {"/a": 1}, 0, by="pair")
    budget = Budget((pool, path, pair))
    assert [window.used for window in budget.spend("/a", {"pair": "X"}, 0.0)] == [40, 1, 1]
    assert [window.used for window in budget.spend("/b", {"pair": "X"}, 0.0)] == [41, 1]
    assert [window.used for window in budget.spend("/a", {"pair": "Y"}, 0.0)] == [81, 2, 1]


def test_counts_are_bounded():
    budget = Budget((Limit(1, 1.0, by="pair"),))
    for number in range(3 * MOST_COUNTS):
        budget.spend("/a", {"pair": str(number)}, 0.0)
    assert len(budget._used) <= MOST_COUNTS + 1
