"""Keys: names, weights, quotas, expiry, and a file that may change at any time; fairness between them."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from reward_service.costs import ANSWER
from reward_service.errors import RequestError
from reward_service.server import keys as keys_module
from reward_service.server import runs
from reward_service.server.admission import LANGUAGE, PROGRAM, ROLLOUTS, SANDBOX, WORKERS, Admission, NoRoom, Ticket
from reward_service.server.keys import Account, Keys, KeysUnusable
from tests.server.conftest import Serving
from tests.server.doubles import program_body, program_group, settle, slow_pipeline

LIMITS = {"requests": 1000, ROLLOUTS: 1000, "bytes": 1000, WORKERS: 10.0, SANDBOX: 10.0}


def write(file: Path, *keys: Mapping[str, object]) -> None:
    file.write_text(json.dumps({"keys": keys}))


def names(keys: Keys, *given: str) -> list[str]:
    found = []
    for key in given:
        try:
            found.append(keys.find(f"Bearer {key}").name)
        except RequestError as error:
            found.append(str(error.status))
    return found


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keys_module, "LOOK_S", 0.0)
    return tmp_path / "keys.json"


def test_keys_are_found_by_their_text_or_digest(file: Path) -> None:
    digest = hashlib.sha256(b"second").hexdigest()
    write(file, {"name": "one", "key": "first", "weight": 3}, {"name": "two", "sha256": digest})
    keys = Keys("the-setting", str(file))
    assert names(keys, "first", "second", "the-setting", "third", digest, "") == ["one", "two", "default", "401", "401", "401"]
    assert keys.find("bearer first").weight == 3
    with pytest.raises(RequestError):
        keys.find("Basic first")
    with pytest.raises(RequestError):
        keys.find(None)


def test_without_keys_everybody_comes() -> None:
    keys = Keys(None, None)
    assert (keys.open, keys.find(None).name) == (True, "anyone")


def test_an_expired_key_is_refused(file: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    past, future = ((now + datetime.timedelta(hours=hours)).isoformat() for hours in (-1, 1))
    write(file, {"name": "old", "key": "old", "expires": past}, {"name": "new", "key": "new", "expires": future})
    assert names(Keys(None, str(file)), "old", "new") == ["403", "new"]


def test_the_file_is_read_again_when_it_changes(file: Path) -> None:
    write(file, {"name": "one", "key": "first"})
    keys = Keys(None, str(file))
    account = keys.find("Bearer first")
    write(file, {"name": "one", "key": "rotated-key", "weight": 5}, {"name": "two", "key": "second"})
    assert names(keys, "first", "rotated-key", "second") == ["401", "one", "two"]
    assert keys.find("Bearer rotated-key") is account
    assert account.weight == 5


def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(file: Path) -> None:
    write(file, {"name": "one", "key": "first"})
    keys = Keys(None, str(file))
    for broken in ("{", '{"keys": []}', '{"keys": [{"name": "x", "key": "s3cret", "wait": 1}]}'):
        file.write_text(broken)
        assert names(keys, "first") == ["one"]
        assert keys.bad
    file.unlink()
    assert names(keys, "first") == ["one"]
    write(file, {"name": "three", "key": "third"})
    assert (names(keys, "third", "first"), keys.bad) == (["three", "401"], False)


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": "a", "key": "same"}, {"name": "b", "key": "same"}],
        [{"name": "a", "key": "one"}, {"name": "a", "key": "two"}],
        [{"name": "a"}],
        [{"name": "a", "key": "x", "sha256": "0" * 64}],
        [{"name": "a", "key": "with space"}],
        [{"name": "a/b", "key": "x"}],
        [{"name": "a", "key": "x", "weight": 0}],
        [{"name": "a", "key": "x", "expires": "2027-01-01T00:00:00"}],
        [{"name": "a", "key": "x", "rollouts_per_minute": 0}],
    ],
)
def test_what_no_file_of_keys_may_say(file: Path, entries: list[dict[str, object]]) -> None:
    write(file, *entries)
    with pytest.raises(KeysUnusable) as refused:
        Keys(None, str(file))
    assert "same" not in str(refused.value).replace("the same", "")


@pytest.mark.parametrize(
    "text", ['{"s3cret": {"name": "a"}}', '{"keys": {"s3cret": "a"}}', '{"keys": [{"name": "a", "s3cret": 1}]}', '"s3cret"', "s3cret"]
)
def test_no_key_is_told_where_a_file_is_written_otherwise(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(KeysUnusable) as refused:
        Keys(None, str(file))
    assert "s3cret" not in str(refused.value)


def test_a_quota_is_spent_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(keys_module.time, "monotonic", lambda: now)
    account = Account("a")
    account.allow(1.0, 60, None)
    assert account.spend(50) == 0
    assert account.spend(30) == 0
    assert account.spend(1) == pytest.approx(21)
    now += 22
    assert account.spend(1) == 0
    account.allow(1.0, None, None)
    assert account.spend(10**9) == 0


# ---- room, shared between keys ---------------------------------------------------------------------------------------


def fill(admission: Admission, account: Account, resource: str, step: float) -> float:
    """Take room until there is none for the account; how much it got."""
    ticket = Ticket(admission, account)
    while True:
        try:
            ticket.hold(resource, step)
        except NoRoom:
            return account.held.get(resource, 0.0)


async def test_a_single_key_gets_all_room() -> None:
    assert fill(Admission(LIMITS), Account("a"), ROLLOUTS, 1) == 1000


async def test_a_flood_stops_short_of_what_others_need() -> None:
    admission, flood, second, trickle = Admission(LIMITS, lambda: 3), Account("flood"), Account("second"), Account("trickle")
    assert fill(admission, flood, ROLLOUTS, 1) == pytest.approx(800, abs=2)
    assert fill(admission, second, ROLLOUTS, 1) == pytest.approx(160, abs=2)
    ticket = Ticket(admission, trickle)
    ticket.hold(ROLLOUTS, 30)
    assert admission.rollouts <= 1000
    ticket.close()
    assert trickle.held[ROLLOUTS] == 0


async def test_a_key_with_more_weight_gets_more_room() -> None:
    admission, light, heavy = Admission(LIMITS, lambda: 2), Account("light"), Account("heavy")
    heavy.weight = 4.0
    assert fill(admission, light, ROLLOUTS, 1) == pytest.approx(800, abs=2)
    light_only = fill(Admission(LIMITS, lambda: 2), heavy, ROLLOUTS, 1)
    assert light_only > 930


async def test_more_work_than_may_wait_is_done_where_nothing_else_is() -> None:
    admission, account = Admission(LIMITS), Account("a")
    one, other = Ticket(admission, account), Ticket(admission, account)
    one.hold(PROGRAM, 50.0)
    with pytest.raises(NoRoom) as shed:
        other.hold(PROGRAM, 5.0)
    assert (shed.value.status, shed.value.cause, shed.value.retry_after_s) == (429, SANDBOX, 45)
    other.hold(ANSWER, 2.0)
    other.hold(LANGUAGE, 3.0)
    one.give_back(PROGRAM, 49.0)
    other.hold(PROGRAM, 5.0)
    one.close()
    other.close()
    assert admission.held == dict.fromkeys(LIMITS, 0.0)


async def test_large_bodies_are_turned_away_at_the_door_and_small_ones_where_nothing_has_room() -> None:
    admission, account = Admission(LIMITS), Account("a")
    ticket = Ticket(admission, account)
    ticket.hold(PROGRAM, 50.0)
    admission.enter(account, 1000).close()
    with pytest.raises(NoRoom):
        admission.enter(account, 10_000_000)
    ticket.hold(ANSWER, 50.0)
    with pytest.raises(NoRoom):
        admission.enter(account, 1000)


async def test_work_is_held_at_the_price_that_is_known_now() -> None:
    """Programs that were let in as cheap and turn out to be dear fill the room; once they are known to be cheap there is room again."""
    prices = {PROGRAM: 0.01, ANSWER: 1.0, LANGUAGE: 1.0}
    admission, account = Admission(LIMITS, price_s=prices.__getitem__), Account("a")
    ticket = Ticket(admission, account)
    ticket.hold(PROGRAM, 40)
    assert admission.held[SANDBOX] == pytest.approx(0.4)
    prices[PROGRAM] = 0.5
    with pytest.raises(NoRoom) as shed:
        ticket.hold(PROGRAM, 2)
    assert (shed.value.cause, shed.value.retry_after_s, admission.held[SANDBOX]) == (SANDBOX, 11, 20)
    prices[PROGRAM] = 0.1
    ticket.hold(PROGRAM, 2)
    ticket.close()
    assert admission.held == dict.fromkeys(LIMITS, 0.0)


# ---- over HTTP -------------------------------------------------------------------------------------------------------


async def test_one_keys_flood_leaves_room_for_anothers_trickle(serving: Serving, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    started: list[str] = []
    monkeypatch.setattr(runs, "grade_groups", slow_pipeline(30, started))
    write(file, {"name": "flood", "key": "f"}, {"name": "trickle", "key": "t"}, {"name": "poor", "key": "p", "rollouts_per_minute": 1})
    async with serving(keys_file=str(file), max_rollouts=100) as (client, service):

        async def post(key: str) -> Any:
            return await client.post("/v1/grade", json=program_body(program_group()), headers={"Authorization": f"Bearer {key}"})

        flood = [asyncio.create_task(post("f")) for _ in range(100)]
        await settle(lambda: len(started) >= 80)
        trickle = [asyncio.create_task(post("t")) for _ in range(5)]
        await settle(lambda: len(started) == 85)
        poor = [await_later := asyncio.create_task(post("p"))]
        await settle(lambda: len(started) == 86)
        refused = await post("p")
        assert (refused.status_code, refused.json()["error"]["message"]) == (429, "the key's rollouts per minute are used up")
        assert int(refused.headers["retry-after"]) >= 1
        text = (await client.get("/metrics")).text
        assert 'reward_key_rollouts{key="flood"} 80.0' in text
        assert 'reward_shed_total{cause="rollouts",key="flood"} 20.0' in text
        assert 'reward_shed_total{cause="quota",key="poor"} 1.0' in text
        service.cut_off()
        answers = await asyncio.gather(*flood, *trickle, *poor)
        assert await_later.done()
        assert sorted({answer.status_code for answer in answers}) == [200, 429]


async def test_no_key_stands_in_a_log_or_a_metric(serving: Serving, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(file, {"name": "run7", "key": "s3cret-key"})
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), wrapper_class=structlog.make_filtering_bound_logger("debug"))
    try:
        with caplog.at_level(logging.DEBUG):
            async with serving(keys_file=str(file)) as (client, _):
                for key in ("s3cret-key", "wr0ng-key"):
                    await client.post("/v1/grade?token=t0ken", json={"groups": []}, headers={"Authorization": f"Bearer {key}"})
                text = (await client.get("/metrics")).text
    finally:
        structlog.reset_defaults()
    logged = text + "".join(record.getMessage() for record in caplog.records if record.name != "httpx")  # the client's log is its own
    assert "run7" in logged
    assert not [word for word in ("s3cret", "wr0ng", "t0ken") if word in logged]
