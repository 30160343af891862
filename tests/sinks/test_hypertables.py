import psycopg
import pytest

from sinks.hypertables import POLICIES, make_hypertables
from sinks.migrate import upgrade
from sinks.tables import HYPERTABLES, metadata


def test_without_the_extension_there_is_one_warning(database_url, caplog):
    with psycopg.connect(database_url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'").fetchone():
            pytest.skip("this server has the extension")
        make_hypertables(connection)
    assert len(caplog.records) == 1
    assert "no TimescaleDB extension" in caplog.text


def test_every_hypertable_has_a_policy_over_its_own_columns():
    assert POLICIES.keys() == HYPERTABLES.keys()
    for name, policy in POLICIES.items():
        columns = {column.name for column in metadata.tables[name].columns}
        assert set(policy.segment_by.split(", ")) <= columns - {HYPERTABLES[name]}
        assert policy.chunk <= policy.compress_after < policy.drop_after


@pytest.mark.timescale
def test_hypertables_compression_and_retention(timescale_url, caplog):
    for _ in range(2):
        upgrade(timescale_url)
    with psycopg.connect(timescale_url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT hypertable_name, compression_enabled FROM timescaledb_information.hypertables"
        ).fetchall()
        assert dict(found) == dict.fromkeys(HYPERTABLES, True)
        jobs = connection.execute(
            "SELECT hypertable_name, count(*) FROM timescaledb_information.jobs "
            "WHERE hypertable_name IS NOT NULL GROUP BY 1"
        ).fetchall()
        assert dict(jobs) == dict.fromkeys(HYPERTABLES, 2)
    assert caplog.records == []
