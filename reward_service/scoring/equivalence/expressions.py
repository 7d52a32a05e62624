"""Read one expression from tokens: recursive descent, one token of look-ahead, depth bounded by `limits.MAX_NESTING`."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

from reward_service.scoring.equivalence import named_functions
from reward_service.scoring.equivalence.conjugates import conjugate
from reward_service.scoring.equivalence.forms import Apply, Constant, Expression, Number, Power, Product, Sum, Variable
from reward_service.scoring.equivalence.limits import MAX_DEPTH, MAX_DIGITS, MAX_NUMERAL_CHARS, MAX_POSTFIX_RUN, MAX_TOKENS, check_count
from reward_service.scoring.equivalence.tokens import NotMath, Token

MINUS_ONE = Number(Fraction(-1))
HALF = Number(Fraction(1, 2))
_END = Token("end_of_text", "")
_PADDING = (_END,) * 10  # as far as anything here looks ahead
_SIGNS = ("+", "-")
_CLOSES = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "lfloor": "rfloor", "lceil": "rceil"}
_SKIPPED = frozenset({"op", "open", "close", "command", "comma"})
_ATOM_KINDS = frozenset({"number", "letter", "constant", "function"})
_ATOM_COMMANDS = frozenset({"frac", "sqrt", "binom", "overline", "bar", "vec", "hat", "tilde", "lfloor", "lceil"})
_INVERSES = {
    "sin": "arcsin",
    "cos": "arccos",
    "tan": "arctan",
    "cot": "arccot",
    "sec": "arcsec",
    "csc": "arccsc",
    **named_functions.INVERSES,
}
_FUNCTION_LETTERS = frozenset("fghpquvyABCDFGHIMNPQRSTUVWXYZ")  # `x(2)`, `k(2)`, `r(2)` are products
_MAX_ARGUMENT_TOKENS = 6
_NUMERIC_ARGUMENT = re.compile(r"-?\d+(?:\.\d+)?")
_CALLED_WITH_LETTERS = re.compile(r"-[a-z]|-?\d+[a-z]|[fgh]\([a-z]\)")  # `f(1 + v)` and `h(a + b)` may be products
_CLOSE = Token("close", ")")
_MANY = frozenset({"max", "min", "gcd", "lcm"})
_UNIT_VECTORS = (Constant("i"), Variable("j"), Variable("k"))
_ACCENTS = frozenset({"overline", "bar", "vec", "hat", "tilde"})


def read_expression(tokens: Sequence[Token]) -> Expression:
    """The tree of a whole token sequence.

    Raises:
        NotMath: it is not one expression.
        LimitExceeded: a number too long.
    """
    letters: Sequence[Token] = tokens
    if any(token.kind == "run" for token in tokens):
        letters = [Token("letter", text) if token.kind == "run" else token for token in tokens for text in _letters(token)]
    check_count(len(letters), MAX_TOKENS, "max_tokens")
    reader = _Reader(letters)
    tree = reader.sum()
    if reader.peek() is not _END:
        raise NotMath("text after the expression")
    return tree


def _letters(token: Token) -> Sequence[str]:
    return token.text if token.kind == "run" else (token.text,)


@functools.lru_cache(maxsize=4096)
def number_of(digits: str) -> Number:
    """The exact value of a decimal numeral."""
    check_count(len(digits), MAX_NUMERAL_CHARS, "max_digits")
    if digits.isdigit() and digits.isascii():
        return Number(Fraction(int(digits)))
    mantissa, _, exponent = digits.lower().partition("e")
    check_count(len(exponent), 4, "max_digits")
    power = int(exponent or 0)
    check_count(abs(power), MAX_DIGITS, "max_digits")
    return Number(Fraction(mantissa) * Fraction(10) ** power)


class _Reader:
    """Where we are in the tokens."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = [*tokens, *_PADDING]
        self._at = 0
        self._written_twice = 0
        self._bars = 0
        self._depth = 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or the end."""
        return self._tokens[self._at + ahead]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        if token is not _END:
            self._at += 1
        return token

    def _skip(self, text: str) -> bool:
        token = self._tokens[self._at]
        if token.text == text and token.kind in _SKIPPED:
            self._at += 1
            return True
        return False

    def _at_sign(self) -> bool:
        token = self._tokens[self._at]
        return token.text in _SIGNS and token.kind == "op"

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            raise NotMath(f"no {text}")

    def sum(self) -> Expression:
        """Terms joined by signs."""
        terms = [self._product()]
        while self._at_sign():
            negative = self._take().text == "-"
            term = self._product()
            terms.append(Product((MINUS_ONE, term)) if negative else term)
        return terms[0] if len(terms) == 1 else Sum(tuple(terms))

    def _product(self) -> Expression:
        factors = [self._signed()]
        while True:
            token = self._tokens[self._at]
            if token.kind == "op" and token.text in "*/":
                self._at += 1
                factor = self._signed()
                factors.append(factor if token.text == "*" else Power(factor, MINUS_ONE))
            elif self._starts_atom(token):
                factors.append(self._juxtaposed(factors))
            else:
                return factors[0] if len(factors) == 1 else Product(tuple(factors))

    def _juxtaposed(self, factors: list[Expression]) -> Expression:
        before, token = self._tokens[self._at - 1], self.peek()
        if token.kind == "number" and before.kind == "number" and factors and isinstance(factors[-1], Number):
            raise NotMath("two numbers side by side")
        if token.kind == "number" and token.text[0] == "0" and before.kind == "letter" and len(before.text) == 1:
            raise NotMath("a letter and a zero")
        return self._power()

    def _signed(self) -> Expression:
        negative = False
        while self._at_sign():
            negative ^= self._take().text == "-"
        value = self._power()
        return Product((MINUS_ONE, value)) if negative else value

    def _power(self) -> Expression:
        base = self._mixed_number() or self._postfix(self._atom())
        if self._skip("^"):
            return self._postfix(Power(base, self._exponent()))
        return base

    def _exponent(self) -> Expression:
        if self._at_sign():
            negative = self._take().text == "-"
            if self._at_sign():
                raise NotMath("several signs before an exponent")
            value = self._exponent()
            return Product((MINUS_ONE, value)) if negative else value
        value = self._atom()
        return Power(value, self._exponent()) if self._skip("^") else value

    def _postfix(self, value: Expression) -> Expression:
        for count in itertools.count():
            check_count(count, MAX_POSTFIX_RUN, "max_postfix_run")
            if self._skip("!"):
                value = Apply("factorial", (value,))
            elif self.peek() == ("op", "^") and self.peek(1) == ("command", "circ"):
                self._at += 2
                value = Product((value, Constant("deg")))
            elif self._skip("%"):
                if self._starts_atom(self.peek()):
                    raise NotMath("a factor behind a percent sign")
                value = Product((value, Number(Fraction(1, 100))))
            else:
                break
        return value

    def _mixed_number(self) -> Expression | None:
        r"""`2\frac{1}{2}` and `2 1/2`: a whole number before a proper fraction of plain numbers."""
        whole = self.peek()
        if whole.kind != "number" or not whole.text.isdigit():
            return None
        if self.peek(1) == ("command", "frac"):
            parts = [self.peek(ahead) for ahead in range(2, 8)]
            shape = [token.text for token in (parts[0], parts[2], parts[3], parts[5])]
            pair, length = (parts[1], parts[4]), 8
            if shape != ["{", "}", "{", "}"]:
                return None
        elif self.peek(1).kind == "number" and self.peek(2).text == "/":
            pair, length = (self.peek(1), self.peek(3)), 4
        else:
            return None
        if not all(token.kind == "number" and token.text.isdigit() for token in pair):
            return None
        top, bottom = int(pair[0].text), int(pair[1].text)
        if not 0 < top < bottom:
            return None
        self._at += length
        return Number(Fraction(int(whole.text)) + Fraction(top, bottom))

    def _starts_atom(self, token: Token) -> bool:
        kind, text = token
        if kind in _ATOM_KINDS:
            return True
        if text == "|" and kind == "op":
            return self._bars == 0
        return (kind == "command" and text in _ATOM_COMMANDS) or text in ("(", "[", "{")

    def _atom(self) -> Expression:
        self._depth += 1
        check_count(self._depth, MAX_DEPTH, "max_nesting")
        value = self._bare_atom()
        self._depth -= 1
        return value

    def _bare_atom(self) -> Expression:
        token = self._take()
        match token.kind:
            case "number":
                return self._numeral(token.text)
            case "constant":
                return Constant(token.text)
            case "letter":
                return self._letter(token.text)
            case "function":
                return self._function(token.text)
            case "open" if token.text in ("(", "[", "{"):
                return self._until(_CLOSES[token.text])
            case "op" if token.text == "|":
                return self._absolute()
            case "command" if token.text in _ATOM_COMMANDS:
                return self._command(token.text)
        raise NotMath(f"unexpected {token.text or 'end'}")

    def _until(self, close: str) -> Expression:
        bars, self._bars = self._bars, 0
        value = self.sum()
        self._bars = bars
        self._expect(close)
        return value

    def _absolute(self) -> Expression:
        self._bars += 1
        value = self.sum()
        self._expect("|")
        self._bars -= 1
        return Apply("abs", (value,))

    def _numeral(self, digits: str) -> Expression:
        if digits.endswith(".") or (self.peek() == ("command", "overline") and "." in digits):
            return self._repeating(digits)
        return number_of(digits)

    def _repeating(self, digits: str) -> Expression:
        r"""`0.1\overline{6}`."""
        self._expect("overline")
        self._expect("{")
        period = self._take()
        self._expect("}")
        if period.kind != "number" or not period.text.isdigit():
            raise NotMath("no period")
        places = len(digits.partition(".")[2])
        tail = Fraction(int(period.text), (10 ** len(period.text) - 1) * 10**places)
        return Number(Fraction(digits.rstrip(".")) + tail)

    def _letter(self, letter: str) -> Expression:
        if letter in ("e", "i") and self.peek() != ("op", "_"):
            return Constant(letter)
        name = letter + self._subscript() + self._primes()
        return Variable(name + self._called_with(letter))

    def _called_with(self, letter: str) -> str:
        """`(0)` or `(2x)` behind a function's letter, with which it is one name: the value of a function there is no product."""
        if self.peek() != ("open", "("):
            return ""
        inside = self._tokens[self._at + 1 : self._at + 1 + _MAX_ARGUMENT_TOKENS]
        last = next((index for index, token in enumerate(inside) if token.text == ")" and inside[index + 1 :][:1] != [_CLOSE]), 0)
        argument = "".join(token.text for token in inside[:last])
        if _NUMERIC_ARGUMENT.fullmatch(argument):
            called = letter in _FUNCTION_LETTERS or (argument == "0" and letter.isalpha())
        else:
            called = letter in "fgh" and _CALLED_WITH_LETTERS.fullmatch(argument) is not None
        if not called:
            return ""
        self._at += last + 2
        return f"({argument})"

    def _subscript(self) -> str:
        if not self._skip("_"):
            return ""
        if not self._skip("{"):
            token = self._take()
            if token.kind not in ("number", "letter"):
                raise NotMath("bad subscript")
            return "_" + token.text
        parts: list[str] = []
        while not self._skip("}"):
            token = self._take()
            if token is _END or token.kind in ("open", "close"):
                raise NotMath("bad subscript")
            parts.append(token.text)
        return "_" + "".join(parts)

    def _primes(self) -> str:
        primes = ""
        while self._skip("'"):
            primes += "'"
        return primes

    def _command(self, name: str) -> Expression:
        if name == "frac":
            top, bottom = self._argument(), self._argument()
            return Product((top, Power(bottom, MINUS_ONE)))
        if name == "binom":
            return Apply("binomial", (self._argument(), self._argument()))
        if name == "sqrt":
            return self._root()
        if name in _ACCENTS:
            inner = self._argument()
            if name in ("hat", "vec") and inner in _UNIT_VECTORS:
                return inner
            if name in ("overline", "bar") and (mirrored := conjugate(inner)):
                return mirrored
            if not isinstance(inner, Variable):
                raise NotMath("accent over more than a letter")
            return Variable(f"{'bar' if name == 'overline' else name}_{inner.name}")
        return Apply("floor" if name == "lfloor" else "ceiling", (self._until(_CLOSES[name]),))

    def _root(self) -> Expression:
        degree: Expression | None = None
        if self._skip("["):
            degree = self._until("]")
        radicand = self._argument()
        if degree is None:
            return Power(radicand, HALF)
        if isinstance(degree, Number):
            if degree.value == 0:
                raise NotMath("root of degree 0")
            return Power(radicand, Number(1 / degree.value))
        return Power(radicand, Power(degree, MINUS_ONE))

    def _argument(self) -> Expression:
        r"""What follows a command: a group, or a single digit or letter (`\frac12`, `\sqrt3`); plain `sqrt(2)` too."""
        token = self.peek()
        if token.kind == "number" and len(token.text) > 1 and token.text.isdigit():
            halves = [Token("number", token.text[0]), Token("number", token.text[1:])]
            self._tokens = [*self._tokens[: self._at], *halves, *self._tokens[self._at + 1 :]]
        return self._atom()

    def _function(self, name: str) -> Expression:
        base = self._log_base(name)
        power: Expression | None = self._exponent() if self._skip("^") else None
        base = base or self._log_base(name)
        if name in _MANY:
            return Apply(name, self._arguments())
        if isinstance(power, Product) and power == Product((MINUS_ONE, Number(Fraction(1)))) and name in _INVERSES:
            name, power = _INVERSES[name], None
        self._written_twice += name in named_functions.REPEATING
        if self._written_twice > named_functions.MAX_REPEATING:
            raise NotMath("functions within one another that write their argument twice")
        argument = self._function_argument()
        self._written_twice -= name in named_functions.REPEATING
        value = named_functions.applied(name, base, argument)
        return Power(value, power) if power is not None else value

    def _log_base(self, name: str) -> Expression | None:
        if name == "log" and self._skip("_"):
            token = self.peek()
            return self._argument() if token.kind in ("number", "letter", "constant") or token.text == "{" else None
        return None

    def _function_argument(self) -> Expression:
        if self.peek().text in ("(", "{", "["):
            return self._postfix(self._atom())
        negative = self._skip("-")
        factors: list[Expression] = []
        while self._starts_atom(self.peek()) and self.peek().kind != "function" and (not factors or self.peek().text not in ("(", "[")):
            factors.append(self._juxtaposed(factors))
        if not factors and self.peek().kind == "function":
            factors.append(self._power())  # `\\sin\\cos x`
        if not factors:
            raise NotMath("function without argument")
        value = factors[0] if len(factors) == 1 else Product(tuple(factors))
        return Product((MINUS_ONE, value)) if negative else value

    def _arguments(self) -> tuple[Expression, ...]:
        close = _CLOSES["\\{" if self._skip("\\{") else "("]
        if close == ")":
            self._expect("(")
        arguments = [self.sum()]
        while self._skip(","):
            arguments.append(self.sum())
        self._expect(close)
        return tuple(arguments)
