"""The length term: a soft penalty for completions that come near the longest length allowed."""

from __future__ import annotations


def overlong_penalty(tokens: int, soft_tokens: int, hard_tokens: int) -> float:
    """The share of the length weight that is lost, in [-1, 0] (Magistral, arXiv 2506.10910v1, eq. 1, divided by 0.1).

    0 up to `soft_tokens` (l_max - l_cache), then falling in a straight line to -1 at `hard_tokens` (l_max) and staying there. With
    `soft_tokens` equal to `hard_tokens` it is a step just above them.

    Raises:
        ValueError: the caller's fault: a negative number, or soft above hard.
    """
    if not 0 <= soft_tokens <= hard_tokens or tokens < 0:
        raise ValueError("wanted: 0 <= soft_tokens <= hard_tokens and 0 <= tokens")
    if tokens <= soft_tokens:
        return 0.0
    if tokens >= hard_tokens:
        return -1.0
    return -(tokens - soft_tokens) / (hard_tokens - soft_tokens)
