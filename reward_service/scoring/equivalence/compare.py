r"""Is an answer equal to one of the references? Cheapest stage first; what is not proved, or confirmed within a stated bound, is not equal.

Stages: limits, identical text, structure (tuples, sets, ranges, relations, units), exact algebra, numbers at fixed points, SymPy and
math-verify last. Conventions, where honest graders differ, are those that cannot be gamed: a list is never equal to one of its
elements, `x > 3` is not 3, a decimal equals a fraction only exactly, `25_6` is not `25_7`, names and cases of variables matter. What
is taken for granted: a missing or added unit, an added `x =`, a percent sign read as a unit or as a hundredth, a bare list read in
order for a tuple, a missing base.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from reward_service.scoring.equivalence import families, numeric, second_opinion
from reward_service.scoring.equivalence.alternatives import same_alternatives
from reward_service.scoring.equivalence.chosen import behind_choice, names_choice, names_choices
from reward_service.scoring.equivalence.congruences import same_congruences
from reward_service.scoring.equivalence.conventions import DEFAULT, in_force, read_conventions, under
from reward_service.scoring.equivalence.equality import Finding, same_expressions
from reward_service.scoring.equivalence.forms import (
    Based,
    Collection,
    Congruence,
    Form,
    Interval,
    Matrix,
    Named,
    Relation,
    SetOperation,
    Sum,
    Value,
    Words,
    render,
)
from reward_service.scoring.equivalence.formulas import same_formulas
from reward_service.scoring.equivalence.limits import MAX_CHARS
from reward_service.scoring.equivalence.normalize import is_broken
from reward_service.scoring.equivalence.parse import Reading, read_answer
from reward_service.scoring.equivalence.plain import compare_plain, read_plain
from reward_service.scoring.equivalence.qualifiers import condition_of
from reward_service.scoring.equivalence.ranges import has_constant_ends, range_of
from reward_service.scoring.equivalence.readings import rounds_to, with_decimal_points, with_its_name
from reward_service.scoring.equivalence.real_sets import same_real_sets
from reward_service.scoring.equivalence.references import malformed, unboxed
from reward_service.scoring.equivalence.relations import (
    assignment,
    backwards,
    is_named_list,
    named_values,
    names_a_set,
    names_a_value,
    same_relations,
    says_a_quantity,
    spread,
    without_approximations,
)
from reward_service.scoring.equivalence.same_collections import only_element, quotient, same_collections, same_named, same_operands
from reward_service.scoring.equivalence.same_matrices import same_matrices
from reward_service.scoring.equivalence.same_values import same_plain_numbers, same_values
from reward_service.scoring.equivalence.short_words import is_short_word, same_letters, says_yes_or_no
from reward_service.scoring.equivalence.vectors import beside_vector

RULES_VERSION = 5  # of math and choice verdicts, stated in `service.versions`: raise it with any change of one once released
MAX_FORM_CHARS = 500


@dataclass(frozen=True, slots=True)
class Prepared:
    """A reference as it was read; `cause` says why it cannot be used, None if it can."""

    cause: str | None
    form: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The finding, the rule that decided, both normal forms (bounded), and where values differ."""

    equal: bool
    rule: str
    gold_form: str
    answer_form: str
    witness: str = ""


def prepare_gold(gold: str) -> Prepared:
    """Read a reference alone and hold it against itself. May not end: run under a deadline."""
    gold = unboxed(gold[: MAX_CHARS + 1])
    reading = read_answer(gold)
    form = _shown(reading)
    if reading.limit:
        return Prepared(reading.limit, form)
    cause = malformed(gold, reading)
    if cause is None and not any(_same(part, part).equal for part in reading.forms):
        cause = "not_equal_to_itself"
    return Prepared(cause, form)


def compare_answers(golds: list[str], answer: str, conventions: list[str] | None = None) -> Comparison:
    """Compare with each reference in turn until one is equal, under `conventions` like `rounding=digits`.

    May not end: run under a deadline.

    Raises:
        ValueError: the operator's fault: there is no such convention.
    """
    if not conventions:
        return _compare_in_turn(golds, answer)
    chosen = read_conventions(conventions)
    if chosen.decimal_comma == "yes":
        golds, answer = [with_decimal_points(gold) for gold in golds], with_decimal_points(answer)
    with under(chosen):
        return _compare_in_turn(golds, answer)


def _compare_in_turn(golds: list[str], answer: str) -> Comparison:
    plain = read_plain(answer) if in_force() is DEFAULT else None
    reading = read_answer(answer) if plain is None else None
    finding, form = Finding(False, "no_reference"), ""
    for gold in golds:
        plain_gold = _plain_gold(gold) if plain is not None else None
        found = compare_plain(plain_gold, plain) if plain is not None and plain_gold is not None else None
        if found is not None and plain_gold is not None:
            finding, form = found, plain_gold.form
        else:
            reading = reading or read_answer(answer)
            gold_reading, form = _read_gold(gold)
            finding = _compare(gold_reading, reading)
        if finding.equal:
            break
    shown = plain.form if plain is not None else _shown(reading) if reading is not None else ""
    return Comparison(finding.equal, finding.rule, form, shown, finding.witness)


def _are_words(gold: Reading, answer: Reading) -> bool:
    r"""Whether equal words are an answer: not `\sqrt{}3` for `\sqrt{3}`, which differ in braces alone."""
    return any(char.isalnum() for char in answer.words) and not any(map(is_broken, (gold.latex, answer.latex)))


_plain_gold = functools.lru_cache(maxsize=512)(read_plain)


@functools.lru_cache(maxsize=512)
def _read_gold(gold: str) -> tuple[Reading, str]:
    """A reference and its normal form: read once for all answers of its group."""
    reading = read_answer(unboxed(gold[: MAX_CHARS + 1]))
    return reading, _shown(reading)


def _shown(reading: Reading) -> str:
    return render(reading.forms[0])[:MAX_FORM_CHARS] if reading.forms else ""


# ---- whole answers ---------------------------------------------------------------------------------------------------


def _compare(gold: Reading, answer: Reading) -> Finding:
    if answer.limit or gold.limit:
        return Finding(False, f"limit:{answer.limit or gold.limit}")
    if gold.numbers and answer.numbers and gold.numbers != answer.numbers:
        return Finding(False, "conditions_differ")
    if gold.text == answer.text and answer.words:
        return Finding(True, "identical")
    if len(gold.forms) == len(answer.forms) == 1 and in_force() is DEFAULT:
        finding = same_plain_numbers(gold.forms[0], answer.forms[0])
        if finding is not None:
            return finding
    found = _by_words(gold, answer)
    if found is not None:
        return found
    finding = Finding(False, "unread")
    for gold_form in gold.forms:
        for answer_form in answer.forms:
            finding = _same(gold_form, answer_form)
            if not finding.equal and in_force() is not DEFAULT:
                finding = _by_choice(gold, gold_form, answer_form) or finding
            if finding.equal:
                return finding
    return _beyond_forms(gold, answer) or finding


def _beyond_forms(gold: Reading, answer: Reading) -> Finding | None:
    """What is equal though no two forms are."""
    if gold.numbers == answer.numbers == "Z" and _same_family(gold, answer):
        return Finding(True, "family")
    value = behind_choice(gold.latex, answer.latex)
    if value:
        return _compare(gold, read_answer(value))
    conditions = condition_of(gold.latex), condition_of(answer.latex)
    if any(conditions):
        return _under_conditions(gold, answer, *conditions)
    if same_formulas(gold.latex, answer.latex):
        return Finding(True, "formula")
    if second_opinion.math_verify_agrees(gold.latex, answer.latex):
        return Finding(True, "math_verify")
    return None


def _by_words(gold: Reading, answer: Reading) -> Finding | None:
    """What is equal as it is written."""
    wordy = any(isinstance(form, Words) for form in (*gold.forms, *answer.forms))
    if wordy and gold.words == answer.words and _are_words(gold, answer):
        return Finding(True, "words")
    if says_yes_or_no(gold.words, answer.words):
        return Finding(True, "yes_or_no")
    if names_choice(gold.text, answer.words) or names_choice(answer.text, gold.words):
        return Finding(True, "letter_of_choice")
    if in_force().base_suffix == "optional" and any(isinstance(form, Based) and form.digits == answer.text.lower() for form in gold.forms):
        return Finding(True, "base_omitted")
    return None


def _same_family(gold: Reading, answer: Reading) -> bool:
    return any(
        _same(shifted, answer_form).equal
        for gold_form in gold.forms
        for answer_form in answer.forms
        for shifted in families.shifted(gold_form, answer_form)
    )


def _under_conditions(gold: Reading, answer: Reading, one: tuple[str, str] | None, other: tuple[str, str] | None) -> Finding:
    r"""`y = \sqrt{x} (x \ge 0)`: the formulas, and the conditions where both state one."""
    if one and other and not _compare(read_answer(one[1]), read_answer(other[1])).equal:
        return Finding(False, "conditions_differ")
    return _compare(read_answer(one[0]) if one else gold, read_answer(other[0]) if other else answer)


def _by_choice(gold: Reading, gold_form: Form, answer: Form) -> Finding | None:
    """What only conventions that were chosen make equal."""
    chosen = in_force()
    if chosen.rounding == "digits" and rounds_to(gold.text, gold_form, answer):
        return Finding(True, "rounded")
    if chosen.variables == "renamed" and _same(gold_form, with_its_name(gold_form, answer)).equal:
        return Finding(True, "renamed")
    return None


# ---- forms -----------------------------------------------------------------------------------------------------------

_NO = Finding(False, "kinds_differ")


def _same(gold: Form, answer: Form) -> Finding:
    """Two forms, with whatever stands around their values taken off."""
    if type(gold) is Value and type(answer) is Value and not gold.word and not answer.word:
        return same_values(gold, answer)
    gold_exact, answer_exact = without_approximations(gold, _close), without_approximations(answer, _close)
    if gold_exact is None or answer_exact is None:
        return Finding(False, "approximation_contradicts")
    gold, answer = spread(gold_exact), spread(answer_exact)
    if not (isinstance(gold, Value) and isinstance(answer, Value)):
        found = _as_points(gold, answer)
        if found is not None:
            return found
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        return _ranges(gold, answer) or Finding(*same_relations(gold, answer, _equal))
    if isinstance(answer, Relation):
        return _against_relation(gold, answer)
    if isinstance(gold, Relation):
        return _relation_against(gold, answer)
    both_named = is_named_list(gold) and is_named_list(answer)
    unnamed = named_values(gold, both_named), named_values(answer, both_named)
    if not both_named or not any(isinstance(form, Collection) and is_named_list(form) for form in unnamed):
        gold, answer = unnamed
    if is_short_word(gold) or is_short_word(answer) or names_choices(gold, answer):
        return Finding(names_choices(gold, answer) or same_letters(only_element(gold), only_element(answer)), "letters")
    if isinstance(gold, Value) and isinstance(answer, Value):
        return same_values(gold, answer)
    if isinstance(gold, Words) and isinstance(answer, Words):
        return Finding(bool(gold.text) and gold.text == answer.text, "words")
    if isinstance(gold, Based) and isinstance(answer, Based):
        return Finding(gold == answer, "base")
    gold, answer = beside_vector(gold, answer), beside_vector(answer, gold)
    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return same_matrices(gold, answer, _equal)
    if isinstance(gold, Congruence) or isinstance(answer, Congruence):
        return same_congruences(gold, answer)
    return _sets(gold, answer)


def _as_points(gold: Form, answer: Form) -> Finding | None:
    """Two forms as the sets of real numbers or the curves that they are; None where they are not plainly such."""
    same = same_real_sets(gold, answer)
    if same is not None:
        return Finding(same, "real_set")
    return Finding(True, "alternatives") if same_alternatives(gold, answer, _equal) else None


def _close(exact_form: Form, approximation: Form) -> bool:
    """Whether a number is plainly meant as an approximation of the other."""
    if not isinstance(exact_form, Value) or not isinstance(approximation, Value):
        return False
    return numeric.near(exact_form.expression, approximation.expression)


def _equal(gold: Form, answer: Form) -> bool:
    return _same(gold, answer).equal


def _ranges(gold: Relation, answer: Relation) -> Finding | None:
    one, other = _named_set(gold), _named_set(answer)
    if one is None or other is None:
        return None
    if one[0] == other[0] and _sets(one[1], other[1]).equal:
        return Finding(True, "range")
    constant = all(map(has_constant_ends, (one[1], other[1])))
    return Finding(False, "range") if constant else None  # `y > 2x` may be a multiple of the other


def _named_set(relation: Relation) -> tuple[str, Form] | None:
    r"""The variable and the set of `1 < x < 2` or `x \in S`."""
    if relation.operators == ("in",):
        assigned = assignment(relation)
        return (assigned.name, assigned.values[0]) if assigned else None
    return range_of(relation)


def _against_relation(gold: Form, answer: Relation) -> Finding:
    """`x = 5` against `5`, `5 < x` against an interval, `2 * 3 = 6` against `6`."""
    if in_force().assignments == "required":
        return Finding(False, "assignment_added")
    found = range_of(answer)
    if found is not None:
        return _sets(gold, found[1]) if not isinstance(gold, Value) else Finding(False, "relation_is_no_value")
    if names_a_set(answer):
        return _same(gold, answer.sides[-1])
    assigned = assignment(answer) or assignment(backwards(answer))
    if assigned is not None and answer.operators == ("in",) and isinstance(assigned.values[0], Value):
        return Finding(False, "no_set")
    if assigned is None:
        if answer.operators and set(answer.operators) == {"="} and (isinstance(gold, Value) or _is_ratio(gold, answer)):
            sides = answer.sides[1:] if names_a_value(answer, gold) else answer.sides
            return Finding(all(_equal(gold, side) for side in sides), "equation_chain")
        return Finding(False, "relation_is_no_value")
    values = assigned.values
    if any(not _equal(values[0], value) for value in values[1:]):
        return Finding(False, "chain_contradicts_itself")
    return _same(gold, values[0])


def _is_ratio(gold: Form, answer: Relation) -> bool:
    """Whether the answer says of what the reference is the ratio: `a:b:c = 3:4:5`."""
    return all(isinstance(form, Collection) and form.kind in ("ratio", "clock") for form in (gold, *answer.sides))


def _relation_against(gold: Relation, answer: Form) -> Finding:
    found = range_of(gold)
    if found is not None:
        return _sets(found[1], answer) if not isinstance(answer, Value) else Finding(False, "relation_is_no_value")
    assigned = assignment(gold) or assignment(backwards(gold))
    if in_force().assignments == "required":
        return Finding(False, "assignment_missing")
    if all(isinstance(side, Value) and numeric.is_constant(side.expression) for side in gold.sides) and set(gold.operators) == {"="}:
        return Finding(all(_equal(side, answer) for side in gold.sides), "equation_chain")
    named = assigned is not None and (assigned.single_name or isinstance(gold.sides[0], Words))
    if not named and not says_a_quantity(gold) and not names_a_set(gold):
        return Finding(False, "relation_is_no_value")
    return _same(assigned.values[-1] if assigned is not None else gold.sides[-1], answer)


def _sets(gold: Form, answer: Form) -> Finding:
    """Collections, intervals and what is made of them."""
    if isinstance(gold, Value | Words) or isinstance(answer, Value | Words):
        quotients = quotient(gold), quotient(answer)
        if quotients != (gold, answer):
            return _same(*quotients)
        if isinstance(gold, Value) and isinstance(answer, Collection) and answer.kind == "list" and len(set(answer.items)) > 1:
            # `3/4 or 0.75`: one value, written twice.
            plain = len(set(answer.items)) == len(answer.items) and all(
                isinstance(item, Value) and not item.unit and not isinstance(item.expression, Sum) for item in answer.items
            )
            return Finding(plain and all(_equal(gold, item) for item in answer.items), "same_twice")
        gold_inner, answer_inner = only_element(gold), only_element(answer)
        return _NO if (gold_inner, answer_inner) == (gold, answer) else _same(gold_inner, answer_inner)
    if isinstance(gold, SetOperation) and isinstance(answer, SetOperation):
        return Finding(gold.operator == answer.operator and same_operands(gold, answer, _equal), "set_operation")
    gold_set, answer_set = _interval_of(gold, answer), _interval_of(answer, gold)
    if isinstance(gold_set, Interval) and isinstance(answer_set, Interval):
        return Finding(_intervals(gold_set, answer_set), "interval")
    if isinstance(gold, Named) or isinstance(answer, Named):
        return Finding(same_named(gold, answer), "named_set")
    if isinstance(gold, Collection) and isinstance(answer, Collection):
        return Finding(same_collections(gold, answer, _equal), "collection")
    return _NO


def _interval_of(form: Form, other: Form) -> Form:
    """A pair in brackets is an interval where the other side is one."""
    if isinstance(form, Collection) and form.kind in ("tuple", "bracket") and len(form.items) == 2 and isinstance(other, Interval):
        low, high = form.items
        if isinstance(low, Value) and isinstance(high, Value) and not low.unit and not high.unit:
            closed = form.kind == "bracket"
            return Interval(low.expression, high.expression, (closed, closed))
    return form


def _intervals(gold: Interval, answer: Interval) -> bool:
    return gold.closed == answer.closed and same_expressions(gold.low, answer.low).equal and same_expressions(gold.high, answer.high).equal
