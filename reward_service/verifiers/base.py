"""The protocol of a verifier: prepare a reference once per group, then judge each final answer against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from reward_service.effects import Effects
from reward_service.records import AnswerForm, DetailLevel, FinalAnswer, Reference, Verdict

ReferenceT = TypeVar("ReferenceT", bound=Reference, contravariant=True)


@dataclass(frozen=True, slots=True)
class GroupContext:
    """What a verifier may depend on besides the reference. `fraction`: correctness is the share of tests passed.

    `rollouts` is how many there are, 0 where that is not known; no verdict depends on it.
    """

    group_id: str
    seed: int
    fraction: bool
    detail: DetailLevel
    rollouts: int = 0


class Judge(Protocol):
    """Judges final answers of one group against its prepared reference."""

    async def __call__(self, final_answer: FinalAnswer) -> Verdict:
        """The verdict: whatever the completion did wrong is a correctness below 1.

        Raises:
            NotScored: ours, never the completion's.
        """
        ...


class Verifier(Protocol[ReferenceT]):
    """Decides answers of one task."""

    @property
    def answer_form(self) -> AnswerForm:
        """What the gate must find in the answer section."""
        ...

    async def prepare(self, reference: ReferenceT, context: GroupContext, effects: Effects) -> Judge:
        """Parse, bound and try the reference alone, before any completion is read.

        Raises:
            BadReference, LanguageUnavailable: the dataset's or the server's fault: the whole group is `unscored`.
            NotScored: ours.
        """
        ...
