from connectors.answers import Answers
from connectors.venue import Control, Request


def asked(*requests):
    """Return answers to come for (key, topics, acks), each topic named like its symbol."""
    answers = Answers()
    for number, (key, topics, acks) in enumerate(requests):
        answers.sent(Request(b"", tuple(topics), acks, key), frozenset(topics), float(number), subscribes=True)
    return answers


def test_an_answer_goes_to_the_request_whose_id_it_repeats():
    answers = asked(("1", "AB", 1), ("2", "CD", 2))
    first = answers.match(Control("ack", "2"))
    assert (first.request.key, first.left, answers.missing) == ("2", 1, 2)
    assert answers.match(Control("ack", "2")).left == 0
    assert answers.missing == 1
    assert answers.match(Control("ack", "2")) is None
    assert answers.missing == 1


def test_without_ids_it_goes_to_the_request_about_its_symbol():
    answers = asked(("", "AB", 2), ("", "CD", 2))
    assert answers.match(Control("ack", native="C")).request.topics == ("C", "D")
    assert answers.match(Control("ack", native="D")).left == 0
    assert answers.missing == 2


def test_without_either_it_goes_to_the_oldest():
    answers = asked(("1", "A", 1), ("2", "B", 1))
    assert answers.match(Control("refusal")).request.key == "1"
    assert answers.match(Control("refusal")).request.key == "2"
    assert answers.match(Control("refusal")) is None


def test_overdue_answers_are_counted_once_and_given_up():
    answers = asked(("1", "AB", 2), ("2", "C", 1))
    answers.match(Control("ack", "1"))
    assert answers.overdue(1.0) == 1
    assert answers.overdue(1.0) == 0
    assert answers.missing == 1
