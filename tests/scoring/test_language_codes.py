from __future__ import annotations

import pytest

from reward_service.langid import LABEL_PREFIX, MODEL_PATH
from reward_service.scoring.language_codes import LABEL_OF, LABELS, model_label


def test_the_labels_are_the_models() -> None:
    with open(MODEL_PATH, "rb") as file:
        content = file.read()
    words = content.split(LABEL_PREFIX.encode())[1:]
    assert {word.partition(b"\0")[0].decode() for word in words} == LABELS
    assert len(LABELS) == 176


def test_other_names_lead_to_labels_and_hide_none() -> None:
    assert set(LABEL_OF.values()) <= LABELS
    assert not LABEL_OF.keys() & LABELS


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("fr", "fr"), ("FR", "fr"), ("fra", "fr"), ("fre", "fr"), ("fr-CA", "fr"), ("fra_CA", "fr"), ("eng", "en"), ("deu", "de"),
        ("ger", "de"), ("zho", "zh"), ("chi", "zh"), ("cmn", "zh"), ("zh-Hant", "zh"), ("yue", "zh"), ("jpn", "ja"), ("nob", "no"),
        ("nb-NO", "no"), ("iw", "he"), ("fil", "tl"), ("ceb", "ceb"), ("swh", "sw"), ("xx", None), ("und", None), ("qaa", None),
        ("zu", None), ("english", None), ("", None),
    ],
)  # fmt: skip
def test_codes(code: str, label: str | None) -> None:
    assert model_label(code) == label
