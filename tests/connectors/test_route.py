from connectors.route import rebase


def test_rebase_replaces_the_host_and_keeps_the_path():
    assert rebase("wss://stream.binance.com:9443/stream", None) == "wss://stream.binance.com:9443/stream"
    assert rebase("wss://stream.binance.com:9443/stream", "ws://127.0.0.1:80") == "ws://127.0.0.1:80/stream"
    assert rebase("https://api.kucoin.com", None, "/api?a=1") == "https://api.kucoin.com/api?a=1"
    assert rebase("https://api.kucoin.com", "http://127.0.0.1:80", "/api") == "http://127.0.0.1:80/api"
