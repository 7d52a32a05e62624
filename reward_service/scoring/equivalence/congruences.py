r"""Residues: `x \equiv 7 \pmod{12}`, `7 \bmod 12`, and the bare 7."""

from __future__ import annotations

from reward_service.scoring.equivalence import exact
from reward_service.scoring.equivalence.equality import Finding, same_expressions
from reward_service.scoring.equivalence.forms import Congruence, Form, Value


def same_congruences(gold: Form, answer: Form) -> Finding:
    """Equal moduli and residues that differ by a multiple of it. Without a modulus only the least residue itself is equal."""
    if isinstance(gold, Congruence) and isinstance(answer, Congruence):
        if not same_expressions(gold.modulus, answer.modulus).equal:
            return Finding(False, "modulus")
        values = [exact.rational(side) for side in (gold.residue, answer.residue, gold.modulus)]
        one, other, modulus = values
        if one is None or other is None or modulus is None or modulus <= 0:
            return same_expressions(gold.residue, answer.residue)
        return Finding((one - other) % modulus == 0, "residue")
    congruence, value = (gold, answer) if isinstance(gold, Congruence) else (answer, gold)
    if not isinstance(congruence, Congruence) or not isinstance(value, Value) or value.unit:
        return Finding(False, "kinds_differ")
    residue, modulus = exact.rational(congruence.residue), exact.rational(congruence.modulus)
    if residue is None or modulus is None or not 0 <= residue < modulus:
        return Finding(False, "modulus_missing")
    return same_expressions(congruence.residue, value.expression)
