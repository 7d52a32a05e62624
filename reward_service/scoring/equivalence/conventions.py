"""Declared conventions: where honest graders differ, which way this service decides, and the settings that change it.

docs/math-conventions.md lists each with examples. The defaults are those that cannot be gamed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

CHOICES: Mapping[str, tuple[str, ...]] = {
    "rounding": ("exact", "digits"),
    "units": ("optional", "required"),
    "percent": ("either", "hundredth"),
    "angles": ("converted", "distinct"),
    "base_suffix": ("optional", "required"),
    "assignments": ("optional", "required"),
    "bare_tuples": ("accepted", "refused"),
    "list_order": ("free", "kept"),
    "variables": ("fixed", "renamed"),
    "decimal_comma": ("no", "yes"),
}  # the default first


@dataclass(frozen=True, slots=True)
class Conventions:
    """One choice for each convention."""

    rounding: Literal["exact", "digits"] = "exact"
    units: Literal["optional", "required"] = "optional"
    percent: Literal["either", "hundredth"] = "either"
    angles: Literal["converted", "distinct"] = "converted"
    base_suffix: Literal["optional", "required"] = "optional"
    assignments: Literal["optional", "required"] = "optional"
    bare_tuples: Literal["accepted", "refused"] = "accepted"
    list_order: Literal["free", "kept"] = "free"
    variables: Literal["fixed", "renamed"] = "fixed"
    decimal_comma: Literal["no", "yes"] = "no"


def read_conventions(written: Iterable[str]) -> Conventions:
    """The conventions of a list like `rounding=digits, units=required`; what it does not name keeps its default.

    Raises:
        ValueError: the operator's fault; the message names the convention and its choices.
    """
    chosen: dict[str, str] = {}
    for item in written:
        name, equals, choice = item.partition("=")
        if name not in CHOICES:
            raise ValueError(f"{name!r} is no convention; there are {', '.join(CHOICES)}")
        if not equals or choice not in CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(CHOICES[name])}, as in {name}={CHOICES[name][-1]}")
        if name in chosen:
            raise ValueError(f"{name} is given twice")
        chosen[name] = choice
    found = dataclasses.replace(DEFAULT, **chosen)  # type: ignore[arg-type]
    return DEFAULT if found == DEFAULT else found


DEFAULT = Conventions()
_IN_FORCE: ContextVar[Conventions] = ContextVar("conventions", default=DEFAULT)


def in_force() -> Conventions:
    """The conventions of the comparison that runs, `DEFAULT` itself if none was chosen. Readings outlive it and must not ask."""
    return _IN_FORCE.get()


@contextmanager
def under(conventions: Conventions) -> Iterator[None]:
    """Compare under these conventions."""
    token = _IN_FORCE.set(conventions)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)
