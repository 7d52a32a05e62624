"""Which declared conventions decide over answers to a reference: what a data set's owner should look at before a run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reward_service.scoring.equivalence import numeric
from reward_service.scoring.equivalence.compare import prepare_gold
from reward_service.scoring.equivalence.forms import Based, Collection, Form, Relation, Value, Words, render
from reward_service.scoring.equivalence.limits import MAX_CHARS
from reward_service.scoring.equivalence.parse import Reading, read_answer
from reward_service.scoring.equivalence.references import unboxed

MAX_SHOWN_CHARS = 200
_DECIMAL = re.compile(r"-?\d*\.\d+")
_COMMA = re.compile(r"-?\d+,\d{1,2}|-?\d+,\d{4,}")
_LOOKS_LIKE_MATH = re.compile(r"[\d\\^_=<>]")


@dataclass(frozen=True, slots=True)
class Noted:
    """How a reference is read (each reading once), why it cannot be used (None if it can), and the conventions that concern it."""

    cause: str | None
    readings: tuple[str, ...]
    conventions: tuple[str, ...]


def note_reference(gold: str) -> Noted:
    """Read one reference as a run would. May not end: run under a deadline.

    `words` among the conventions: it looks like mathematics, but is compared as text only; `ambiguous`: it has several readings.
    """
    prepared = prepare_gold(gold)
    reading = read_answer(unboxed(gold[: MAX_CHARS + 1]))
    readings = tuple(render(form)[:MAX_SHOWN_CHARS] for form in reading.forms)
    return Noted(prepared.cause, readings, tuple(sorted(_conventions(reading))))


def _conventions(reading: Reading) -> set[str]:
    found = {"ambiguous"} if len(reading.forms) > 1 else set()
    if _DECIMAL.fullmatch(reading.text):
        found.add("rounding")
    if _COMMA.fullmatch(reading.latex):
        found.add("decimal_comma")
    for form in reading.forms:
        found |= _of_form(form)
        if isinstance(form, Words) and _LOOKS_LIKE_MATH.search(reading.words):
            found.add("words")
    return found


def _of_form(form: Form) -> set[str]:
    match form:
        case Value(expression, unit):
            names = set(numeric.variables(expression))
            return {_OF_UNITS.get(unit, "units")} if unit else {"variables"} if len(names) == 1 else set()
        case Based():
            return {"base_suffix"}
        case Relation(_, ("=",)):
            return {"assignments"}
        case Collection("list"):
            return {"list_order"}
        case Collection("tuple"):
            return {"bare_tuples"}
    return set()


_OF_UNITS = {"%": "percent", "degree": "angles"}
