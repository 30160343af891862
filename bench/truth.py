"""How well the forge did on the simulator's market: wicks in the history against the simulator's truth file.

`python -m bench.truth DATA_DIR` after (or during) a run on that data directory. The simulator stands in for live venues
here: these figures say what the forge does on its model of a market.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from sinks.embedded import embedded_stores


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of trades, of the wicks the simulator injected.

    Attributes:
        injected: Trades of injected wicks that reached the flow.
        caught: Of these, the ones in `wicks` and not re-admitted.
        false: Trades in `wicks`, not re-admitted, that belong to no injected wick.
        events: Injected wicks; `events_caught` had all of their trades caught, `events_touched` any.
    """

    injected: int
    caught: int
    false: int
    events: int
    events_touched: int

    @property
    def precision(self) -> float:
        """Share of flagged trades that were injected; 1 if none was flagged."""
        flagged = self.caught + self.false
        return self.caught / flagged if flagged else 1.0

    @property
    def recall(self) -> float:
        """Share of injected trades that were flagged; 1 if none was injected."""
        return self.caught / self.injected if self.injected else 1.0


def read_truth(path: Path) -> list[dict[str, Any]]:
    """Return the injected wicks of a truth file."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [line for line in lines if line["kind"] == "wick"]


def score(truth: list[dict[str, Any]], flagged: set[tuple[str, str, str]]) -> Score:
    """Compare injected wicks with flagged (venue, symbol, trade id)."""
    injected = {(w["venue"], w["symbol"], trade) for w in truth for trade in w["trade_ids"]}
    touched = sum(any((w["venue"], w["symbol"], t) in flagged for t in w["trade_ids"]) for w in truth)
    return Score(len(injected), len(injected & flagged), len(flagged - injected), len(truth), touched)


def main() -> None:
    """Print the score of a data directory, pooled and by what was missed."""
    data_dir = Path(sys.argv[1])
    truth = read_truth(data_dir / "sim" / "wicks.jsonl")
    with embedded_stores(data_dir) as stores, psycopg.connect(stores.database) as connection:
        rows = connection.execute("SELECT venue, symbol, trade_id FROM wicks WHERE readmitted_time IS NULL").fetchall()
        again = connection.execute("SELECT count(*) FROM wicks WHERE readmitted_time IS NOT NULL").fetchone()
    flagged = set(rows)
    found = score(truth, flagged)
    print(found, f"precision {found.precision:.4f} recall {found.recall:.4f} readmitted {again}")
    for wick in truth:
        ids = [(wick["venue"], wick["symbol"], t) in flagged for t in wick["trade_ids"]]
        if not all(ids):
            print("  missed", ids.count(False), "of", len(ids), {k: v for k, v in wick.items() if k != "trade_ids"})
    injected = {(w["venue"], w["symbol"], t) for w in truth for t in w["trade_ids"]}
    by_symbol = Counter((v, s) for v, s, _ in flagged - injected)
    print("  false by venue and symbol:", by_symbol.most_common(8))


if __name__ == "__main__":
    main()
