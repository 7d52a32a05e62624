"""Another language where the refined rule does not read: in code, formulas, addresses, names of commands.

Comments of programs may be in any language, and a formula may hold a few words; both are no switch. But thinking that is a sentence for
show and a code block full of prose would be the cheapest way to keep the bonus. So what was removed, without the comments of what is a
program, is weighed against what was kept: letters of another script, and text that is nothing but prose of another language, by its
function words and the classifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from reward_service.scoring.function_words import FUNCTION_WORDS, KEYWORDS
from reward_service.scoring.language_passages import CLASSIFIED_CHARACTERS, Guess, Known, foreign_runs, telling_words
from reward_service.scoring.language_words import words_of
from reward_service.scoring.scripts import scripts_of, weight_of

FENCES = ("```", "~~~")
LEAST_LETTERS = 120  # hidden prose; less is a comment, a string or a condition
SCRIPT_SHARE = 0.25  # of the letters that are read: so many more in another script
PROSE_SHARE = 0.5  # and so many more in words of another language,
PURE = 0.6  # of all that was removed: a program has strings and comments, but is not made of them
DISTINCT_WORDS = 8  # function words that are no words of programs
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))(?:#|//|--|%|/\*)[^\n]*", re.MULTILINE)
_LINE_COMMENT = re.compile(r'"""[^"]*"""|^[ \t]*(?:#(?!#)|//|/\*)[^\n]*|(?<=[;{})][ \t])[ \t]*(?:#|//)[^\n]*', re.MULTILINE)
_MARKUP = frozenset({"http", "https", "www", "begin", "end", "text", "mathrm", "textbf"})
_SOMETHING = re.compile(r"\w")
_DOCUMENTATION = re.compile(r'"""[^"]*"""')
CHUNK = 12  # words; prose has two such function words among them


def hidden_language(removed: Iterable[str], letters: int, reference: str, known: Known, guess: Guess) -> str | None:
    """The language, or the script, that what was removed from a text of so many letters is in, where that is not the reference.

    Linear time. Example: a sentence in English before a code block that holds nothing but a paragraph in French -> "fr".
    """
    text = "\n".join(_uncommented(piece) if piece.lstrip()[:3] in FENCES else piece for piece in removed)
    if 3 * len(text) < LEAST_LETTERS:
        return None
    words = [word for word in map(str.lower, words_of(text)) if word not in _MARKUP]
    weight = weight_of("".join(words))
    if not text.isascii():
        foreign, script = foreign_runs(text, scripts_of(reference), known)
        if foreign >= max(LEAST_LETTERS, SCRIPT_SHARE * letters, PURE * weight):
            return script
    least = max(LEAST_LETTERS, PROSE_SHARE * letters, PURE * weight)
    if weight < least:
        return None
    telling = telling_words(reference).intersection(words) - KEYWORDS - known.words
    other = max(FUNCTION_WORDS, key=lambda language: len(telling & FUNCTION_WORDS[language]))
    telling &= FUNCTION_WORDS[other]
    if len(telling) < DISTINCT_WORDS:
        return None
    prose = [word for chunk in _chunks(words) if _is_prose(chunk, telling, known) for word in chunk]
    if weight_of("".join(prose)) < least:
        return None
    guesses = guess(" ".join(prose)[:CLASSIFIED_CHARACTERS])
    return other if max(guesses, key=guesses.__getitem__, default=reference) != reference else None


def without_comments(text: str) -> tuple[str, list[str]]:
    """A text with spaces in place of what would be comments if it held a program without a fence, and these."""
    if "#" not in text and "//" not in text and '"""' not in text:
        return text, []
    comments: list[str] = []

    def blank(comment: re.Match[str]) -> str:
        comments.append(comment.group())
        return " " * len(comment.group())

    return _LINE_COMMENT.sub(blank, text), comments


def _uncommented(block: str) -> str:
    """A block of code without its comments; all of it where there is no program between them."""
    program = _COMMENT.sub("", _DOCUMENTATION.sub("", block.partition("\n")[2]))
    return program if _SOMETHING.search(program) else block


def _chunks(words: Sequence[str]) -> Iterator[Sequence[str]]:
    return (words[start : start + CHUNK] for start in range(0, len(words), CHUNK))


def _is_prose(chunk: Sequence[str], telling: frozenset[str], known: Known) -> bool:
    """Whether so many words in a row are prose, and not the prompt's."""
    return sum(word in telling for word in chunk) >= 2 and 2 * sum(word in known.words for word in chunk) < len(chunk)
