"""Policies from settings and options: every field that can be chosen, within the bounds of its setting."""

from dataclasses import dataclass

import pytest

from flows import policies
from market.settings import Settings
from operators.forge import ForgePolicy


def test_every_threshold_of_the_policy_can_be_chosen():
    found = {choice.name: (choice.kind, choice.default) for choice in policies.choices()}
    assert found["window_ms"] == (int, 150)
    assert found["min_witnesses"] == (int, 1)
    assert "venues" not in found
    assert all(choice.about for choice in policies.choices())


def test_a_new_field_is_a_choice_without_another_line(monkeypatch):
    @dataclass(frozen=True)
    class Wider(ForgePolicy):
        """What the user chooses.

        Attributes:
            share: Of the band, 0 to 1.
        """

        share: float = 0.5

    monkeypatch.setattr(policies, "ForgePolicy", Wider)
    assert policies.choices()[-1] == policies.Choice("share", float, 0.5, "Of the band, 0 to 1.")
    assert policies.checked("share", "0.25") == 0.25
    assert policies.policy_of(Settings(), ("okx",)).share == 0.5


def test_a_run_is_judged_as_its_settings_say():
    policy = policies.policy_of(Settings(forge_window_ms=180, forge_min_witnesses=2), ("binance", "okx"))
    assert (policy.window_ms, policy.min_witnesses, policy.venues) == (180, 2, (0, 1))


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("window_ms", "99", "a whole number from 100 to 200"),
        ("window_ms", "x", "a valid integer"),
        ("min_witnesses", "0", "a whole number from 1 to 6"),
    ],
)
def test_a_value_out_of_bounds_says_what_is_allowed(name, text, allowed):
    with pytest.raises(ValueError, match=allowed):
        policies.checked(name, text)


def test_a_value_is_checked_for_itself(monkeypatch):
    monkeypatch.setenv("MIE_SIM_RATE", "-1")
    assert policies.checked("window_ms", "200") == 200


def test_combinations_come_after_what_they_are_compared_with():
    base = ForgePolicy()
    found = policies.products(base, {"window_ms": [100, 150], "min_witnesses": [1, 2]})
    assert [(policy.window_ms, policy.min_witnesses) for policy in found] == [(150, 1), (100, 1), (100, 2), (150, 2)]
    assert policies.labels(found)[1] == "window_ms=100 min_witnesses=1"
    assert policies.products(base, {"window_ms": [], "min_witnesses": []}) == [base]


def test_a_label_says_only_what_differs():
    assert policies.labels(policies.products(ForgePolicy(), {"window_ms": [100]})) == ["window_ms=150", "window_ms=100"]
    assert "window_ms=150 min_witnesses=1" in policies.labels([ForgePolicy()])[0]
