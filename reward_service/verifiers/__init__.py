"""Verifiers, one task per file; `VERIFIERS` is the whole list. To add a task: a file here, a line below, a table in tests/cases/."""

from __future__ import annotations

from typing import Any

from reward_service.verifiers.base import Verifier
from reward_service.verifiers.choice import ChoiceVerifier
from reward_service.verifiers.code import CodeVerifier
from reward_service.verifiers.math import MathVerifier

VERIFIERS: dict[str, Verifier[Any]] = {
    "math": MathVerifier(),
    "choice": ChoiceVerifier(),
    "code": CodeVerifier(),
}
