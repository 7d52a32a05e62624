"""Foreign passages inside a part of a conversation, and how much each weighs against the reference language.

Two witnesses are needed before a passage counts. A run of another script is one by itself, unless it is a name, a quotation, or in the
prompt. Between languages of one script, a stretch of at least sixty characters counts when function words *and* the classifier say so: the
other language explains more of its words than the reference does, and is at least 0.4 more probable. Text that is plainly in the
reference language therefore never reaches the classifier.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass

from reward_service.scoring.function_words import FUNCTION_WORDS
from reward_service.scoring.scripts import LETTERS, WEIGHTS, letters_of, other_scripts, scripts_of, weight_of

Guess = Callable[[str], Mapping[str, float]]  # the languages a text may be in, with their probabilities

FOREIGN = 0.6  # what the classifier must say at least before a stretch is in another language
MARGIN = 0.4  # and by how much that language must be ahead of the reference
CLASSIFIED_LETTERS = 40  # a shorter stretch is not classified
CLASSIFIED_CHARACTERS = 400  # of a sentence without an end
CODE_SHARE = 0.06  # of a stretch that is code without a fence, whose keywords are English: its brackets and operators
SHORT_PART = 24  # letters; a part with fewer has no stretches, and no names that are nobody's
QUOTATION = 60  # characters; a longer quotation is a passage
FREE = 4  # names and quotations of a part that count for nothing, and as many again per so many letters:
LETTERS_PER_FREE = 1000
LATIN_WORDS = 4  # fewer Latin words in a row are a term, a name or a command in any language
LATIN_TERMS = 8  # as many are a passage also without a function word among them
HAN_SENTENCE = 24  # weighted letters; a Japanese sentence of so many has kana
EXAMINED_RUNS = 500  # of another script in a part; what comes after them counts as one passage
NAME_WORDS = 4
NAME_CHARACTERS = 4  # of a name in Han, kana or Hangul

_LETTERS = re.compile(f"[{LETTERS}]+")
_GREEK = re.compile("[\u0370-\u03ff]")
_DENSE = letters_of(WEIGHTS)
_LATIN = letters_of(["latin"])
_WORD = re.compile(f"[{_DENSE}]+|[{LETTERS}]{{2,}}")
_ASCII_WORD = re.compile("[A-Za-z]{2,}")
_STRETCH = re.compile(r".{60}[^.!?…。！？؟۔\n]{0,240}[.!?…。！？؟۔\n]*|.+", re.DOTALL)
_CODE = re.compile(r"[(){}\[\];:=<>_+]")
_IN_TERM = f"{_LATIN}0-9_"
_LATIN_RUN = re.compile(  # the look behind comes after the first character, where it does not slow down the search for it
    f"[{_IN_TERM}](?<![{_IN_TERM}][{_IN_TERM}])[{_IN_TERM}]*(?:[ ,;:'’\"“”()\\-.]{{1,3}}[{_IN_TERM}]+){{{LATIN_WORDS - 1},}}"
)
_LATIN_WORD = re.compile(f"[{_IN_TERM}]+")
_WITHOUT_KANA = re.compile("[^。！？!?.\n\u3041-\u30ff]{8,}")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』", "《": "》", "(": ")", "（": "）"}
_ANY_FUNCTION_WORD: frozenset[str] = frozenset().union(*FUNCTION_WORDS.values())


class Kind(enum.StrEnum):
    """How a passage shows that it is foreign."""

    SCRIPT = "script"  # letters of a script that the reference language does not use
    STRETCH = "stretch"  # another language of the same script
    WORDS = "words"  # another language's function words among words of the reference


@dataclass(frozen=True, slots=True)
class Passage:
    """A foreign passage: where it stands in the prose, its weight in letters, and its language where the classifier was asked."""

    start: int
    end: int
    weight: int
    kind: Kind
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The prose of a part, its weight in letters, and whether it is too short for anything but a look at its words."""

    text: str
    letters: int

    @property
    def is_short(self) -> bool:
        """Too little text for a classifier."""
        return self.letters < SHORT_PART


@dataclass(frozen=True, slots=True)
class Known:
    """The prompt's prose and its words in lower case: what a completion repeats of them is not its own."""

    text: str
    words: frozenset[str]


def words_of(text: str) -> list[str]:
    """The words of a text: two or more letters, or any number of Han, kana or Hangul; "x is 5 米" -> ["is", "米"]."""
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text)


def find_passages(part: Part, reference: str, known: Known, guess: Guess) -> Iterator[Passage]:
    """The foreign passages of a part, none overlapping another of its kind. Linear time in the part, whatever it holds."""
    scripts = scripts_of(reference)
    exempt = _Exemptions(part, known)
    if not part.text.isascii():
        yield from _other_scripts(part.text, scripts, exempt)
    if part.is_short:
        yield from _telling_words(part.text, reference, known)
        return
    if "latin" not in scripts:
        yield from _latin_runs(part.text, exempt)
    if reference == "ja":
        yield from _chinese_sentences(part.text, guess)
    if reference in FUNCTION_WORDS:
        yield from _other_stretches(part.text, reference, guess)


# ---- other scripts ---------------------------------------------------------------------------------------------------


class _Exemptions:
    """The few runs of another script that any text may hold."""

    def __init__(self, part: Part, known: Known) -> None:
        self._text = part.text
        self._prompt = known.text
        self._short = part.is_short
        self._left = FREE + part.letters // LETTERS_PER_FREE

    def hold(self, start: int, end: int, words: list[str]) -> bool:
        """Whether this run counts for nothing: the prompt's own words, or one of the first names and quotations."""
        if end - start > QUOTATION:
            return False
        if self._text[start:end] in self._prompt:
            return True
        if self._short or self._left <= 0 or not (self._is_quoted(start, end) or _is_name(words)):
            return False
        self._left -= 1
        return True

    def _is_quoted(self, start: int, end: int) -> bool:
        closing = _QUOTES.get(self._text[start - 1 : start], "")
        return any(mark in closing for mark in self._text[end : end + 3])


def _is_name(words: list[str]) -> bool:
    """A few capitalised words; where letters have no case, one or two short words."""
    first = words[0][0]
    if len(words) > NAME_WORDS:
        return False
    if first.lower() != first.upper():
        return all(word[0].isupper() for word in words)
    if weight_of(first) > 1:
        return sum(map(len, words)) <= NAME_CHARACTERS
    return len(words) <= 2


@functools.cache
def _run_of_others(scripts: tuple[str, ...]) -> re.Pattern[str]:
    """A run of letters of any script but these and Latin, with what is no letter between them."""
    foreign = letters_of(script for script in other_scripts(scripts) if script != "latin")
    return re.compile(f"[{foreign}]+(?:[^{LETTERS}\n]{{1,8}}[{foreign}]+)*")


def _other_scripts(text: str, scripts: tuple[str, ...], exempt: _Exemptions) -> Iterator[Passage]:
    pattern = _run_of_others(scripts)
    for count, run in enumerate(pattern.finditer(text)):
        if count == EXAMINED_RUNS:
            rest = "".join(pattern.findall(text, run.start()))
            yield Passage(run.start(), len(text), weight_of("".join(_LETTERS.findall(rest))), Kind.SCRIPT)
            return
        words = _LETTERS.findall(run.group())
        if _GREEK.match(words[0]) and max(map(len, words)) < 3:
            continue  # the alpha of a formula that stands in the text
        if not exempt.hold(run.start(), run.end(), words):
            yield Passage(run.start(), run.end(), weight_of("".join(words)), Kind.SCRIPT)


def _latin_runs(text: str, exempt: _Exemptions) -> Iterator[Passage]:
    for count, run in enumerate(_LATIN_RUN.finditer(text)):
        if count == EXAMINED_RUNS:
            rest = "".join(_LATIN_RUN.findall(text, run.start()))
            yield Passage(run.start(), len(text), sum(map(len, _LETTERS.findall(rest))), Kind.SCRIPT)
            return
        words = [word for word in _LATIN_WORD.findall(run.group()) if len(word) > 1 and word.isalpha() and not _is_identifier(word)]
        if len(words) < LATIN_WORDS or all(word[0].isupper() for word in words):
            continue
        if len(words) < LATIN_TERMS and not any(word.lower() in _ANY_FUNCTION_WORD for word in words):
            continue
        if not exempt.hold(run.start(), run.end(), words):
            yield Passage(run.start(), run.end(), sum(map(len, words)), Kind.SCRIPT)


def _is_identifier(word: str) -> bool:
    return not (word[1:].islower() or word.isupper())


def _chinese_sentences(text: str, guess: Guess) -> Iterator[Passage]:
    """Sentences of Han characters alone in Japanese."""
    for sentence in _WITHOUT_KANA.finditer(text):
        words = words_of(sentence.group())
        weight = weight_of("".join(words))
        if weight >= HAN_SENTENCE and guess(" ".join(words)[:CLASSIFIED_CHARACTERS]).get("zh", 0.0) >= FOREIGN:
            yield Passage(sentence.start(), sentence.end(), weight, Kind.STRETCH, "zh")


# ---- other languages of the same script --------------------------------------------------------------------------------


@functools.cache
def _telling(reference: str, scripts: tuple[str, ...]) -> frozenset[str]:
    """Function words of any other language in these scripts that are none of the reference's; a single letter tells nothing."""
    others = (words for language, words in FUNCTION_WORDS.items() if set(scripts_of(language)) & set(scripts))
    return frozenset(word for word in frozenset().union(*others) - FUNCTION_WORDS.get(reference, frozenset()) if len(word) > 1)


def _other_stretches(text: str, reference: str, guess: Guess) -> Iterator[Passage]:
    own, telling = FUNCTION_WORDS[reference], _telling(reference, scripts_of(reference))
    for stretch in _STRETCH.finditer(text):
        words = stretch.group().lower().split()
        strange = telling.intersection(words)
        if len(strange) < 2:
            continue
        distinct = frozenset(words)
        other = max(FUNCTION_WORDS, key=lambda language: len(strange & FUNCTION_WORDS[language]))
        telltale = strange & FUNCTION_WORDS[other]
        if len(telltale) < 2 or len(_CODE.findall(stretch.group())) > CODE_SHARE * len(stretch.group()):
            continue
        found = None
        if len(distinct & own) <= len(distinct & FUNCTION_WORDS[other]):
            found = _language_of(words_of(stretch.group()), distinct, reference, guess)
        if found is not None:
            weight = weight_of("".join(words_of(stretch.group())))
            yield Passage(stretch.start(), stretch.end(), weight, Kind.STRETCH, found)
        else:
            yield Passage(stretch.start(), stretch.end(), sum(len(word) for word in words if word in telltale), Kind.WORDS, other)


def _language_of(words: list[str], lowered: Set[str], reference: str, guess: Guess) -> str | None:
    """The other language that a stretch is in, if the classifier and at least two function words say so."""
    if weight_of("".join(words)) < CLASSIFIED_LETTERS:
        return None
    guesses = guess(" ".join(words))
    best = max(guesses, key=guesses.__getitem__, default=reference)
    if best == reference or guesses[best] < max(FOREIGN, guesses.get(reference, 0.0) + MARGIN):
        return None
    return best if len(lowered & FUNCTION_WORDS.get(best, frozenset())) >= 2 else None


def _telling_words(text: str, reference: str, known: Known) -> Iterator[Passage]:
    """Of a short part: function words of other languages, unless one is of the reference language or all are the prompt's."""
    own, telling = FUNCTION_WORDS.get(reference, frozenset()), _telling(reference, (*scripts_of(reference), "latin"))
    words = [word.lower() for word in words_of(text)]
    if own.isdisjoint(words):
        weight = sum(len(word) for word in words if word in telling and word not in known.words)
        if weight:
            yield Passage(0, len(text), weight, Kind.WORDS)
