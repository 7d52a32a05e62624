"""Split a completion into thinking and answer once, by the scheme's tags; nobody else looks for them."""

from __future__ import annotations

from reward_service.records import Completion, Violation


def split_completion(text: str, tags: tuple[str, str], *, prompt_opened_tag: bool, leading_whitespace: bool) -> Completion:
    """Thinking, answer, and the first thing that is wrong with the tags (MAGISTRAL.md, format gate, rule 1).

    Tags are compared character by character and count wherever they stand. The answer is what follows the last closing tag, the
    thinking what lies between the first opening tag (or the beginning) and that closing tag; without a closing tag the answer is the
    whole text and the thinking is empty. With `prompt_opened_tag` the text begins inside the thinking, so that any opening tag in it
    is a repeated one. `leading_whitespace` tolerates white space (Unicode's) before the opening tag. Linear in the text's length.

    Example: `<think>2 + 2</think>\\boxed{4}` is the thinking `2 + 2` and the answer `\\boxed{4}`.
    """
    opening, closing = tags
    violation = _tag_violation(text, opening, closing, prompt_opened_tag=prompt_opened_tag, leading_whitespace=leading_whitespace)
    end = text.rfind(closing)
    if end < 0:
        return Completion(thinking="", answer=text, violation=violation)
    opened = text.find(opening, 0, end)
    begin = opened + len(opening) if opened >= 0 else 0
    return Completion(thinking=text[begin:end], answer=text[end + len(closing) :], violation=violation)


def _tag_violation(text: str, opening: str, closing: str, *, prompt_opened_tag: bool, leading_whitespace: bool) -> Violation | None:
    """The first violation in the declared order, or None."""
    if not prompt_opened_tag:
        if opening not in text:
            return Violation.NO_OPENING_TAG
        if not (text.lstrip() if leading_whitespace else text).startswith(opening):
            return Violation.TEXT_BEFORE_TAG
    if closing not in text:
        return Violation.NO_CLOSING_TAG
    allowed_openings = 0 if prompt_opened_tag else 1
    if text.count(opening) > allowed_openings or text.count(closing) > 1:
        return Violation.REPEATED_TAG
    return None
