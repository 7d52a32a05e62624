"""Cut normalised LaTeX, or the plain notation that people mix with it, into tokens. One pass, linear."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reward_service.scoring.equivalence import named_functions
from reward_service.scoring.equivalence.glued import unglued
from reward_service.scoring.equivalence.limits import MAX_ITEMS, MAX_TOKENS, check_count


class NotMath(Exception):
    """The text is not written in the grammar; it is read as words instead."""


class Token(NamedTuple):
    """`kind`: `number letter run constant function command text open close comma relation setop pm mod op begin end`.

    A `run` is two or three bare letters written together: a product, or a short word.
    """

    kind: str
    text: str


_TOKEN = re.compile(
    r"""
    \\text\s*\{(?P<text>[^{}]*)\}
  | \\begin\s*\{(?P<begin>[a-zA-Z]+\*?)\}
  | \\end\s*\{(?P<end>[a-zA-Z]+\*?)\}
  | \\mathbb\s*\{?\s*(?P<named>[A-Z])\s*\}?
  | (?P<number>\d+\{\.\}\d+|\d+(?:\.\d+)?[eE][+-]?\d+|\d+\.(?=\s*\\overline)|\d+(?:\.\d+)?|\.\d+)
  | (?P<row>\x02)
  | \\(?P<command>[a-zA-Z]+|[{}|&#_])
  | (?P<word>[A-Za-z]+)
  | (?P<space>\s+)
  | (?P<char>.)
    """,
    re.VERBOSE | re.DOTALL,
)

FUNCTIONS = frozenset(
    "sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan arccot arcsec arccsc log ln lg exp max min gcd lcm sgn re im abs "
    "floor ceil cis".split()
).union(named_functions.NAMES)
_ALIASES = {
    "Abs": "abs",
    **{alias: name for alias, name in named_functions.ALIASES.items() if alias not in named_functions.COMMANDS_ONLY},
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "Re": "re", "Im": "im", "tg": "tan", "ctg": "cot",
    "arctg": "arctan", "arcctg": "arccot",
    "ceil": "ceiling", "sign": "sgn",
}  # fmt: skip
_CONSTANTS = {"pi": "pi", "infty": "oo", "oo": "oo", "infinity": "oo", "inf": "oo", "imath": "i"}
_COMMAND_OPERATORS = {"times": "*", "cdot": "*", "div": "/", "pm": "pm", "mp": "mp"}
_RELATIONS = {"=": "=", "<": "<", ">": ">"}
_COMMAND_RELATIONS = {"le": "<=", "ge": ">=", "neq": "!=", "in": "in", "approx": "approx", "equiv": "equiv", "sim": "sim"}
_COMMAND_SETS = {"cup": "\\cup", "cap": "\\cap", "setminus": "\\setminus", "backslash": "\\setminus"}
_STRUCTURE = frozenset("frac sqrt binom overline bar vec hat tilde lfloor rfloor lceil rceil circ dollar".split())
_GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma tau upsilon phi varphi "
    "chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega ell hbar".split()
)
# Written without a backslash; shorter names of Greek letters are products, too.
_GREEK_WORDS = frozenset("alpha beta gamma delta epsilon theta lambda sigma omega rho phi Gamma Delta Theta Lambda Sigma Omega Phi".split())
_OPERATORS_BY_NAME = frozenset("det dim Pr rank deg arg ker tr mathbb angle triangle nabla".split())  # before what they are applied to
_DENYING = frozenset({"not", "no", "nor", "NaN", "nan"})
_SEPARATING = {"or": "or", "and": "and"}
_COMMAND_SEPARATORS = {"lor": "or", "vee": "or", "land": "and", "wedge": "and", "&": "and"}
_PUNCTUATION = frozenset({",", ";"})
# Abbreviations that are a unit when they stand behind a number; whoever means letters writes them with a product sign.
UNITS = frozenset("cm mm km kg mg ml mL kW kJ Hz kHz hr hrs min sec mph kmh km/h ft lb lbs oz yd mi rpm deg rad cc USD EUR GBP in".split())
KNOWN_WORDS = FUNCTIONS | _ALIASES.keys() | _CONSTANTS.keys() | _GREEK_WORDS | {"sqrt"}
MAX_LETTERS = 3  # a longer run of bare letters is a word, not a product


def tokenize(text: str) -> list[Token]:
    """The tokens of a normalised text.

    Raises:
        NotMath: a character or command that is not of the grammar.
        LimitExceeded: too many tokens.
    """
    tokens: list[Token] = []
    for match in _TOKEN.finditer(text):
        token = _FIXED.get(match[0])
        if token is not None:
            tokens.append(token)
        elif (kind := match.lastgroup) != "space" and kind:
            if kind == "word" and (pieces := _unglued(match, tokens)):
                for piece in pieces:
                    _word(piece, tokens)
            else:
                _READERS[kind](match[kind], tokens)
    check_count(len(tokens), MAX_TOKENS, "max_tokens")
    return tokens


def _unglued(match: re.Match[str], tokens: Sequence[Token]) -> tuple[str, ...] | None:
    """The pieces of a word that is no name by itself, by what stands around it."""
    word = match["word"]
    if len(word) <= 2 or word in KNOWN_WORDS or word in UNITS or (tokens and tokens[-1].kind == "text"):
        return None
    following = match.string[match.end() : match.end() + 1]
    counted = bool(tokens) and (tokens[-1].kind == "number" or tokens[-1] in (("op", "/"), ("op", "*")))
    return unglued(word, following in _ARGUMENT_STARTS, counted)


_SET_UPRIGHT = (
    named_functions.NAMES | named_functions.ALIASES.keys() - named_functions.COMMANDS_ONLY | {"arccot", "arcsec", "arccsc", "coth"}
)
_ARGUMENT_STARTS = ("(", "^", "_", *string.digits)
_LIST_WORDS = frozenset({", or", "; or", ",or"})


def _text(body: str, tokens: list[Token]) -> None:
    words = body.strip()
    if words.casefold() in _SEPARATING or words in _PUNCTUATION:
        tokens.append(Token("comma", words.casefold()))
    elif words[-3:] in _LIST_WORDS:
        tokens.append(Token("comma", words.split()[-1]))
    elif len(words) == 1 and words.isalpha() and words.isascii() and (not tokens or tokens[-1].kind in ("comma", "open", "relation")):
        tokens.append(Token("letter", words))  # a choice or a variable; behind a number it is a unit
    elif words in _SET_UPRIGHT and not (words == "arcsec" and tokens):  # behind a number it is a second of arc
        _command(words, tokens)
    elif words:
        tokens.append(Token("text", " ".join(words.split())))


def _word(word: str, tokens: list[Token]) -> None:
    if word in _SEPARATING:
        tokens.append(Token("comma", word))
    elif word in UNITS and tokens and tokens[-1].kind in ("number", "text"):
        tokens.append(Token("text", word))
    elif word in FUNCTIONS or word in _ALIASES:
        tokens.append(Token("function", _ALIASES.get(word, word)))
    elif word in _CONSTANTS:
        tokens.append(Token("constant", _CONSTANTS[word]))
    elif word in _DENYING:
        tokens.append(Token("text", word))
    elif word == "mod":
        tokens.append(Token("mod", word))
    elif word == "sqrt":
        tokens.append(Token("command", "sqrt"))
    elif word in _GREEK_WORDS:
        tokens.append(Token("letter", word))
    elif len(word) > MAX_LETTERS:
        tokens.append(Token("text", word))
    else:
        tokens.append(Token("run" if len(word) > 1 else "letter", word))


def _command(name: str, tokens: list[Token]) -> None:
    if name in FUNCTIONS or name in _ALIASES:
        tokens.append(Token("function", _ALIASES.get(name, name)))
    elif name in named_functions.COMMANDS_ONLY:
        tokens.append(Token("function", named_functions.ALIASES[name]))
    elif name in _CONSTANTS:
        tokens.append(Token("constant", _CONSTANTS[name]))
    elif name in _COMMAND_OPERATORS:
        sign = _COMMAND_OPERATORS[name]
        tokens.append(Token("pm" if sign in ("pm", "mp") else "op", sign))
    elif name in _COMMAND_RELATIONS:
        tokens.append(Token("relation", _COMMAND_RELATIONS[name]))
    elif name in _COMMAND_SETS:
        tokens.append(Token("setop", _COMMAND_SETS[name]))
    elif name in _GREEK:
        tokens.append(Token("letter", name))
    elif name in _COMMAND_SEPARATORS:
        tokens.append(Token("comma", _COMMAND_SEPARATORS[name]))
    elif name == "bmod":
        tokens.append(Token("mod", name))
    elif name in ("{", "}"):
        tokens.append(Token("open" if name == "{" else "close", "\\" + name))
    elif name == "emptyset":
        tokens.append(Token("named", "emptyset"))
    elif name in ("langle", "rangle"):
        tokens.append(Token("open", "(") if name == "langle" else Token("close", ")"))
    elif name in _STRUCTURE:
        tokens.append(Token("command", name))
    elif name in _OPERATORS_BY_NAME:
        tokens.append(Token("text", name))
    else:
        raise NotMath(f"command {name}")


def _char(char: str, tokens: list[Token]) -> None:
    if char in "([{":
        tokens.append(Token("open", char))
    elif char in ")]}":
        tokens.append(Token("close", char))
    elif char in ",;":
        tokens.append(Token("comma", char))
    elif char in _RELATIONS:
        tokens.append(Token("relation", char))
    elif char in "+-*/^_!|:'&%":
        tokens.append(Token("op", char))
    else:
        raise NotMath(f"character {char!r}")


def _as(kind: str, text: str | None = None) -> Callable[[str, list[Token]], None]:
    return lambda found, tokens: tokens.append(Token(kind, found if text is None else text))


_READERS: dict[str, Callable[[str, list[Token]], None]] = {
    "text": _text,
    "word": _word,
    "command": _command,
    "char": _char,
    "begin": _as("begin"),
    "end": _as("end"),
    "named": _as("named"),
    "number": lambda found, tokens: tokens.append(Token("number", found.replace("{.}", "."))),
    "row": _as("op", "\\\\"),
}


def _fixed() -> dict[str, Token]:
    """What is the same token wherever it stands: signs, letters, commands without arguments."""
    found: list[Token] = []
    lexemes = [*"([{)]},;=<>+-*/^_!|:'&%", *string.ascii_letters, *(f"\\{name}" for name in (*_FIXED_COMMANDS, "{", "}"))]
    for lexeme in lexemes:
        reader = _command if lexeme[0] == "\\" else _word if lexeme.isalpha() else _char
        reader(lexeme.removeprefix("\\"), found)
    return dict(zip(lexemes, found, strict=True))


_FIXED_COMMANDS = (*_STRUCTURE, *_COMMAND_OPERATORS, *_COMMAND_RELATIONS, *_COMMAND_SETS, *_CONSTANTS, *_GREEK, *FUNCTIONS)
_FIXED = _fixed()


def split(tokens: Sequence[Token], at: Callable[[Token], bool]) -> tuple[list[Sequence[Token]], list[Token]]:
    """Cut at the top-level tokens that `at` accepts; the parts, and the tokens between them."""
    if not any(map(at, tokens)):
        return [tokens], []
    parts: list[Sequence[Token]] = []
    cuts: list[Token] = []
    depth = start = 0
    for index, token in enumerate(tokens):
        if token.kind in ("open", "begin"):
            depth += 1
        elif token.kind in ("close", "end"):
            depth -= 1
            if depth < 0:
                raise NotMath("closed before opened")
        elif depth == 0 and at(token):
            parts.append(tokens[start:index])
            cuts.append(token)
            start = index + 1
    if depth:
        raise NotMath("never closed")
    parts.append(tokens[start:])
    check_count(len(parts), MAX_ITEMS, "max_items")
    return parts, cuts


def closes_last(tokens: Sequence[Token]) -> bool:
    """Whether the bracket that opens the tokens is closed by the last of them."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind in ("open", "begin")) - (token.kind in ("close", "end"))
        if depth == 0:
            return index == len(tokens) - 1
    return False
