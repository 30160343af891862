"""How the forge judges, as a user chooses it: by settings for a run, by options where settings are compared.

The fields of `ForgePolicy` are the list of what can be chosen; one that has a setting `MIE_FORGE_<FIELD>` takes its
default and its bounds from there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from market.settings import Settings
from market.venues import VENUE_CODES
from operators.forge import ForgePolicy


@dataclass(frozen=True, slots=True)
class Choice:
    """A field of the policy that a user may choose: its name, type, default and what it is."""

    name: str
    kind: type
    default: Any
    about: str


def choices() -> list[Choice]:
    """Return what can be chosen, in the order of the policy's fields."""
    kinds = get_type_hints(ForgePolicy)
    texts = dict(re.findall(r"^\s+(\w+): (.+)$", ForgePolicy.__doc__ or "", re.MULTILINE))
    return [
        Choice(field.name, kinds[field.name], field.default, texts.get(field.name, ""))
        for field in fields(ForgePolicy)
        if kinds[field.name] in (int, float, bool) and field.default is not MISSING
    ]


def policy_of(settings: Settings, venues: Sequence[str]) -> ForgePolicy:
    """Return the policy that the settings ask for, on some venues."""
    chosen = {choice.name: getattr(settings, f"forge_{choice.name}", choice.default) for choice in choices()}
    return ForgePolicy(**chosen, venues=tuple(VENUE_CODES[name] for name in venues))


def checked(name: str, text: str) -> Any:
    """Return the value of a field that a text stands for.

    Raises:
        ValueError: It is not of the field's type, or not within the bounds of its setting; the message says what is.
    """
    kind = next(choice.kind for choice in choices() if choice.name == name)
    try:
        value: Any = TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        raise ValueError(_allowed(error, ())) from None
    setting = f"forge_{name}"
    if setting in Settings.model_fields:
        try:
            Settings(**{setting: value})
        except ValidationError as error:
            allowed = _allowed(error, (setting,))
            if allowed:
                raise ValueError(allowed) from None
    return value


def _allowed(error: ValidationError, place: tuple[str, ...]) -> str:
    """Return what an error says of a place."""
    texts = [str(each["msg"]) for each in error.errors() if each["loc"] == place]
    return texts[0].removeprefix("Value error, ").removeprefix("Input should be ") if texts else ""


def products(base: ForgePolicy, values: Mapping[str, Sequence[Any]]) -> list[ForgePolicy]:
    """Return `base`, and after it every combination of some fields' values, each policy once."""
    names = [name for name in values if values[name]]
    rows = itertools.product(*(values[name] for name in names))
    changed = [replace(base, **dict(zip(names, row, strict=True))) for row in rows] if names else []
    return list(dict.fromkeys([base, *changed]))


def labels(policies: Sequence[ForgePolicy]) -> list[str]:
    """Return a short name for each: the fields in which they differ, all but the venues where they do not."""
    names = [choice.name for choice in choices()]
    differing = [name for name in names if len({getattr(policy, name) for policy in policies}) > 1] or names
    return [" ".join(f"{name}={getattr(policy, name):g}" for name in differing) for policy in policies]
