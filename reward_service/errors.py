"""The error model: whose fault it is decides what the trainer sees.

    RewardServiceError
    +-- RequestError            the request's fault: refused with 4xx before any work, names the field by JSON pointer
    +-- NotScored               the reference's, the server's or nobody's fault: outcome `unscored`, reward null
    |   +-- BadReference        the reference cannot be used, or is not even equal to itself
    |   +-- LanguageUnavailable the reference names a programming language that this server lacks
    |   +-- DeadlineExceeded    did not start before the caller's deadline
    |   +-- Overloaded          the server has no room
    |   +-- Cancelled           the caller went away or the server is stopping
    |   +-- NoSandbox           this machine allows no isolation, so no code runs
    |   +-- WorkerLost          a process of ours died, repeatedly, without evidence against what it worked on
    +-- JobKilled               what ran was stopped by its own doing: a limit of its own, or a fatal signal that is not SIGKILL

A completion's fault is not an error: it is a `Verdict`. `JobKilled` is raised by effects and turned by the verifier into a verdict
(while comparing a candidate) or into `BadReference` (while preparing the reference).
"""

from __future__ import annotations

from types import TracebackType

from reward_service.records import Reason


class RewardServiceError(Exception):
    """Whatever goes wrong here on purpose. No message carries a prompt, a completion or a key."""


class RequestError(RewardServiceError):
    """The request's fault. `pointer` is a JSON pointer (RFC 6901) to the field; `status` the HTTP status, 400 or above."""

    def __init__(self, pointer: str, message: str, status: int = 422) -> None:
        super().__init__(f"{pointer or '/'}: {message}")
        self.pointer = pointer
        self.message = message
        self.status = status


class NotScored(RewardServiceError):
    """No fault of the completion: the rollout is `unscored` for `reason`, with a message for people."""

    reason: Reason = Reason.WORKER_LOST

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.reason.value)


class BadReference(NotScored):
    """The dataset's fault."""

    reason = Reason.BAD_REFERENCE


class LanguageUnavailable(NotScored):
    """The server's fault: it lacks a programming language that the reference names."""

    reason = Reason.LANGUAGE_UNAVAILABLE


class DeadlineExceeded(NotScored):
    """Nobody's fault: the work had not started when the caller's deadline passed."""

    reason = Reason.DEADLINE


class Overloaded(NotScored):
    """The server's fault: a bounded queue is full."""

    reason = Reason.OVERLOADED


class Cancelled(NotScored):
    """The caller went away, or the server is stopping."""

    reason = Reason.CANCELLED


class NoSandbox(NotScored):
    """The machine's fault: no isolation is possible here."""

    reason = Reason.SANDBOX_UNAVAILABLE


class WorkerLost(NotScored):
    """The server's fault: a worker died again and again without evidence that its item killed it."""

    reason = Reason.WORKER_LOST


class JobKilled(RewardServiceError):
    """The item's own doing ended its worker. `cause` is one of `cpu_limit`, `wall_limit`, `memory_limit`, `signal`, `exception`."""

    def __init__(self, cause: str, message: str = "") -> None:
        super().__init__(message or cause)
        self.cause = cause


class attributed:  # read as a word of `with`; a generator would take three times as long, twice for each rollout
    """Turn whatever was not foreseen into `WorkerLost`, so that no bug of ours becomes a reward of 0.

    A `JobKilled` that no verifier turned into a verdict or a bad reference is unforeseen as well.

    Raises:
        NotScored, RequestError: as they were raised.
        WorkerLost: ours; the unforeseen exception is its cause.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Pass on what is known, raise what is not."""
        if isinstance(error, Exception) and not isinstance(error, NotScored | RequestError):
            raise WorkerLost(f"unforeseen {type(error).__name__}") from error
