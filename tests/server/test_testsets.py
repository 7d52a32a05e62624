"""Uploaded test sets over HTTP, and what they may do to one another."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from reward_service.scoring.programs.testcases import draw_tests
from reward_service.server.requests import read_request, read_test_set
from reward_service.server.service import bounds_of
from reward_service.settings import Settings
from sandbox.fake import FakeSandbox
from tests.server.conftest import Serving
from tests.server.doubles import graded, program_body, program_group, settle

BOUNDS = bounds_of(Settings())
JSON = {"Content-Type": "application/json"}


def packed(content: Any) -> tuple[bytes, str]:
    """A test set's bytes and its digest."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return data, hashlib.sha256(data).hexdigest()


def test_set(*outputs: str, **fields: Any) -> dict[str, Any]:
    return {"tests": [{"stdin": text, "stdout": text} for text in outputs or ("5\n",)], **fields}


test_set.__test__ = False  # type: ignore[attr-defined]


def noise(count: int, salt: int = 0) -> str:
    """Text that does not compress."""
    return "".join(hashlib.sha512(b"%d %d" % (salt, n)).hexdigest() for n in range(count // 128 + 1))[:count]


async def put(client: httpx.AsyncClient, content: Any, digest: str | None = None, **headers: str) -> httpx.Response:
    data, own = packed(content)
    body = data
    if headers.get("encoding") == "gzip":
        body = gzip.compress(data)
    elif headers.get("encoding") == "zstd":
        body = zstandard.ZstdCompressor().compress(data)
    encoding = {"Content-Encoding": headers["encoding"]} if "encoding" in headers else {}
    return await client.put(f"/v1/testsets/{digest or own}", content=body, headers={**JSON, **encoding})


def named(digest: str, **fields: Any) -> dict[str, Any]:
    return program_group(reference={"testset": f"sha256:{digest}", **fields})


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
async def test_uploaded_once_and_then_named(serving: Serving, tmp_path: Path, encoding: str) -> None:
    data, digest = packed(test_set("1\n", "2\n"))
    async with serving(testset_folder=str(tmp_path / "sets")) as (client, _):
        assert (await client.head(f"/v1/testsets/{digest}")).status_code == 404
        first = await put(client, data, encoding=encoding)
        again = await put(client, data, encoding=encoding)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json() == {"testset": f"sha256:{digest}"}
        assert (await client.head(f"/v1/testsets/{digest}")).status_code == 200
        assert (await client.head(f"/v1/testsets/sha256:{digest}")).status_code == 200
        assert (await client.get(f"/v1/testsets/{digest}")).content == data
        answer = await graded(client, program_body(named(digest)))
    assert answer["grades"][0]["outcome"] == "correct"
    assert answer["grades"][0]["detail"]["tests_run"] == 2
    assert files_in(tmp_path / "sets") == [f"{digest}.zst"]


async def test_a_restart_finds_everything(serving: Serving, tmp_path: Path) -> None:
    data, digest = packed(test_set())
    async with serving(testset_folder=str(tmp_path)) as (client, _):
        await put(client, data)
    async with serving(testset_folder=str(tmp_path)) as (client, _):
        assert (await graded(client, program_body(named(digest))))["grades"][0]["outcome"] == "correct"


async def test_unknown_test_sets_are_listed_before_anything_is_graded(serving: Serving, tmp_path: Path) -> None:
    sandbox = FakeSandbox()
    data, digest = packed(test_set())
    others = [hashlib.sha256(bytes([n])).hexdigest() for n in range(30)]
    groups = [{**named(name), "group_id": str(n)} for n, name in enumerate([digest, *others, others[0]])]
    async with serving(sandbox, testset_folder=str(tmp_path)) as (client, _):
        await put(client, data)
        for headers in ({}, {"Accept": "application/x-ndjson"}):
            refused = await client.post("/v1/grade", json=program_body(*groups), headers=headers)
            assert refused.status_code == 424
            assert refused.json()["missing"] == [f"sha256:{name}" for name in others]
            assert refused.json()["error"]["pointer"] == "/groups/1/reference/testset"
            assert len(refused.json()["errors"]) == 20
    assert not [job for job in sandbox.jobs if "print(input())" in job.source]


async def test_many_are_probed_at_once(serving: Serving, tmp_path: Path) -> None:
    data, digest = packed(test_set())
    others = [hashlib.sha256(b"%d" % n).hexdigest() for n in range(3000)]
    asked = [f"sha256:{name}" for name in [*others, digest, others[7]]]
    async with serving(testset_folder=str(tmp_path)) as (client, _):
        await put(client, data)
        answer = await client.post("/v1/testsets:missing", json={"testsets": asked})
        assert answer.json() == {"missing": [f"sha256:{name}" for name in others]}
        for wrong, pointer in (({}, ""), ({"testsets": ["x"]}, "/testsets/0"), ({"testsets": [digest]}, "/testsets/0"), ([], "")):
            refused = await client.post("/v1/testsets:missing", json=wrong)
            assert (refused.status_code, refused.json()["error"]["pointer"]) == (422, pointer)
        assert (await client.post("/v1/testsets:missing", content=b"[" * (1 << 20) + b"]", headers=JSON)).status_code == 413


@pytest.mark.parametrize(
    ("content", "status", "pointer"),
    [
        ({"tests": []}, 422, "/tests"),
        ({}, 422, ""),
        ({"tests": [{"stdin": ""}]}, 422, "/tests/0/stdout"),
        (test_set(colour=1), 422, "/colour"),
        (test_set(limits={}), 422, "/limits"),
        (test_set(draw=None), 422, "/draw"),
        (test_set(checker="nope"), 422, "/checker"),
        ([], 400, ""),
        (b'{"tests": [{"stdin": "", "stdout": ""}', 400, ""),
        (b"", 400, ""),
        (b"\xff", 400, ""),
    ],
)
async def test_what_is_no_test_set_is_refused_and_not_kept(
    serving: Serving, tmp_path: Path, content: Any, status: int, pointer: str
) -> None:
    async with serving(testset_folder=str(tmp_path)) as (client, _):
        refused = await put(client, content)
        assert (refused.status_code, refused.json()["error"]["pointer"]) == (status, pointer)
    assert not files_in(tmp_path)


async def test_another_digest_is_refused_and_harms_nothing(serving: Serving, tmp_path: Path) -> None:
    data, digest = packed(test_set("right"))
    async with serving(testset_folder=str(tmp_path)) as (client, _):
        for kept in (False, True):
            refused = await put(client, test_set("wrong"), digest)
            assert refused.status_code == 422
            assert "digest" in refused.json()["error"]["message"]
            assert (await client.head(f"/v1/testsets/{digest}")).status_code == (200 if kept else 404)
            await put(client, data)
        assert (await client.get(f"/v1/testsets/{digest}")).content == data
        for name in ("x", digest.upper(), digest[:-1], f"md5:{digest}"):
            assert (await put(client, data, name)).status_code == 422


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_damaged_and_exploding_bodies_are_refused(serving: Serving, tmp_path: Path, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zstandard.ZstdCompressor().compress
    digest = "0" * 64
    headers = {**JSON, "Content-Encoding": encoding}
    whole = pack(json.dumps(test_set("x" * 1000)).encode())
    async with serving(testset_folder=str(tmp_path), max_body_bytes=1 << 20) as (client, _):
        for body, status in ((whole[:-1], 400), (b"\0" + whole[1:], 400), (whole + b"x", 400), (pack(b" " * (1 << 21)), 413)):
            assert (await client.put(f"/v1/testsets/{digest}", content=body, headers=headers)).status_code == status
        assert (await client.put(f"/v1/testsets/{digest}", content=b" " * (1 << 21), headers=JSON)).status_code == 413
        assert (await client.put(f"/v1/testsets/{digest}", content=b"", headers={"Content-Type": "text/plain"})).status_code == 415
    assert not files_in(tmp_path)


async def test_the_least_recently_used_leave_and_what_cannot_fit_is_refused(serving: Serving, tmp_path: Path) -> None:
    sets = [test_set(noise(60_000, n) + ".") for n in range(6)]
    digests = [packed(content)[1] for content in sets]
    async with serving(testset_folder=str(tmp_path), testset_disk_bytes=120_000) as (client, service):
        for content in sets[:3]:
            assert (await put(client, content)).status_code == 201
            await asyncio.sleep(0.01)
        assert (await client.head(f"/v1/testsets/{digests[0]}")).status_code == 200  # used: now the youngest
        await asyncio.sleep(0.01)
        assert (await put(client, sets[3])).status_code == 201
        here = [n for n in range(4) if (await client.head(f"/v1/testsets/{digests[n]}")).status_code == 200]
        assert 3 in here
        assert 0 in here
        assert 1 not in here
        assert service.test_sets.files.used_bytes <= 120_000
        refused = await put(client, test_set(noise(400_000)))
        assert refused.status_code == 507
        assert not [name for name in files_in(tmp_path) if not name.endswith(".zst")]


async def test_a_test_set_in_use_outlives_its_eviction(serving: Serving, tmp_path: Path) -> None:
    data, digest = packed(test_set("a" * 100))
    async with serving(testset_folder=str(tmp_path)) as (client, service):
        await put(client, data)
        async with service.test_sets.lease(read_request(json.dumps(program_body(named(digest))).encode(), BOUNDS).groups) as groups:
            service.test_sets.files.remove(digest)
            assert groups[0].reference.tests[0].stdin == "a" * 100  # type: ignore[union-attr]
            assert (await graded(client, program_body(named(digest))))["grades"][0]["outcome"] == "correct"  # parsed already
        assert (await client.head(f"/v1/testsets/{digest}")).status_code == 404
        assert (await put(client, data)).status_code == 201


async def test_a_damaged_file_is_forgotten_and_asked_for_again(serving: Serving, tmp_path: Path) -> None:
    data, digest = packed(test_set())
    other = zstandard.ZstdCompressor().compress(json.dumps(test_set("wrong")).encode())
    async with serving(testset_folder=str(tmp_path)) as (client, _):
        for damage in (other, other[:20], b""):
            await put(client, data)
            (tmp_path / f"{digest}.zst").write_bytes(damage)
            assert (await client.post("/v1/grade", json=program_body(named(digest)))).status_code == 424
            assert not files_in(tmp_path)


async def test_concurrent_uploads_of_one_test_set_are_one(serving: Serving, tmp_path: Path) -> None:
    data, digest = packed(test_set(noise(300_000)))

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 50_000):
            await asyncio.sleep(0.01)
            yield data[start : start + 50_000]

    async with serving(testset_folder=str(tmp_path)) as (client, service):
        uploads = [client.put(f"/v1/testsets/{digest}", content=slowly(), headers=JSON) for _ in range(12)]
        statuses = [answer.status_code for answer in await asyncio.gather(*uploads)]
        assert set(statuses) <= {200, 201}
        assert files_in(tmp_path) == [f"{digest}.zst"]
        assert service.test_sets.files.used_bytes == (tmp_path / f"{digest}.zst").stat().st_size
        assert (await graded(client, program_body(named(digest))))["grades"][0]["outcome"] == "correct"


async def test_a_client_that_goes_away_leaves_nothing(serving: Serving, tmp_path: Path) -> None:
    data, digest = packed(test_set(noise(600_000)))
    async with serving(testset_folder=str(tmp_path)) as (client, service):
        app = client._transport.app  # type: ignore[attr-defined]
        messages = iter([{"type": "http.request", "body": data[:500_000], "more_body": True}, {"type": "http.disconnect"}])

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            raise AssertionError(message)

        path = f"/v1/testsets/{digest}"
        scope = {
            "type": "http", "method": "PUT", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [],
            "http_version": "1.1", "scheme": "http", "server": ("x", 1), "client": ("y", 2), "asgi": {"version": "3.0"},
        }  # fmt: skip
        await asyncio.wait_for(app(scope, receive, send), 10)
        assert not files_in(tmp_path)
        assert service.test_sets.files.used_bytes == 0


async def test_memory_for_parsed_test_sets_is_bounded(serving: Serving, tmp_path: Path) -> None:
    digests = []
    async with serving(testset_folder=str(tmp_path), testset_memory_bytes=150_000) as (client, service):
        for n in range(5):
            digests.append(packed(test_set("x" * 20_000 + str(n)))[1])
            await put(client, test_set("x" * 20_000 + str(n)))
        for digest in digests * 2:
            assert (await graded(client, program_body(named(digest))))["grades"][0]["outcome"] == "correct"
            assert service.test_sets.memory_bytes <= 150_000
        groups = [{**named(digest), "group_id": digest} for digest in digests]
        assert (await client.post("/v1/grade", json=program_body(*groups))).status_code == 413
        held = read_request(json.dumps(program_body(*groups[:3])).encode(), BOUNDS).groups
        async with service.test_sets.lease(held):
            refused = await client.post("/v1/grade", json=program_body(groups[4]))
            assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
        assert (await client.post("/v1/grade", json=program_body(groups[4]))).status_code == 200


async def test_one_load_serves_all_who_wait_and_outlives_the_first(serving: Serving, tmp_path: Path) -> None:
    data, digest = packed(test_set(noise(100_000)))
    async with serving(testset_folder=str(tmp_path)) as (client, service):
        await put(client, data)
        groups = read_request(json.dumps(program_body(named(digest))).encode(), BOUNDS).groups
        loads = 0
        read = service.test_sets._reader.read_test_set

        async def counted(*arguments: Any) -> Any:
            nonlocal loads
            loads += 1
            return await read(*arguments)

        service.test_sets._reader = type("Reader", (), {"read_test_set": staticmethod(counted)})()  # type: ignore[assignment]

        async def use() -> int:
            async with service.test_sets.lease(groups) as found:
                return len(found[0].reference.tests)  # type: ignore[union-attr]

        tasks = [asyncio.create_task(use()) for _ in range(10)]
        await settle(lambda: loads)
        tasks[0].cancel()
        assert await asyncio.gather(*tasks[1:]) == [1] * 9
        assert loads == 1


async def test_a_folder_that_cannot_be_written_refuses_uploads_and_nothing_else(serving: Serving, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    async with serving(testset_folder=str(blocked / "sets")) as (client, _):
        assert (await put(client, test_set())).status_code == 507
        assert (await client.head(f"/v1/testsets/{'0' * 64}")).status_code == 404
        assert (await graded(client, program_body(program_group())))["grades"][0]["outcome"] == "correct"


async def test_test_sets_need_the_key(serving: Serving, tmp_path: Path) -> None:
    path = f"/v1/testsets/{'0' * 64}"
    async with serving(key="k", testset_folder=str(tmp_path)) as (client, _):
        for method, address in (("PUT", path), ("GET", path), ("HEAD", path), ("POST", "/v1/testsets:missing")):
            assert (await client.request(method, address)).status_code == 401
        assert (await client.get(path, headers={"Authorization": "Bearer k"})).status_code == 404


TEXTS = st.text(st.sampled_from("a\n é中\udcff\U0001f600"), max_size=5)


def spelled(content: Any, form: str) -> Iterator[bytes]:
    if form == "canonical":
        yield json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    elif form == "reversed":
        yield json.dumps(dict(reversed(content.items()))).encode()
    else:
        yield json.dumps(content, indent=1).encode()


PROGRAM = {"program": {"language": "cpp", "protocol": "kattis", "main": "b.cc", "files": {"b.cc": "x", "a.h": "y"}}}
CONTENTS = [
    {"function": "solve", "tests": [{"args": [[1, 2.0, "\u00e9", None]], "expected": {"b": 1, "a": [True]}}] * 30},
    {"function": "S.f", "prelude": "import math", "tests": [{"args": [n], "expected": n} for n in range(30)], "checker": {"float": {}}},
    {"asserts": "check(f)", "prelude": "def check(f):\n    assert f(1)", "entry_point": "f"},
    {"tests": [{"stdin": str(n), "stdout": str(n)} for n in range(30)], "checker": PROGRAM},
]


@pytest.mark.parametrize("form", ["canonical", "reversed", "spread"])
@pytest.mark.parametrize("content", CONTENTS)
async def test_every_kind_of_test_is_the_same_uploaded(serving: Serving, tmp_path: Path, content: dict[str, Any], form: str) -> None:
    data, digest = packed(b"".join(spelled(content, form)))
    stated = read_request(json.dumps(program_body(program_group(reference={**content, "draw": 3}))).encode(), BOUNDS).groups
    uploaded = read_request(json.dumps(program_body(named(digest, draw=3))).encode(), BOUNDS).groups
    async with serving(testset_folder=str(tmp_path)) as (client, service):
        assert (await put(client, data)).status_code == 201
        async with service.test_sets.lease(uploaded) as found:
            assert found[0].reference.digest == stated[0].reference.digest  # type: ignore[union-attr]
            assert form == "canonical" or found[0].reference == stated[0].reference  # whose objects have their keys in another order


@given(
    tests=st.lists(st.fixed_dictionaries({"stdin": TEXTS, "stdout": TEXTS}), min_size=1, max_size=40),
    checker=st.sampled_from([None, "tokens", "lines", "exact", {"float": {"rel": 0.5}}, {"float": {}}]),
    form=st.sampled_from(["canonical", "reversed", "spread"]),
    group_id=st.text(max_size=5),
    seed=st.integers(0, 9),
)
def test_inline_and_uploaded_tests_draw_the_same(tests: Any, checker: Any, form: str, group_id: str, seed: int) -> None:
    content = {"tests": tests} if checker is None else {"tests": tests, "checker": checker}
    inline = read_request(json.dumps(program_body(program_group(reference=content))).encode(), BOUNDS).groups[0].reference
    uploaded = read_test_set(b"".join(spelled(content, form)), BOUNDS)
    assert uploaded.digest == inline.digest  # type: ignore[union-attr]
    draws = {draw_tests(len(tests), 5, group_id, digest, seed) for digest in (uploaded.digest, inline.digest)}  # type: ignore[union-attr]
    assert len(draws) == 1
