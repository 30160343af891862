import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from market.settings import INTERVAL_NAMES, INTERVALS, SettingError, Settings
from market.venues import VENUES


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("MIE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def read(monkeypatch):
    """Return a function that reads the settings of an environment with some variables set."""

    def read(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings.from_env()

    return read


@pytest.fixture
def complain(read):
    """Return a function that gives the complaint about an environment."""

    def complain(**variables):
        with pytest.raises(SettingError) as caught:
            read(**variables)
        text = str(caught.value)
        assert "\n" not in text
        return text

    return complain


def test_the_defaults_run_everything_embedded(read):
    settings = read()
    assert (settings.feed, settings.venues, settings.symbols) == ("sim", VENUES, None)
    assert (settings.redis_url, settings.database_url) == (None, None)
    assert settings.replay_path is None
    assert settings.interval_seconds == (1, 60, 300, 900, 3600, 14400, 86400)


def test_good_values(read):
    settings = read(
        MIE_FEED="replay:/data/day one.parquet",
        MIE_VENUES="okx, binance,",
        MIE_SYMBOLS="eth-usdt, BTC-USDT,btc-usdt",
        MIE_INTERVALS="1h,1m,1h",
        MIE_REPLAY_SPEED="2.5",
        MIE_REDIS_URL="unix:///run/redis.sock",
        MIE_DATABASE_URL="postgresql://user:word@db/mie",
        MIE_FORGE_WINDOW_MS="200",
        MIE_LOG_LEVEL="debug",
    )
    assert settings.replay_path == Path("/data/day one.parquet")
    assert settings.venues == ("binance", "okx")
    assert settings.symbols == "BTC-USDT,ETH-USDT"
    assert settings.intervals == ("1m", "1h")
    assert read(MIE_SYMBOLS="top:20").symbols == "top:20"


def test_they_are_frozen(read):
    settings = read()
    with pytest.raises(ValidationError):
        settings.feed = "live"


WHOLE = "a whole number from"
BAD = [
    ("MIE_FEED", "simulator", "sim, live or replay:PATH"),
    ("MIE_FEED", "replay:", "sim, live or replay:PATH"),
    ("MIE_FEED", "", "sim, live or replay:PATH"),
    ("MIE_VENUES", "binance,mtgox", f"a comma list of {','.join(VENUES)}"),
    ("MIE_VENUES", "okx,okx", f"a comma list of {','.join(VENUES)}"),
    ("MIE_VENUES", "", f"a comma list of {','.join(VENUES)}"),
    ("MIE_SYMBOLS", "BTCUSDT", "a comma list of BASE-QUOTE, or top:N"),
    ("MIE_SYMBOLS", "BTC-USDT,ETH", "a comma list of BASE-QUOTE, or top:N"),
    ("MIE_SYMBOLS", "top:0", "a comma list of BASE-QUOTE, or top:N"),
    ("MIE_SYMBOLS", " , ", "a comma list of BASE-QUOTE, or top:N"),
    ("MIE_INTERVALS", "1m,2m", f"a comma list of {','.join(INTERVALS)}"),
    ("MIE_INTERVALS", "", f"a comma list of {','.join(INTERVALS)}"),
    ("MIE_CORRELATION_INTERVAL", "7m", f"one of {','.join(INTERVALS)}"),
    ("MIE_CORRELATION_WINDOW", "2", f"{WHOLE} 3 to 10000"),
    ("MIE_FORGE_WINDOW_MS", "99", f"{WHOLE} 100 to 200"),
    ("MIE_FORGE_WINDOW_MS", "201", f"{WHOLE} 100 to 200"),
    ("MIE_FORGE_MIN_WITNESSES", "0", f"{WHOLE} 1 to 6"),
    ("MIE_FORGE_MIN_WITNESSES", "7", f"{WHOLE} 1 to 6"),
    ("MIE_UNIVERSE_REFRESH_S", "-1", "a whole number from 0 to 86400"),
    ("MIE_SIM_RATE", "-1", WHOLE),
    ("MIE_SIM_RATE", "fast", "a valid integer"),
    ("MIE_SIM_RATE", "1.5", "a valid integer"),
    ("MIE_SIM_SEED", "x", "a valid integer"),
    ("MIE_REPLAY_SPEED", "0", "max, or a factor above 0"),
    ("MIE_REPLAY_SPEED", "-1", "max, or a factor above 0"),
    ("MIE_REPLAY_SPEED", "nan", "max, or a factor above 0"),
    ("MIE_REPLAY_SPEED", "inf", "max, or a factor above 0"),
    ("MIE_REPLAY_SPEED", "fast", "max, or a factor above 0"),
    ("MIE_SPOOL_MAX_MB", "0", f"{WHOLE} 1 to 1000000"),
    ("MIE_API_PORT", "65536", f"{WHOLE} 0 to 65535"),
    ("MIE_API_PORT", "http", "a valid integer"),
    ("MIE_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), BAD)
def test_a_bad_value_is_one_line_with_name_value_and_what_is_allowed(complain, name, value, allowed):
    text = complain(**{name: value})
    assert text.startswith(f"{name}={value!r}: allowed is ")
    assert allowed in text


@pytest.mark.parametrize("name", ["MIE_REDIS_URL", "MIE_DATABASE_URL"])
@pytest.mark.parametrize(
    "url",
    ["http://user:hush@host/", "user:hush@host", "//user:hush@host", "redis:hush", "postgresql:hush", "mysql://hush@h",
     "http://hush@[::1", "http://hush\u2100@host/", "hush\nhush", ""],
)  # fmt: skip
def test_a_bad_url_is_never_echoed(complain, name, url):
    text = complain(**{name: url})
    assert text.startswith(f"{name}=(hidden): allowed is a URL that starts with ")
    assert "hush" not in text


def test_an_unknown_setting_is_named_with_the_nearest_one(complain):
    assert complain(MIE_SIMRATE="5") == "MIE_SIMRATE is not a setting of MIE: did you mean MIE_SIM_RATE?"


def test_an_unknown_setting_of_nothing_like_a_name_lists_all(complain):
    text = complain(MIE_QQQQ="hush")
    assert text.startswith("MIE_QQQQ is not a setting of MIE: known are ")
    assert all(f"MIE_{name.upper()}" in text for name in Settings.model_fields)
    assert "hush" not in text


def test_other_programs_variables_are_no_business_of_ours(read):
    assert read(MIETTE="1", REDIS_URL="redis://elsewhere").redis_url is None


def test_intervals_divide_a_day_and_have_one_name():
    assert all(86_400 % seconds == 0 for seconds in INTERVALS.values())
    assert [INTERVAL_NAMES[seconds] for seconds in INTERVALS.values()] == list(INTERVALS)
