"""The documents say what is so: links lead somewhere, commands exist, the README's call gives the answer that it shows."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reward_service.cli import app as command
from reward_service.server.app import create_app
from reward_service.settings import Settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(path for folder in ("docs", "examples", "bench", "sandbox") for path in (ROOT / folder).rglob("*.md"))]
)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        for link in LINK.finditer(prose(document)):
            if not link["target"].startswith(("http://", "https://")):
                yield document, link["target"]


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("document", "target"), [pytest.param(*link, id=f"{link[0].name}:{link[1]}") for link in links()])
def test_links_lead_somewhere(document: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    found = (document.parent / path).resolve() if path else document
    assert found.is_relative_to(ROOT)
    assert found.exists()
    assert not anchor or anchor in anchors(found)


def test_there_are_documents_with_links() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {document.name for document in DOCUMENTS}
    assert len(list(links())) > 10


def test_every_decision_is_listed() -> None:
    listed = {target for document, target in links() if document == ROOT / "docs/decisions/README.md"}
    assert listed == {path.name for path in (ROOT / "docs/decisions").glob("[0-9]*.md")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = {entry.name or entry.callback.__name__ for entry in command.registered_commands if entry.callback}
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"(?:`|^    |^)reward-service ([a-z]+)", text, re.MULTILINE)) <= commands


def test_make_says_what_each_target_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("setup", "demo", "test", "check", "bench", "soak", "serve", "clean", "help"):
        assert re.search(rf"^{target}:.* ## \w", makefile, re.MULTILINE), target


def example() -> tuple[dict[str, Any], dict[str, Any]]:
    """The README's call, as a shell would pass it to curl, and the answer that it shows."""
    blocks = {match["language"]: match["body"] for match in FENCE.finditer((ROOT / "README.md").read_text(encoding="utf-8"))}
    words = shlex.split(blocks["sh"])
    assert words[:2] == ["curl", "-s"]
    call = {"url": words[2], "header": words[words.index("-H") + 1], "body": words[words.index("-d") + 1]}
    return call, json.loads(blocks["json"])


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without times and versions, which must be there all the same."""
    assert re.fullmatch(r"[0-9a-f]{64}", answer["scheme"]["digest"])
    assert answer["service"]["took_s"] > 0
    assert answer["service"]["versions"]["service"]
    return {**answer, "scheme": answer["scheme"]["name"], "service": sorted(answer["service"])}


async def test_the_readmes_call_gives_the_answer_it_shows() -> None:
    call, shown = example()
    app = create_app(Settings(languages=("python",)))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as http:
        name, _, value = call["header"].partition(": ")
        answer = await http.post(call["url"], content=call["body"], headers={name: value}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert comparable(answer.json()) == comparable(shown)
