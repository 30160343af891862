from pathlib import Path

from sinks import keys


def test_names_are_the_documented_ones():
    assert keys.ticker("BTC-USDT") == "tk:BTC-USDT"
    assert keys.candle_channel("BTC-USDT", "1m") == "NEW_CANDLE:BTC-USDT:1m"
    assert keys.candle_stream("1m") == "candles:1m"
    assert keys.indicators("BTC-USDT", "1m") == "ind:BTC-USDT:1m"
    assert keys.correlations("BTC-USDT", "1m") == "corr:BTC-USDT:1m"
    assert keys.wick_channel("BTC-USDT") == "WICK:BTC-USDT"
    assert keys.venue("okx") == "venue:okx"
    page = Path("docs/redis.md").read_text()
    for name in ("tk:", "NEW_CANDLE:", "candles:", "ind:", "corr:", "WICK:", "wicks", "venue:", "mie:writer"):
        assert f"`{name}" in page
