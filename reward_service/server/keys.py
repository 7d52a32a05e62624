"""Who may come: the keys, each with a name, a weight, a quota and an expiry, read again when their file changes.

    {"keys": [{"name": "run7", "key": "...", "weight": 2, "rollouts_per_minute": 60000, "expires": "2027-01-31T00:00:00Z"},
              {"name": "eval", "sha256": "...of the key, in hexadecimal..."}]}

Keys are held as digests, looked up by digest, and named in logs and metrics by their names alone.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from reward_service.errors import RequestError, RewardServiceError

BEARER = "bearer"
LOOK_S = 1.0  # between looks at the file
MINUTE_S = 60.0
MAX_KEYS = 10_000


class KeysUnusable(RewardServiceError):
    """The operator's fault: the file of keys cannot be read, or says what it may not say. The message carries no key."""


class Account:
    """What one key may do and has in flight; kept under its name when the file is read again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.weight = 1.0
        self.expires: datetime.datetime | None = None
        self.held: dict[str, float] = {}  # by resource, see admission.py
        self._per_minute: int | None = None
        self._balance = 0.0
        self._seen_s = 0.0

    def allow(self, weight: float, per_minute: int | None, expires: datetime.datetime | None) -> None:
        """Set what the key may do; a quota begins with a minute's worth."""
        self.weight, self.expires = weight, expires
        if per_minute != self._per_minute:
            self._per_minute, self._balance, self._seen_s = per_minute, float(per_minute or 0), time.monotonic()

    def spend(self, rollouts: int) -> float:
        """Take rollouts out of the quota: 0, or the seconds until that is possible, where nothing was taken.

        A request is let in while anything is left, whatever its size; what it takes too much is waited for afterwards.
        """
        if self._per_minute is None:
            return 0.0
        now = time.monotonic()
        rate = self._per_minute / MINUTE_S
        self._balance = min(float(self._per_minute), self._balance + (now - self._seen_s) * rate)
        self._seen_s = now
        if self._balance < 1:
            return (1 - self._balance) / rate
        self._balance -= rollouts
        return 0.0


class _Key(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    key: Annotated[str, Field(pattern=r"^[!-~]{1,1024}$")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    weight: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    rollouts_per_minute: Annotated[int, Field(ge=1)] | None = None
    expires: Annotated[AwareDatetime, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("needs exactly one of `key`, `sha256`")
        return self

    @property
    def digest(self) -> bytes:
        return _digest(self.key) if self.key is not None else bytes.fromhex(self.sha256 or "")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    keys: Annotated[list[_Key], Field(min_length=1, max_length=MAX_KEYS)]

    @model_validator(mode="after")
    def _no_two_alike(self) -> Self:
        if len({key.name for key in self.keys}) < len(self.keys) or len({key.digest for key in self.keys}) < len(self.keys):
            raise ValueError("two keys have the same name, or are the same")
        return self


class Keys:
    """The accounts by key. Without any key everybody is the account `anyone`."""

    def __init__(self, key: str | None, file: str | None) -> None:
        """Raises KeysUnusable."""
        self.bad = False  # whether the file as it is now cannot be used
        self._file = None if file is None else Path(file)
        self._accounts: dict[str, Account] = {}
        self._by_digest: dict[bytes, Account] = {}
        self._always: Mapping[bytes, Account] = {} if key is None else {_digest(key): self._account("default")}
        self._by_digest.update(self._always)
        self._stamp: tuple[int, ...] | None = None
        self._looked_s = time.monotonic()
        self._anyone = None if key is not None or file is not None else self._account("anyone")
        if self._file is not None:
            self._read(self._file, _stamp(self._file))

    @property
    def open(self) -> bool:
        """Whether no key is needed."""
        return self._anyone is not None

    @property
    def accounts(self) -> list[Account]:
        """All accounts that may come now."""
        return [self._anyone] if self._anyone is not None else list(self._by_digest.values())

    def find(self, authorization: str | None) -> Account:
        """Whose key the header `Authorization` holds.

        Raises:
            RequestError: the client's fault: 401 without a known key, 403 where it has expired.
        """
        if self._anyone is not None:
            return self._anyone
        self._look()
        kind, _, given = (authorization or "").partition(" ")
        # By digest: how long the look-up takes says nothing of a key.
        account = self._by_digest.get(_digest(given.strip())) if kind.lower() == BEARER else None
        if account is None:
            raise RequestError("", "the header `Authorization: Bearer KEY` with a key of this server is needed", status=401)
        if account.expires is not None and account.expires <= datetime.datetime.now(datetime.UTC):
            raise RequestError("", "the key has expired", status=403)
        return account

    def _look(self) -> None:
        """Read the file again where it has changed; one that cannot be used changes nothing."""
        if self._file is None or time.monotonic() < self._looked_s + LOOK_S:
            return
        self._looked_s = time.monotonic()
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        try:
            self._read(self._file, stamp)
        except KeysUnusable as error:
            self.bad, self._stamp = True, stamp
            structlog.get_logger().error("the file of keys cannot be used: the keys stay as they were", reason=str(error))
        else:
            structlog.get_logger().info("keys read", keys=len(self._by_digest))

    def _read(self, file: Path, stamp: tuple[int, ...] | None) -> None:
        try:
            stated = _File.model_validate_json(file.read_bytes())
        except OSError as error:
            raise KeysUnusable(f"{file}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            raise KeysUnusable(f"{file}: {'/'.join(map(_told, first['loc']))}: {first['msg']}") from None
        found = dict(self._always)
        for key in stated.keys:
            found[key.digest] = account = self._account(key.name)
            account.allow(key.weight, key.rollouts_per_minute, key.expires)
        self._by_digest, self._stamp, self.bad = found, stamp, False

    def _account(self, name: str) -> Account:
        return self._accounts.setdefault(name, Account(name))


def _told(token: int | str) -> str:
    """A part of a place in the file; what is no known name may be a key that stands where a name should."""
    known = isinstance(token, int) or token in _File.model_fields or token in _Key.model_fields
    return str(token) if known else "(unknown field)"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
