from bench import decode


def test_every_venue_and_kind_is_measured():
    costs = decode.run(rounds=1, repeats=1)
    assert [(cost.venue, cost.kind) for cost in costs] == list(decode.CASES)
    assert all(cost.ours_us > 0 and cost.floor_us > 0 for cost in costs)


def test_frames_are_real_and_hold_one_tick_each():
    frames = decode.frames_of("kraken", "trade")
    assert len(frames) == decode.FRAMES
    assert all(frame.startswith(b'{"channel":"trade"') for frame in frames)


def test_the_bound():
    assert round(decode.Cost("okx", "trade", ours_us=1.0, floor_us=0.4).over_us, 9) == 0.1
