"""The pictures are drawn from real verdicts, and are well-formed."""

from xml.etree import ElementTree

import pytest

from bench.forge_eval.picture import RED, crash_picture, draw_all, wick_picture
from operators.forge import ForgePolicy


def crosses(drawing):
    return [path for path in ElementTree.fromstring(drawing).iter() if path.get("stroke") == RED]


def test_the_wick_is_crossed_out_and_the_vote_is_told():
    drawing = wick_picture(ForgePolicy())
    assert len(crosses(drawing)) == 6
    assert "6 of 6 prints are wicks" in drawing
    assert drawing.count("did not follow") == 4


def test_the_crash_passes_whole():
    drawing = crash_picture(ForgePolicy())
    assert crosses(drawing) == []
    assert "0 wick" in drawing
    assert drawing.count(" made at +") == 5


def test_files_are_the_same_each_time(tmp_path):
    first = [path.read_bytes() for path in draw_all(tmp_path / "a", ForgePolicy())]
    assert [path.read_bytes() for path in draw_all(tmp_path / "b", ForgePolicy())] == first
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"wick.svg", "crash.svg"}


@pytest.mark.parametrize("window_ms", [100, 200])
def test_the_window_is_shown(window_ms):
    assert f"W = {window_ms} ms" in wick_picture(ForgePolicy(window_ms=window_ms))
