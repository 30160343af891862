"""The rig on the real simulator, stores and flow, for a moment."""

from bench.soak.account import account, read_archive, read_ledger
from bench.soak.rig import Rig
from market.venues import VENUES
from simulator.faults.schedule import read_order
from tests.connectors.peers import until
from tests.flows.whole import new_data_dir


def test_a_run_takes_faults_and_leaves_its_books():
    with new_data_dir() as data_dir, Rig(data_dir, rate=700, seed=4) as rig:
        assert set(rig.states) == set(VENUES)
        assert rig.order(read_order({"fault": "drop", "venue": "okx"}))
        assert rig.order(read_order({"fault": "garbage", "venue": "kraken"}))
        assert not rig.order(read_order({"fault": "halted", "venue": "okx", "symbol": "NOSUCH-USDT"}))
        rig.clear()

        def seen():
            live = rig.is_live()
            return live and rig.counts["okx"]["reconnects"] == rig.counts["kraken"]["rejects"] == 1

        until(seen, 60)
        for name in ("kill_collector", "kill_flow"):
            rig.kill(name)
            known = messages(rig)
            until(lambda: rig.is_live() and messages(rig) > known + 1500, 60)  # noqa: B023
        cpu_s, rss_mb = rig.processes.usage()
        assert {"dataflow", "collector", "writer"} <= set(cpu_s) & set(rss_mb)
        assert rig.stop() == 0
        rig.end_simulator()
        gaps, filled = rig.gaps()
        books = account(read_ledger(rig.data_dir / "sim" / "trades.csv"), read_archive(rig.archive_dir), gaps)
    assert gaps.height + filled > 0
    assert books.made > 100
    assert books.is_balanced


def messages(rig):
    rig.look()
    return sum(seen["messages"] for seen in rig.counts.values())
