"""The refined language-consistency rule: does the completion keep to the prompt's language, inside its parts too? (docs/language.md)

The published rule compares whole parts; this one is for the complaint behind it, outputs that mix languages (arXiv 2506.10910v1, 2.2.4):

1. A part is its prose: no code, no formulas, no addresses (prose.py).
2. Thinking without prose earns nothing: it would be the cheapest way to be consistent.
3. The reference language is the wanted one, else the prompt's, else that of a part to which the prompt is open.
4. A part that is in another language as a whole fails, and so does one whose foreign passages (language_passages.py) are more than a
   slip: more than 5 % of its letters and at least 16, or three passages and more than 2.5 %.
5. Whatever cannot be decided is consistent.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from reward_service.records import Json, LanguageFinding
from reward_service.scoring.function_words import FUNCTION_WORDS
from reward_service.scoring.language import Detection, base_language
from reward_service.scoring.language_hidden import hidden_language, without_comments
from reward_service.scoring.language_passages import SHORT_PART, Guess, Kind, Known, Part, Passage, find_passages
from reward_service.scoring.language_words import words_of
from reward_service.scoring.prose import Prose, find_prose
from reward_service.scoring.scripts import letters_in, script_of, scripts_of, weight_of

Candidates = Callable[[str], Sequence[Detection]]  # the likeliest languages of a text, by the model's labels

LANGUAGES = frozenset(FUNCTION_WORDS) | {"el", "he", "hi", "bn", "ta", "te", "th", "ja", "ko", "zh"}
# Labels for what is one written language to this rule, beside the varieties of Chinese.
ONE_LANGUAGE: Mapping[str, str] = {"hr": "sr", "bs": "sr", "sh": "sr", "no": "da", "nb": "da", "nn": "da", "ms": "id"}

SURE = 0.85
LIKELY = 0.10  # a language that the prompt gives less is not the prompt's
MANY_LETTERS = 120  # of these any language is told from any other, also from one that is not in LANGUAGES
PROMPT_WORDS = 2  # function words that make sure of the classifier's best guess at a prompt
NO_PROSE = 6  # distinct letters of distinct words; a thinking with fewer has nothing to classify
OWN_WORDS = 2  # function words of the reference that so many letters have, whatever they say
SECOND_SCRIPT = 0.2  # of a prompt's letters: it is in two languages
FOREIGN_SHARE = 0.05
FOREIGN_LETTERS = 16
PASSAGES = 3
PASSAGES_SHARE = 0.025
SHORT_SHARE = 0.5  # of a part that is too short to be classified
SHORT_LETTERS = 5
LEAST_OPINION, MOST_OPINION = 12, 60  # letters of a part that a second classifier is asked about, if there is one
OPINION = 0.5  # of either classifier, where both are asked

PROMPT_CHARACTERS = 20_000  # of a prompt that are read
SLICE = 400  # characters; three of them stand for a part as a whole
SPANS = 8  # of a part that the detail shows


class LanguageReason(enum.StrEnum):
    """Why a completion is consistent or not, under the refined rule; the first that holds."""

    NOTHING_TO_CLASSIFY = "nothing_to_classify"  # no prose in the thinking: not consistent
    UNDECIDED = "undecided"  # no reference language: consistent
    OTHER_LANGUAGE = "other_language"  # a part as a whole is in another language: not consistent
    HIDDEN_LANGUAGE = "hidden_language"  # code or formulas of the thinking are prose in another language: not consistent
    FOREIGN_PASSAGES = "foreign_passages"  # a part switches languages: not consistent
    SAME_LANGUAGE = "same_language"  # consistent


CONSISTENT = frozenset({LanguageReason.UNDECIDED, LanguageReason.SAME_LANGUAGE})


@dataclass(frozen=True, slots=True)
class PromptReading:
    """What is known of a prompt: the same for every rollout of a group. `sure` is its language, `open_to` those it may be in."""

    known: Known
    letters: int
    sure: str | None
    open_to: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Reading:
    """A part of the completion, read and, against a reference, judged."""

    prose: Prose
    part: Part
    guesses: Mapping[str, float]
    passages: tuple[Passage, ...] = ()
    hidden: str | None = None  # the language of what is not read, where it is plainly another one

    @property
    def best(self) -> str | None:
        """The likeliest language of the part as a whole."""
        return max(self.guesses, key=self.guesses.__getitem__, default=None)

    @property
    def foreign_letters(self) -> int:
        return min(self.part.letters, sum(passage.weight for passage in self.passages))

    @property
    def foreign_share(self) -> float:
        return self.foreign_letters / self.part.letters if self.part.letters else 0.0


@functools.lru_cache(maxsize=512)
def one_language(code: str) -> str:
    """A language code as this rule compares it: without region, near-identical written languages as one; "nb-NO" -> "da"."""
    base = base_language(code)
    return ONE_LANGUAGE.get(base, base)


def read_prompt(prompt: str, candidates: Candidates) -> PromptReading:
    """Classify a prompt, once for its group. Linear time; reads the first 20,000 characters."""
    guess = _guess_by(candidates)
    text = find_prose(prompt[:PROMPT_CHARACTERS]).text
    words = words_of(text)
    letters = weight_of("".join(words))
    guesses = dict(guess(" ".join(words)))
    known = Known(text, frozenset(word.lower() for word in words))
    dense = [word for word in words if not word.isascii() and not _is_latin(word)]
    second = min(weight := weight_of("".join(dense)), letters - weight)
    if second >= SHORT_PART and second >= SECOND_SCRIPT * letters:  # an instruction in English after a problem in Chinese
        latin = guess(" ".join(word for word in words if _is_latin(word)))
        for found in (guess(" ".join(dense)), latin):
            guesses |= {language: p for language, p in found.items() if p >= SURE}
        return PromptReading(known, letters, None, guesses)
    best = max(guesses, key=guesses.__getitem__, default=None)
    if best is not None and (others := _second_languages(Part(text, letters), best, guess)):
        return PromptReading(known, letters, None, {**guesses, **dict.fromkeys((best, *others), 1.0)})
    is_sure = best is not None and ((guesses[best] >= SURE and letters >= SHORT_PART) or best == _language_by_words(known.words))
    return PromptReading(known, letters, best if is_sure else None, guesses)


def refined_rule(
    prompt: PromptReading, thinking: str, answer: str, wanted: str | None, candidates: Candidates, second: Candidates | None = None
) -> LanguageFinding:
    """Whether thinking and answer keep to the reference language; `wanted` stands in for the prompt's language. Linear time.

    `second` is another classifier, for parts of 12 to 59 letters: see `_by_both`.

    Example: a prompt and an answer in French with thinking that changes to Chinese for a paragraph -> not consistent,
    `foreign_passages`, with the place of each passage in the detail.
    """
    guess = _guess_by(candidates)
    parts = {"thinking": _read(thinking, guess), "answer": _read(answer, guess)}
    reference, source = _reference(prompt, parts, wanted)
    if reference is not None:
        opinion = None if second is None else _guess_by(second)
        parts = {name: _judged(reading, reference, prompt.known, guess, opinion) for name, reading in parts.items()}
    reason, where = _decide(parts, reference)
    detail: dict[str, Json] = {
        "rule": "refined",
        "reason": reason.value,
        "part": where,
        "reference": {"language": reference, "from": source},
        **{name: _shown(reading) for name, reading in parts.items()},
    }
    return LanguageFinding(reason in CONSISTENT, detail)


def _second_languages(part: Part, best: str, guess: Guess) -> list[str]:
    """The other languages that a prompt has whole sentences in: an instruction in French before a problem in English."""
    weights: dict[str, int] = {}
    for passage in find_passages(part, best, Known("", frozenset()), guess):
        if passage.kind is Kind.STRETCH and passage.language is not None:
            weights[passage.language] = weights.get(passage.language, 0) + passage.weight
    return [language for language, weight in weights.items() if weight >= max(SHORT_PART, SECOND_SCRIPT * part.letters)]


def _guess_by(candidates: Candidates) -> Guess:
    """The classifier over the languages of this rule: variants are added up; others only where they are sure."""

    def guess(text: str) -> Mapping[str, float]:
        found: dict[str, float] = {}
        if text:
            for detection in candidates(text):
                language = one_language(detection.language)
                found[language] = found.get(language, 0.0) + detection.probability
        many = len(text) >= MANY_LETTERS
        return {language: p for language, p in found.items() if language in LANGUAGES or (many and p >= SURE)}

    return guess


def _language_by_words(words: Set[str]) -> str | None:
    """The language that has the most function words among these, if two and more than any other has."""
    (most, best), (second, _) = sorted(((len(words & own), language) for language, own in FUNCTION_WORDS.items()), reverse=True)[:2]
    return best if most >= PROMPT_WORDS and most > second else None


def _is_latin(word: str) -> bool:
    return word[0] < "\u0250" or "\u1e00" <= word[0] <= "\u1eff"


def _read(text: str, guess: Guess) -> _Reading:
    prose = find_prose(text)
    letters = weight_of("".join(words_of(prose.text)))
    return _Reading(prose, Part(prose.text, letters), guess(_sample(prose.text)) if letters >= SHORT_PART else {})


def _sample(text: str) -> str:
    """A part's beginning, middle and end, as the classifier sees it."""
    if len(text) > 3 * SLICE:
        middle = (len(text) - SLICE) // 2
        text = " ".join((text[:SLICE], text[middle : middle + SLICE], text[-SLICE:]))
    return " ".join(words_of(text))


def _reference(prompt: PromptReading, parts: Mapping[str, _Reading], wanted: str | None) -> tuple[str | None, str | None]:
    """The reference language, and what says so."""
    if wanted is not None:
        return one_language(wanted), "wanted"
    if prompt.sure is not None:
        return prompt.sure, "prompt"
    for name, reading in parts.items():
        best = reading.best
        is_open = prompt.letters < SHORT_PART or prompt.open_to.get(best or "", 0.0) >= LIKELY
        if best is not None and reading.guesses[best] >= SURE and is_open:
            return best, name
    if prompt.letters >= MANY_LETTERS and prompt.open_to:
        return max(prompt.open_to, key=prompt.open_to.__getitem__), "prompt"
    return None, None


def _judged(reading: _Reading, reference: str, known: Known, guess: Guess, opinion: Guess | None) -> _Reading:
    text, code = without_comments(reading.part.text)
    found = tuple(find_passages(Part(text, reading.part.letters), reference, known, guess))
    code += [text[passage.start : passage.end] for passage in found if passage.kind is Kind.CODE]
    hidden = hidden_language([*reading.prose.removed(), *code], reading.part.letters, reference, known, guess)
    guesses = reading.guesses
    if opinion is not None and LEAST_OPINION <= reading.part.letters < MOST_OPINION:
        words = " ".join(words_of(reading.part.text))
        guesses = _by_both(guesses or guess(words), opinion(words), reference)
    return _Reading(reading.prose, reading.part, guesses, tuple(each for each in found if each.kind is not Kind.CODE), hidden)


def _by_both(first: Mapping[str, float], second: Mapping[str, float], reference: str) -> Mapping[str, float]:
    """What two classifiers say of little text: sure of another language where both name it, of the reference where either may."""
    best = max(first, key=first.__getitem__, default=reference)
    if second.get(reference, 0.0) >= OPINION:
        return {**first, reference: max(second[reference], first.get(reference, 0.0))}
    if first.get(best, 0.0) >= OPINION and second.get(best, 0.0) >= OPINION:
        return {**first, best: max(SURE, first[best])}
    return first


def _decide(parts: Mapping[str, _Reading], reference: str | None) -> tuple[LanguageReason, str | None]:
    if not _has_prose(parts["thinking"].part):
        return LanguageReason.NOTHING_TO_CLASSIFY, "thinking"
    if reference is None:
        return LanguageReason.UNDECIDED, None
    for name, reading in parts.items():
        if _is_other(reading, reference) or (name == "thinking" and _is_unlike(reading, reference)):
            return LanguageReason.OTHER_LANGUAGE, name
    if parts["thinking"].hidden is not None:
        return LanguageReason.HIDDEN_LANGUAGE, "thinking"
    for name, reading in parts.items():
        if _switches(reading):
            return LanguageReason.FOREIGN_PASSAGES, name
    return LanguageReason.SAME_LANGUAGE, None


def _has_prose(part: Part) -> bool:
    """Whether there are a few letters, where a repeated word or character counts once."""
    return any(_distinct_letters(text) >= NO_PROSE for text in (part.text[:SLICE], part.text))


def _distinct_letters(text: str) -> int:
    """The weight of the distinct letters of the distinct words, as far as it matters."""
    found = 0
    for word in frozenset(words_of(text)):
        found += weight_of("".join(frozenset(word)))
        if found >= NO_PROSE:
            break
    return found


def _is_other(reading: _Reading, reference: str) -> bool:
    """Whether a part as a whole is in another language than the reference."""
    if reading.part.is_short and reading.foreign_share > SHORT_SHARE and reading.foreign_letters >= SHORT_LETTERS:
        return True
    best = reading.best
    if best == reference or reading.guesses.get(reference, 0.0) >= LIKELY:
        return False
    return best is not None and reading.guesses[best] >= SURE and _has_witness(reading, best, reference)


def _is_unlike(reading: _Reading, reference: str) -> bool:
    """Whether thinking is in no language that looks like the reference: by a cipher, or in letters that are not its own."""
    own = FUNCTION_WORDS.get(reference)
    if own is None or reading.part.letters < MANY_LETTERS or reading.guesses.get(reference, 0.0) >= LIKELY:
        return False
    return len(own & _lowered(reading.part)) < OWN_WORDS


def _lowered(part: Part) -> frozenset[str]:
    return frozenset(word.lower() for word in words_of(part.text))


def _has_witness(reading: _Reading, best: str, reference: str) -> bool:
    """Whether letters or words say, too, that a part is in `best`: a few foreign names or words are no language."""
    part, scripts = reading.part, scripts_of(best)
    if set(scripts).isdisjoint(scripts_of(reference)):
        many = "latin" in scripts and part.letters >= MANY_LETTERS
        foreign = letters_in(part.text, scripts) if many else reading.foreign_letters
        if 2 * foreign < part.letters:
            return False
    return part.letters >= MANY_LETTERS or best not in FUNCTION_WORDS or not FUNCTION_WORDS[best].isdisjoint(_lowered(part))


def _switches(reading: _Reading) -> bool:
    """Whether foreign passages are more than a slip. Single words of another language make no passages, only letters."""
    if reading.part.is_short:
        return False
    share = reading.foreign_share
    passages = sum(passage.kind is not Kind.WORDS for passage in reading.passages)
    return (share > FOREIGN_SHARE and reading.foreign_letters >= FOREIGN_LETTERS) or (passages >= PASSAGES and share > PASSAGES_SHARE)


def _shown(reading: _Reading) -> Mapping[str, Json]:
    """A part in the detail: bounded, whatever the part holds. Offsets count the part's characters, those of no width left out."""
    best, shown = reading.best, reading.passages[:SPANS]
    return {
        "letters": reading.part.letters,
        "language": best,
        "probability": None if best is None else round(reading.guesses[best], 4),
        "foreign_share": round(reading.foreign_share, 4),
        "hidden": reading.hidden,
        "passages": len(reading.passages),
        "spans": [
            {
                "start": start,
                "end": last + 1,
                "kind": passage.kind.value,
                "script": script_of(reading.part.text[passage.start]) if passage.kind is Kind.SCRIPT else None,
                "language": passage.language,
            }
            for passage, start, last in zip(
                shown,
                reading.prose.origins(passage.start for passage in shown),
                reading.prose.origins(passage.end - 1 for passage in shown),
                strict=True,
            )
        ],
    }
