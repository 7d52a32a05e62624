from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_service.records import Json, LanguageFinding
from reward_service.scoring.function_words import FUNCTION_WORDS
from reward_service.scoring.language import Detection
from reward_service.scoring.language_passages import Kind, Known, Part, find_passages, words_of
from reward_service.scoring.language_refined import (
    CONSISTENT,
    LANGUAGES,
    ONE_LANGUAGE,
    SPANS,
    Candidates,
    LanguageReason,
    one_language,
    read_prompt,
    refined_rule,
)
from reward_service.scoring.scripts import RANGES, script_of, scripts_of, weight_of

ENGLISH = "The train needs three hours for the whole way and in each of these hours it travels the same distance. "
GERMAN = "Der Zug braucht für den ganzen Weg drei Stunden und in jeder dieser Stunden fährt er die gleiche Strecke. "
CHINESE = "火车走完全程需要三个小时，而且每个小时走的路程都一样。"
UNKNOWN = Known("", frozenset())


def by_words(text: str) -> list[Detection]:
    """A classifier that counts function words, and is sure of Han characters."""
    if any(script_of(character) == "han" for character in text[:40]):
        return [Detection("zh", 0.99)]
    words = frozenset(text.lower().split())
    counts = {language: len(words & own) for language, own in FUNCTION_WORDS.items()}
    total = sum(counts[language] ** 4 for language in counts)
    return [Detection(language, count**4 / total) for language, count in counts.items() if count]


def judge(prompt: str, thinking: str, answer: str, wanted: str | None = None) -> LanguageFinding:
    return refined_rule(read_prompt(prompt, by_words), thinking, answer, wanted, by_words)


def reason(prompt: str, thinking: str, answer: str, wanted: str | None = None) -> str:
    finding = judge(prompt, thinking, answer, wanted)
    assert finding.consistent is (LanguageReason(str(finding.detail["reason"])) in CONSISTENT)
    return str(finding.detail["reason"])


def part(text: str) -> Part:
    return Part(text, weight_of("".join(words_of(text))))


def guess(text: str) -> dict[str, float]:
    return {detection.language: detection.probability for detection in by_words(text)}


# ---- the decision


def test_one_language_throughout() -> None:
    assert reason(GERMAN * 2, GERMAN * 3, GERMAN) == "same_language"


def test_each_part_counts() -> None:
    assert reason(ENGLISH, GERMAN * 3, ENGLISH) == "other_language"
    assert reason(ENGLISH, ENGLISH * 3, GERMAN * 2) == "other_language"
    assert judge(ENGLISH, ENGLISH * 3, GERMAN * 2).detail["part"] == "answer"


def test_the_wanted_language_stands_in_for_the_prompts() -> None:
    assert reason(ENGLISH, GERMAN * 3, GERMAN, "de-AT") == "same_language"
    assert reason(GERMAN, GERMAN * 3, GERMAN, "en") == "other_language"
    assert judge(ENGLISH, GERMAN, GERMAN, "de").detail["reference"] == {"language": "de", "from": "wanted"}


@pytest.mark.parametrize("thinking", ["", " \n", "12 + 3 = 15", "$x$", "```\n" + ENGLISH + "\n```", "so " * 500, "哈" * 500, "... !"])
def test_thinking_without_prose_is_not_consistent(thinking: str) -> None:
    assert reason(ENGLISH, thinking, ENGLISH) == "nothing_to_classify"
    assert reason("12", thinking, "12") == "nothing_to_classify"


def test_nothing_to_go_by_is_consistent() -> None:
    assert reason("12", "Quadratwurzel berechnen", "12") == "undecided"


@pytest.mark.parametrize(("shares", "expected"), [(1, "same_language"), (2, "foreign_passages")])
def test_one_passage_may_take_five_per_cent(shares: int, expected: str) -> None:
    """A German stretch is as long as an English one: one in thirty is 3 %, two in a row in thirty are 6 %."""
    assert reason(ENGLISH, ENGLISH * 15 + GERMAN * shares + ENGLISH * 15, ENGLISH) == expected


def test_three_passages_may_take_half_as_much() -> None:
    spread = (ENGLISH * 28 + "而且每个小时走的路程都一样。") * 3
    assert reason(ENGLISH, spread, ENGLISH) == "same_language"
    assert reason(ENGLISH, (ENGLISH * 14 + "而且每个小时走的路程都一样。") * 3, ENGLISH) == "foreign_passages"


def test_a_short_part_needs_a_witness_too() -> None:
    assert reason(GERMAN, GERMAN * 3, "Answer: 5") == "other_language"
    assert reason(GERMAN + "Write 'Answer:' first.", GERMAN * 3, "Answer: 5") == "same_language"
    assert reason(GERMAN, GERMAN * 3, "Smith") == "same_language"
    assert reason(GERMAN, GERMAN * 3, "所以 5") == "other_language"
    assert reason(GERMAN, GERMAN * 3, "so 5") == "same_language"


@pytest.mark.parametrize(
    ("answer", "first", "second", "expected"),
    [
        ("Es sind zweihundertvierzig Kilometer", {"de": 0.6}, {"de": 0.6}, "other_language"),
        ("Es sind zweihundertvierzig Kilometer", {"de": 0.6}, {"en": 0.6}, "same_language"),
        ("Es sind zweihundertvierzig Kilometer", {"de": 0.6}, {"de": 0.4}, "same_language"),
        ("Es sind zweihundertvierzig Kilometer", {"de": 0.4}, {"de": 0.9}, "same_language"),
        ("Es sind zweihundertvierzig Kilometer", {"de": 0.95}, {"de": 0.4}, "other_language"),
        ("Es sind zweihundertvierzig Kilometer", {"de": 0.95}, {"en": 0.6}, "same_language"),
        ("Kaiserslautern Zweibruecken", {"de": 0.95}, {"de": 0.95}, "same_language"),
        ("Mit Tempo", {"de": 0.95}, {"de": 0.95}, "same_language"),
        ("Mit Tempo achtzig", {"de": 0.95}, {"de": 0.95}, "other_language"),
    ],
)
def test_two_classifiers_on_few_words(answer: str, first: dict[str, float], second: dict[str, float], expected: str) -> None:
    """Both must name the other language, or the first be sure of it and the second not see the reference; and a word must be of it."""

    def saying(found: dict[str, float]) -> Candidates:
        return lambda text: by_words(text) if len(text) > 60 else [Detection(*each) for each in found.items()]

    prompt = read_prompt(ENGLISH, by_words)
    finding = refined_rule(prompt, ENGLISH * 2, answer, None, saying(first), saying(second))
    assert finding.detail["reason"] == expected


def test_a_prompt_in_two_scripts_offers_both_languages() -> None:
    prompt = CHINESE * 2 + ENGLISH
    assert read_prompt(prompt, by_words).sure is None
    assert reason(prompt, CHINESE * 3, CHINESE) == "same_language"
    assert reason(prompt, ENGLISH * 3, ENGLISH) == "same_language"
    assert reason(prompt, CHINESE * 3, ENGLISH) == "other_language"


def test_only_the_beginning_of_a_prompt_is_read() -> None:
    assert len(read_prompt(ENGLISH * 2000, by_words).known.text) <= 20_001


# ---- the detail


def longest(value: Json) -> int:
    if isinstance(value, list | tuple):
        return max([len(value), *map(longest, value)])
    if isinstance(value, dict):
        return max(map(longest, value.values()), default=0)
    return 0


def test_detail_shows_what_was_seen() -> None:
    thinking = ENGLISH + "`code` " + CHINESE + " " + ENGLISH
    detail = judge(ENGLISH, thinking, ENGLISH).detail
    assert (detail["rule"], detail["reason"], detail["part"]) == ("refined", "foreign_passages", "thinking")
    assert detail["reference"] == {"language": "en", "from": "prompt"}
    shown = detail["thinking"]
    assert isinstance(shown, dict)
    assert shown["language"] == "en"
    assert shown["foreign_share"] == pytest.approx(3 * 24 / (2 * 85 + 3 * 24), abs=0.02)
    (span,) = shown["spans"]
    assert thinking[span["start"] : span["end"]] == CHINESE[:-1]
    assert (span["kind"], span["script"], span["language"]) == ("script", "han", None)


def test_a_stretch_is_shown_with_its_language() -> None:
    detail = judge(ENGLISH, ENGLISH * 2 + GERMAN * 2, ENGLISH).detail["thinking"]
    assert isinstance(detail, dict)
    assert {(span["kind"], span["language"]) for span in detail["spans"]} == {("stretch", "de")}


def test_detail_is_bounded() -> None:
    detail = judge(ENGLISH, (ENGLISH + CHINESE) * 300, ENGLISH + CHINESE * 400).detail
    assert len(json.dumps(detail)) < 4000
    assert longest(detail) == SPANS


@given(
    st.lists(st.sampled_from([ENGLISH, GERMAN, CHINESE, "$x$", "`a`", "\n", "Иван ", "αβ ", "12 ", "\u200b", "é"]), max_size=9).map("".join)
)
def test_any_completion_has_a_reason(text: str) -> None:
    finding = judge(ENGLISH, text, text)
    assert LanguageReason(str(finding.detail["reason"]))
    assert json.dumps(finding.detail)
    for name in ("thinking", "answer"):
        shown = finding.detail[name]
        assert isinstance(shown, dict)
        assert 0 <= shown["foreign_share"] <= 1
        assert all(0 <= span["start"] < span["end"] <= len(text) for span in shown["spans"])


@given(st.text(st.characters(exclude_categories=()), max_size=200), st.sampled_from(["en", "ru", "zh", "ja", "ar", "sw", None]))
def test_no_text_raises(text: str, wanted: str | None) -> None:
    assert judge(text, text, text, wanted).detail["rule"] == "refined"


# ---- passages


def kinds(text: str, reference: str, known: Known = UNKNOWN) -> list[Kind]:
    return [passage.kind for passage in find_passages(part(text), reference, known, guess)]


def test_names_and_quotations_are_few() -> None:
    assert kinds(ENGLISH + "Иван Чебышёв and 陈大文 think so.", "en") == []
    assert kinds(ENGLISH + "чебышёв thinks so.", "en") == [Kind.SCRIPT]
    assert kinds(ENGLISH + 'They say "поживём увидим" here.', "en") == []
    assert kinds(ENGLISH + 'They say "' + "поживём увидим " * 5 + '" here.', "en") == [Kind.SCRIPT]
    assert kinds(ENGLISH + " ".join(f"{name} and" for name in ("Иван", "Инна", "Анна", "Вера", "Глеб", "Олег")), "en") == [Kind.SCRIPT] * 2


def test_what_the_prompt_says_may_be_repeated() -> None:
    assert kinds(ENGLISH + "чебышёв is right", "en", Known("чебышёв", frozenset({"чебышёв"}))) == []


def test_latin_words_in_other_scripts() -> None:
    assert kinds(CHINESE + "hash table tree", "zh") == []
    assert kinds(CHINESE + "we look at the tree", "zh") == [Kind.SCRIPT]
    assert kinds(CHINESE + "Google Apple Microsoft Amazon Meta", "zh") == []
    assert kinds(CHINESE + "fooBar x_1 a2 b c d e the", "zh") == []
    assert kinds(CHINESE + "git commit push pull", "zh") == []
    assert kinds(CHINESE + "git commit push pull fetch merge rebase stash", "zh") == [Kind.SCRIPT]


def test_runs_beyond_the_examined_ones_count_together() -> None:
    passages = list(find_passages(part("да no " * 5000), "en", UNKNOWN, guess))
    assert len([passage for passage in passages if passage.kind is Kind.SCRIPT]) == 501
    assert sum(passage.weight for passage in passages if passage.kind is Kind.SCRIPT) == 10_000


def test_plain_text_is_never_classified() -> None:
    def refuse(text: str) -> dict[str, float]:
        raise AssertionError("plainly English")

    assert list(find_passages(part(ENGLISH * 50), "en", UNKNOWN, refuse)) == []
    assert list(find_passages(part(CHINESE * 50), "zh", UNKNOWN, refuse)) == []


def test_both_witnesses_are_needed() -> None:
    assert kinds(GERMAN, "en") == [Kind.STRETCH]
    english = list(find_passages(part(GERMAN), "en", UNKNOWN, lambda _: {"en": 0.5, "de": 0.5}))
    assert [passage.kind for passage in english] == [Kind.WORDS]
    assert list(find_passages(part("lorem ipsum dolor amet " * 5), "en", UNKNOWN, lambda _: {"de": 1.0})) == []


# ---- tables


def test_there_are_36_languages() -> None:
    merged = {"no"}  # counted with Danish
    assert len(LANGUAGES | merged) == 36
    assert frozenset(ONE_LANGUAGE.values()) <= LANGUAGES
    assert not LANGUAGES & frozenset(ONE_LANGUAGE)


@pytest.mark.parametrize(
    ("code", "language"), [("nb-NO", "da"), ("hr", "sr"), ("zh_Hant_TW", "zh"), ("yue", "zh"), ("fr", "fr"), ("sw", "sw")]
)
def test_one_language(code: str, language: str) -> None:
    assert one_language(code) == language


def test_languages_that_share_a_script_have_function_words() -> None:
    for one, other in itertools.combinations(sorted(LANGUAGES - {"zh", "ja"}), 2):
        if set(scripts_of(one)) & set(scripts_of(other)):
            assert one in FUNCTION_WORDS, one
            assert other in FUNCTION_WORDS, other
            assert len(FUNCTION_WORDS[one] - FUNCTION_WORDS[other]) >= 20, (one, other)


def test_function_words_are_words_in_lower_case_of_the_languages_script() -> None:
    for language, words in FUNCTION_WORDS.items():
        assert len(words) >= 40, language
        for word in words:
            assert word == word.lower()
            assert {script_of(letter) for letter in word if letter.isalpha()} <= set(scripts_of(language)), (language, word)


def test_scripts_do_not_overlap() -> None:
    letters = [set(re.findall(f"[{ranges}]", "".join(map(chr, range(0x20, 0xD800))))) for ranges in RANGES.values()]
    assert sum(map(len, letters)) == len(set().union(*letters)) > 40_000


def test_script_of() -> None:
    assert [script_of(letter) for letter in "aßжλ字かハ한हعא1,"] == [
        *("latin", "latin", "cyrillic", "greek", "han", "kana", "kana", "hangul", "devanagari", "arabic", "hebrew", None, None)
    ]


def test_dense_scripts_weigh_more() -> None:
    assert weight_of("abcé") == 4
    assert weight_of("漢字かな한글ab") == 3 + 3 + 2 + 2 + 2 + 2 + 2
