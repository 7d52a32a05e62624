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
import struct
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass

from reward_service.scoring.function_words import FUNCTION_WORDS, KEYWORDS, SMALL_WORDS
from reward_service.scoring.language_words import in_lower_case, lowered_words, words_of
from reward_service.scoring.scripts import LETTERS, letters_of, other_scripts, script_of, scripts_of, weight_of

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
LATIN_TITLE = 3  # function words of one language that no title or list of names has
LATIN_SCATTERED = 4  # and that no such text has between its terms
LATIN_TERMS = 8  # as many are a passage also without a function word among them
HAN_SENTENCE = 24  # weighted letters; a Japanese sentence of so many has kana
MENTION = 20  # characters of a foreign word with its meaning beside it
MENTIONED_SHARE = 0.5  # of a part that such words, names and quotations may be
EXAMINED_RUNS = 500  # of another script in a part; what comes after them counts as one passage
EXAMINED_STRETCHES = 150  # and so many stretches and sentences are classified; of those after them, function words alone count
NAME_WORDS = 4
NAME_CHARACTERS = 4  # of a name in Han, kana or Hangul

_LETTERS = re.compile(f"[{LETTERS}]+")
_GREEK = re.compile("[\u0370-\u03ff]")
_LATIN = letters_of(["latin"])
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
_MEANING = re.compile(r"[*_`]{0,3}(?: ?[(（\[=:：|]| [-–—] | ?['\"“‘«„「])")
_QUOTED = re.compile(  # a stretch may end before the closing mark
    "(?:^|(?<=[\\s(*:]))(?:"
    + "|".join(
        f"{opening}[^{closing}\n]{{2,{QUOTATION + 2}}}(?:[{closing}]|$)"
        for opening, closing in (('"', '"'), ("“", "”"), ("„", "“”"), ("«", "»"), ("‘", "’"))
    )
    + "|'(?:[^'\n]|(?<=\\w)'(?=\\w)){2,60}(?:'(?!\\w)|$)"
    + "|\\*[^*\\s][^*\n]{0,58}\\*)"
)
_ANY_FUNCTION_WORD: frozenset[str] = frozenset().union(*FUNCTION_WORDS.values())
_MAY_QUOTE = re.compile("[\"'“„«‘*]")
_LATIN_LANGUAGES = [language for language in FUNCTION_WORDS if "latin" in scripts_of(language)]


class Kind(enum.StrEnum):
    """How a passage shows that it is foreign."""

    SCRIPT = "script"  # letters of a script that the reference language does not use
    STRETCH = "stretch"  # another language of the same script
    WORDS = "words"  # another language's function words among words of the reference
    CODE = "code"  # what looks like code without a fence: it is not read here, and weighs nothing


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
        yield from _latin_passages(part.text, exempt, known)
    if reference == "ja":
        yield from _chinese_sentences(part.text, guess)
    if reference in FUNCTION_WORDS:
        yield from _other_stretches(part.text, reference, exempt, guess)


# ---- other scripts ---------------------------------------------------------------------------------------------------


class _Exemptions:
    """The few runs of another script that any text may hold."""

    def __init__(self, part: Part, known: Known) -> None:
        self._text = part.text
        self._prompt = known.text
        self._short = part.is_short
        self._left = FREE + part.letters // LETTERS_PER_FREE
        self._letters = int(MENTIONED_SHARE * part.letters)

    def hold(self, start: int, end: int, words: list[str]) -> bool:
        """Whether this run counts for nothing: the prompt's own words, or one of the first names and quotations."""
        if end - start > QUOTATION:
            return False
        if self._text[start:end] in self._prompt:
            return True
        if self._short:
            return False
        return (self._is_mentioned(start, end, words) and self._take(words, 0)) or (
            (self._is_quoted(start, end) or _is_name(words)) and self._take(words, 1)
        )

    def holds_quotation(self, words: list[str]) -> bool:
        """Whether this quotation in the letters of the reference is one of the first."""
        return not self._short and self._take(words, 1)

    def _take(self, words: list[str], free: int) -> bool:
        weight = weight_of("".join(words))
        if self._left < free or self._letters < weight:
            return False
        self._left -= free
        self._letters -= weight
        return True

    def _is_mentioned(self, start: int, end: int, words: list[str]) -> bool:
        """A word or two with the meaning beside them, as in a glossary; "水 (water)"."""
        return end - start <= MENTION and len(words) <= 2 and _MEANING.match(self._text, end) is not None

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


def foreign_runs(text: str, scripts: tuple[str, ...], known: Known) -> tuple[int, str | None]:
    """The weight of the letters of other scripts than these, Latin and Greek, and which script: unless the prompt has the same."""
    runs = _run_of_others((*scripts, "greek")).findall(text)
    runs = [run for run in runs[:EXAMINED_RUNS] if run not in known.text] + runs[EXAMINED_RUNS:]
    return weight_of("".join(_LETTERS.findall("".join(runs)))), script_of(runs[0][0]) if runs else None


def _latin_passages(text: str, exempt: _Exemptions, known: Known) -> Iterator[Passage]:
    rest, position = [], 0
    for passage in _latin_runs(text, exempt):
        rest.append(text[position : passage.start])
        position = passage.end
        yield passage
    yield from _scattered_words(" ".join((*rest, text[position:])), len(text), known)


def _latin_runs(text: str, exempt: _Exemptions) -> Iterator[Passage]:
    for count, run in enumerate(_LATIN_RUN.finditer(text)):
        if count == EXAMINED_RUNS:
            rest = "".join(_LATIN_RUN.findall(text, run.start()))
            yield Passage(run.start(), len(text), sum(map(len, _LETTERS.findall(rest))), Kind.SCRIPT)
            return
        words = [word for word in _LATIN_WORD.findall(run.group()) if len(word) > 1 and word.isalpha() and not _is_identifier(word)]
        if len(words) < LATIN_WORDS or _is_title(words):
            continue
        telling = len(_ANY_FUNCTION_WORD.intersection(map(str.lower, words)) - KEYWORDS)
        is_code = telling < LATIN_TITLE and len(_CODE.findall(run.group())) > CODE_SHARE * len(run.group())
        if is_code or (len(words) < LATIN_TERMS and not telling):
            continue
        if not exempt.hold(run.start(), run.end(), words):
            yield Passage(run.start(), run.end(), sum(map(len, words)), Kind.SCRIPT)


def _is_identifier(word: str) -> bool:
    return not (word[1:].islower() or word.isupper() or word.lower() in _ANY_FUNCTION_WORD)


def _is_title(words: list[str]) -> bool:
    """Whether words are a title or a list of names: capitalised, but for the small ones inside, and no sentences."""
    if not (words[0][0].isupper() and words[-1][0].isupper() and all(word[0].isupper() or word in SMALL_WORDS for word in words)):
        return False
    return len(words) < LATIN_TERMS or len(_words_of_one(frozenset(word.lower() for word in words))) < LATIN_TITLE


def _words_of_one(words: Set[str]) -> Set[str]:
    """The function words among these of the Latin language that has most of them; words of programs and formulas are none."""
    telling = (words & _ANY_FUNCTION_WORD) - KEYWORDS
    if len(telling) < LATIN_TITLE:
        return frozenset()
    return max((telling & FUNCTION_WORDS[language] for language in _LATIN_LANGUAGES), key=len)


def _scattered_words(text: str, end: int, known: Known) -> Iterator[Passage]:
    """Latin function words, a few at a time, in titles or with signs between them, in what is left of a text without its runs."""
    words = [word.lower() for word in _ASCII_WORD.findall(text)]
    telling = _words_of_one(frozenset(words) - known.words)
    if len(telling) >= LATIN_SCATTERED:
        yield Passage(0, end, sum(len(word) for word in words if word in telling), Kind.WORDS)


def _chinese_sentences(text: str, guess: Guess) -> Iterator[Passage]:
    """Sentences of Han characters alone in Japanese."""
    examined = 0
    for sentence in _WITHOUT_KANA.finditer(text):
        words = words_of(sentence.group())
        weight = weight_of("".join(words))
        if weight < HAN_SENTENCE:
            continue
        examined += 1
        if examined == EXAMINED_STRETCHES:
            rest = "".join(words_of(" ".join(_WITHOUT_KANA.findall(text, sentence.start()))))
            if guess(rest[:CLASSIFIED_CHARACTERS]).get("zh", 0.0) >= FOREIGN:
                yield Passage(sentence.start(), len(text), weight_of(rest), Kind.STRETCH, "zh")
            return
        if guess(" ".join(words)[:CLASSIFIED_CHARACTERS]).get("zh", 0.0) >= FOREIGN:
            yield Passage(sentence.start(), sentence.end(), weight, Kind.STRETCH, "zh")


# ---- other languages of the same script --------------------------------------------------------------------------------


@functools.cache
def _telling(reference: str, scripts: tuple[str, ...]) -> frozenset[str]:
    """Function words of any other language in these scripts that are none of the reference's; a single letter tells nothing."""
    others = (words for language, words in FUNCTION_WORDS.items() if set(scripts_of(language)) & set(scripts))
    return frozenset(word for word in frozenset().union(*others) - FUNCTION_WORDS.get(reference, frozenset()) if len(word) > 1)


def telling_words(reference: str) -> frozenset[str]:
    """Function words that say that a text is not in this language, but in another one of its scripts or in a Latin one."""
    return _telling(reference, (*scripts_of(reference), "latin"))


def _other_stretches(text: str, reference: str, exempt: _Exemptions, guess: Guess) -> Iterator[Passage]:
    telling = _telling(reference, scripts_of(reference))
    examined = 0
    plain = in_lower_case(text)
    for stretch in _STRETCH.finditer(text):
        lowered = plain[stretch.start() : stretch.end()].split() if plain is not None else lowered_words(stretch.group())
        strange = telling.intersection(lowered)
        if len(strange) < 2:
            continue
        content = stretch.group()
        if len(_CODE.findall(content)) > CODE_SHARE * len(content):
            yield Passage(stretch.start(), stretch.end(), 0, Kind.CODE)
            continue
        examined += 1
        if examined == EXAMINED_STRETCHES:
            guess = _no_guess
        found = _other_language(content, lowered, strange, reference, guess)
        if found is not None and _MAY_QUOTE.search(content) and (rest := _without_quotations(content, exempt)) != content:
            lowered = lowered_words(rest)
            found = _other_language(rest, lowered, telling.intersection(lowered), reference, guess)
        if found is not None:
            weight, kind, language = found
            yield Passage(stretch.start(), stretch.end(), weight, kind, language)


def _no_guess(_: str) -> Mapping[str, float]:
    return {}


def _other_language(
    content: str, lowered: list[str], strange: frozenset[str], reference: str, guess: Guess
) -> tuple[int, Kind, str] | None:
    """What is foreign of a stretch: all of it, or its function words of another language, or nothing; weight, kind and language."""
    if len(strange) < 2:
        return None
    other = _language_of_most(strange)
    telltale = strange & FUNCTION_WORDS[other]
    if len(telltale) < 2:
        return None
    distinct = frozenset([word for word in lowered if len(word) > 1])
    if len(distinct & FUNCTION_WORDS[reference]) <= len(distinct & FUNCTION_WORDS[other]):
        words = words_of(content)
        found = _language_of(words, distinct, reference, guess)
        if found is not None:
            return weight_of("".join(words)), Kind.STRETCH, found
    return sum([len(word) for word in lowered if word in telltale]), Kind.WORDS, other


@functools.cache
def _counters() -> Mapping[str, int]:
    """For each function word a number in which each of its languages has a byte of 1: the sum of such numbers counts them all."""
    counters: dict[str, int] = {}
    for index, words in enumerate(FUNCTION_WORDS.values()):
        for word in words:
            counters[word] = counters.get(word, 0) + (1 << _BITS * index)
    return counters


_BITS = 16  # of one count: a stretch has fewer words
_LANGUAGES = tuple(FUNCTION_WORDS)


@functools.lru_cache(maxsize=2048)
def _language_of_most(words: frozenset[str]) -> str:
    """The language that has most of these function words; of several, the first in the order of the lists."""
    total = sum(map(_counters().__getitem__, words))
    counts = struct.unpack(f"<{len(_LANGUAGES)}H", total.to_bytes(len(_LANGUAGES) * _BITS // 8, "little"))
    return _LANGUAGES[counts.index(max(counts))]


def _without_quotations(content: str, exempt: _Exemptions) -> str:
    """A stretch with spaces in place of the first quotations of a part."""
    return _QUOTED.sub(
        lambda quoted: " " * len(quoted.group()) if exempt.holds_quotation(words_of(quoted.group())) else quoted.group(), content
    )


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
