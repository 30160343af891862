"""Drainers against a store in memory, for what only failures at chosen moments show; real stores: test_writer."""

import logging

import pytest

from sinks.drain import BACKOFF_S, Connection, Drainer, OwnedSpool
from sinks.encode import Message, pack
from sinks.spool import Appender
from tests.sinks.made import until


class Shelf:
    """A store that keeps texts and positions, and fails when told to: before or after it has committed."""

    name = "shelf"

    def __init__(self):
        self.texts = []
        self.known = {}
        self.fail = []
        self.connects = 0

    def connect(self):
        self.connects += 1

    def close(self):
        pass

    def positions(self, spools):
        return {name: self.known.get(name, 0) for name in spools}

    def write(self, spool, messages, position):
        when = self.fail.pop() if self.fail else None
        if when == "before":
            raise OSError
        self.texts += [message.texts["text"][0] for message in messages]
        self.known[spool] = position
        if when == "after":
            raise OSError

    def forget(self, spool):
        del self.known[spool]


def record(text):
    return pack(Message("test", texts={"text": [str(text)]}))


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def drainer(shelf):
    drainer = Drainer(shelf, idle_s=0.001, batch_bytes=64)
    drainer.start()
    yield drainer
    drainer.stop()
    drainer.join(10)
    assert not drainer.is_alive()


@pytest.fixture
def appender(tmp_path):
    appender = Appender(tmp_path, 0, 1 << 30, segment_bytes=200)
    yield appender
    appender.close()


def test_each_record_arrives_once_whenever_the_store_fails(shelf, drainer, appender):
    shelf.fail = ["before", "after", None, "after", "before", "before"]
    appender.append([record(number) for number in range(10)])
    owned = OwnedSpool.adopt(appender.directory)
    drainer.assign([owned])
    for number in range(10, 40):
        appender.append([record(number)])
    until(lambda: drainer.committed(owned.name) == appender.position)
    assert shelf.texts == [str(number) for number in range(40)]
    assert shelf.connects == 6
    owned.release()


def test_a_store_that_forgot_gets_everything_again(shelf, drainer, appender):
    appender.append([record(number) for number in range(3)])
    owned = OwnedSpool.adopt(appender.directory)
    drainer.assign([owned])
    until(lambda: len(shelf.texts) == 3)
    shelf.known.clear()
    shelf.fail = ["before"]
    appender.append([record(3)])
    until(lambda: shelf.texts == ["0", "1", "2", "0", "1", "2", "3"])
    owned.release()


def test_an_ended_spool_goes_before_a_newer_one(shelf, tmp_path):
    earlier, later = (Appender(tmp_path, worker, 1 << 30) for worker in (1, 0))
    earlier.append([record(f"earlier {number}") for number in range(20)])
    earlier.close()
    later.append([record("later")])
    spools = [OwnedSpool.adopt(appender.directory) for appender in (earlier, later)]
    drainer = Drainer(shelf, 0.001, 64)
    drainer.assign(spools)
    drainer.start()
    until(lambda: len(shelf.texts) == 21 and drainer.has_finished(spools[0].name))
    assert shelf.texts[-1] == "later"
    assert not drainer.has_finished(spools[1].name)
    drainer.assign(spools[1:])
    until(lambda: list(shelf.known) == [spools[1].name])
    drainer.stop()
    drainer.join(10)
    later.close()
    for owned in spools:
        owned.release()


def test_a_record_that_is_no_message_is_counted(shelf, drainer, appender, caplog):
    appender.append([b"\xc1 rubbish", record("good")])
    owned = OwnedSpool.adopt(appender.directory)
    drainer.assign([owned])
    until(lambda: shelf.texts == ["good"])
    assert drainer.failed_messages == 1
    assert "cannot be read" in caplog.text
    owned.release()


def test_one_writer_a_spool(appender):
    owned = OwnedSpool.adopt(appender.directory)
    assert OwnedSpool.adopt(appender.directory) is None
    owned.release()
    again = OwnedSpool.adopt(appender.directory)
    assert again is not None
    again.release()
    assert OwnedSpool.adopt(appender.directory / "gone") is None


def test_a_link_logs_each_change_once_and_backs_off(caplog):
    caplog.set_level(logging.INFO)
    connection = Connection("redis")
    connection.up()
    pauses = [connection.down(OSError("no\nroute")) for _ in range(8)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, BACKOFF_S[1], BACKOFF_S[1]]
    assert connection.down_s() > 0
    connection.up()
    connection.up()
    assert [record.getMessage() for record in caplog.records] == ["redis: down: no route", "redis: up again"]
    assert connection.down(OSError()) == 0.1
    assert connection.state == "down"
