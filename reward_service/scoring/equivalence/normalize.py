r"""Light normalisation of an answer's notation: what LaTeX and Unicode write differently and readers see as the same.

`\left(\dfrac{1}{2},\,\text{cm}\right)` becomes `(\frac{1}{2}, \text{cm})`. Nothing here changes a value; look-alike letters of other
scripts are left as they are, so that they equal nothing. All patterns are linear.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from reward_service.scoring.equivalence.customs import rewritten
from reward_service.scoring.equivalence.layouts import in_one_line, unit_in_one_piece, with_unit_words
from reward_service.scoring.equivalence.measures import measured

_CHARS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2013\u2010\u2011\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000\t\r\n", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u2061\u2062", ""),
        **dict.fromkeys("\u00d7\u2a2f", r"\times "),
        **dict.fromkeys("\u00b7\u22c5\u2219", r"\cdot "),
        **dict.fromkeys("\u2018\u2019\u2032", "'"),
        **dict.fromkeys("\u201c\u201d", '"'),
        "\u00f7": r"\div ", "\u221a": r"\sqrt ", "\u221e": r"\infty ", "\u2264": r"\le ", "\u2265": r"\ge ", "\u2260": r"\neq ",
        "\u2a7d": r"\le ", "\u2a7e": r"\ge ", "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2208": r"\in ", "\u00b1": r"\pm ",
        "\u2213": r"\mp ", "\u00b0": r"^\circ ", "\u2248": r"\approx ", "\u2205": r"\emptyset ", "\u211d": r"\mathbb{R}",
        "\u2124": r"\mathbb{Z}", "\u211a": r"\mathbb{Q}", "\u2115": r"\mathbb{N}", "\u2102": r"\mathbb{C}", "\u2215": "/", "\u2044": "/",
        "\u03c0": r"\pi ", "\u03b8": r"\theta ", "\u03b1": r"\alpha ", "\u03b2": r"\beta ", "\u03b3": r"\gamma ", "\u03bb": r"\lambda ",
        "\u03bc": r"\mu ", "\u03c6": r"\phi ", "\u03c9": r"\omega ", "\u03c3": r"\sigma ", "\u03c1": r"\rho ", "\u03c4": r"\tau ",
        "\u03a9": r"\Omega ", "\u2126": r"\Omega ",
        "\u00bd": r"\frac{1}{2}", "\u2153": r"\frac{1}{3}", "\u2154": r"\frac{2}{3}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}",
        "\u221b": r"\sqrt[3]", "\u221c": r"\sqrt[4]",
        "\u00ba": r"^\circ ", "\u02da": r"^\circ ", "\u00a2": r"\text{cent}", "\u00a5": r"\text{yen}",
        "\u20ac": r"\text{euro}", "\u00a3": r"\text{pound}",
    }
)  # fmt: skip
_RADICALS = re.compile("([\u221a\u221b\u221c]) ?([0-9]+(?:\\.[0-9]+)?)")  # the sign stands for the whole number, unlike `\sqrt 13`
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_FULL_WIDTH = re.compile("[\uff01-\uff5e\U0001d400-\U0001d7ff]")
ROW_END = "\x02"
_FUNCTIONS = "sin|cos|tan|cot|csc|sinh|cosh|tanh|arcsin|arccos|arctan|arctg|arcctg|log|ln|lg|exp|gcd|lcm|tg|ctg|cis|abs|floor|ceil"
_SPACES_BY_NAME = "q?quad|mathstrut|nonumber|notag|(?:neg)?(?:thin|med|thick)?space|enspace"
_PHANTOM_SIZES = "large|Large|LARGE|huge|Huge|small|tiny|normalsize|footnotesize|displaystyle|textstyle|scriptstyle|limits|nolimits"
# A rule is tried only where one of its needles stands in the text: most answers hold none of them.
_RULES: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = tuple(
    (needles, re.compile(pattern), replacement)
    for needles, pattern, replacement in (
        (("\\left", "\\right"), r"\\(?:left|right)\s*\.", ""),
        (("\\",), r"\\(?:left|right|middle|bigg?[lrm]?|Bigg?[lrm]?|" + _PHANTOM_SIZES + r")(?![A-Za-z])", ""),
        (("phantom",), r"\\[hv]?phantom\s*\{[^{}]*\}", " "),
        (("olor",), r"\\(?:text|math)?color\s*\{[^{}]*\}", ""),
        (("\\rm ", "\\bf ", "\\it ", "\\sf ", "\\tt "), r"\{\s*\\(?:rm|bf|it|sf|tt) ([^{}]*)\}", r"\\text{\1}"),
        (("\\rm", "\\bf", "\\it", "\\bo"), r"\\(?:rm|bf|it|boldmath)(?![A-Za-z])", ""),
        (("\\check", "\\there", "\\ldotp", "\\qed"), r"\\(?:checkmark|therefore|ldotp|qed)(?![A-Za-z])", ""),
        (("frac",), r"\\(?:dfrac|tfrac|cfrac|sfrac|nicefrac)(?![A-Za-z])", r"\\frac"),
        (("\\frac",), r"\\frac\s*(\d)\s*(?=[\d{\\A-Za-z])", r"\\frac{\1}"),
        (("\\frac",), r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (("\\frac",), r"(?<=\d)\{(\\frac\s*\{\d+\}\s*\{\d+\})\}", r"\1"),
        (("binom",), r"\\(?:dbinom|tbinom)(?![A-Za-z])", r"\\binom"),
        (("\\math", "\\bold"), r"\\(?:mathbf|boldsymbol)\s*\{\s*R\s*\}(?=\s*(?:$|\\setminus|\\backslash|-))", r"\\mathbb{R}"),
        (("\\Bbb",), r"\\Bbb(?![A-Za-z])", r"\\mathbb"),
        (
            ("\\math", "\\bold", "\\bm", "\\pmb", "\\ensure", "\\under", "\\smash", "\\unit"),
            r"\\(?:mathbf|boldsymbol|bm|mathit|pmb|mathsf|mathtt|mathcal|ensuremath|underline|smash)(?![A-Za-z])\s*(?=\{)",
            "",
        ),
        (("\\math",), r"\\math(?:bin|rel|ord|open|close|punct)\s*\{([^{}]*)\}", r" \1 "),
        (("\\operatorname", "\\math", "\\text"), r"\\(?:operatorname\*?|mathrm|text|mathop)\s*\{\s*(" + _FUNCTIONS + r")\s*\}", r"\\\1 "),
        (("\\operatorname",), r"\\operatorname\*?\s*\{\s*(min|max|sec|sgn|lcm|abs)\s*\}", r"\\\1 "),
        (
            ("\\text", "\\emph", "\\math", "box", "\\operatorname"),
            r"\\(?:text(?:bf|it|rm|up|normal|sf|tt|sc)|emph|mathrm|mbox|hbox|operatorname\*?|mathop)(?![A-Za-z])\s*(?=\{)",
            r"\\text",
        ),
        (("box",), r"^((?:(?!\\f?box).)*)\\(?:boxed|fbox)\s*(?=\{)(?!.*\\f?box)", r"\1"),
        (("{,", "\\!"), r"(?<=\d) ?(?:\{, ?\}(?:\\!)?|, ?\\!) ?(?=\d{3}(?!\d))", ""),
        (("{,}",), r"(?<=\d)\{,\}(?=\d)", "."),  # a decimal comma: what groups digits has three of them behind it
        (("\\", "~"), r"(?<=\d)(?:\\[ ,;:]|~)(?=\d{3}(?!\d))", ""),
        (("\\!",), r"\\!", ""),
        (("quad",), r"(?<=\))\s*\\q?quad\s*(?=\()", ", "),
        (
            ("\\", "~"),
            r"\\(?:[ ,;:>/]|(?:" + _SPACES_BY_NAME + r")(?![A-Za-z])|[hv]space\*?\{[^{}]*\})|~",
            " ",
        ),
        (("\\$", "\\textdollar"), r"\\text\s*\{\s*\\\$\s*\}", r"\\$"),
        (("\\$", "\\textdollar"), r"\\(?:\$|textdollar(?![A-Za-z]))", r"\\dollar "),
        (("\\cent",), r"\\cents?(?![A-Za-z])", r"\\text{cent}"),
        (("\\[", "\\]", "\\(", "\\)", "$"), r"\\[()\[\]](?!\s*\d+(?:pt|em|ex|mm))|\$", " "),
        (("degree",), r"\\(?:text)?degrees?(?![A-Za-z])", r"^\\circ "),
        (("\\circ",), r"\^\s*\{\s*\\circ\s*\}|\\text\s*\{\s*\^\\circ\s*\}", r"^\\circ "),
        (("o",), r"(?<=[\d)}])\s*\^\s*(?:\{\s*)?(?:o(?![A-Za-z])|\\text\s*\{\s*o\s*\})(?:\s*\})?\s*(?=$|[,;)\]\\])", r"^\\circ "),
        (("\\leq",), r"\\(?:leqslant|leqq|leq)(?![A-Za-z])", r"\\le "),
        (("\\geq",), r"\\(?:geqslant|geqq|geq)(?![A-Za-z])", r"\\ge "),
        (("\\ne", "\\not"), r"\\(?:ne|not\s*=)(?![A-Za-z])", r"\\neq "),
        (("\\l",), r"\\(?:lbrace)(?![A-Za-z])", r"\\{"),
        (("\\r",), r"\\(?:rbrace)(?![A-Za-z])", r"\\}"),
        (("\\l",), r"\\(?:lbrack)(?![A-Za-z])", "["),
        (("\\r",), r"\\(?:rbrack)(?![A-Za-z])", "]"),
        (("\\l",), r"\\lparen(?![A-Za-z])", "("),
        (("\\r",), r"\\rparen(?![A-Za-z])", ")"),
        (("\\lvert", "\\rvert", "\\vert", "\\mid"), r"\\(?:lvert|rvert|vert|mid)(?![A-Za-z])", "|"),
        (("\\ast", "\\cdotp", "\\bullet"), r"\\(?:ast|cdotp|bullet)(?![A-Za-z])", r"\\cdot "),
        (("\\varnothing", "\\O"), r"\\(?:varnothing|O)(?![A-Za-z])", r"\\emptyset "),
        (("\\big",), r"\\big(cup|cap)(?![A-Za-z])", r"\\\1"),
        (("U",), r"(?<=[)\]}])\s*U\s*(?=[(\[\\])", r"\\cup "),
        (("pct", "per cent"), r"(?<=[\d)}]) ?(?:pct|per cent)$", "%"),
        (("%",), r"\\(?:percent|%)(?![A-Za-z])|\\text\s*\{\s*\\?%\s*\}", "%"),
        (("\\colon",), r"\\(?:colon)(?![A-Za-z])", ":"),
        (("\\lt",), r"\\(?:lt)(?![A-Za-z])", "<"),
        (("\\gt",), r"\\(?:gt)(?![A-Za-z])", ">"),
        (("<=", "=<"), r"<=|=<", r"\\le "),
        ((">=",), r">=", r"\\ge "),
        (("!=", "/=", "\\not\\in", "\\notin"), r"!=|=?/=|\\not\\in(?![A-Za-z])", r"\\neq "),
        (("==",), r"==", "="),
        (("**",), r"\*\*", "^"),
        (("+/-",), r"\+/-", r"\\pm "),
        (("\\surd",), r"\\surd(?![A-Za-z])", r"\\sqrt "),
        (("\\Omega",), r"\\text\s*\{ ?([kM]?) ?\\Omega ?\}", r" \1 \\Omega"),
        (("\\root",), r"\\root\s*\{?\s*(\w+)\s*\}?\s*\\of(?![A-Za-z])", r"\\sqrt[\1]"),
        (("\\overline",), r"\\overline\s*\{\s*([A-Z]{2})\s*\}", r"\1"),
        (("^T", "\\top", "^{T", "^{\\"), r"(?<=[)\]])\s*\^\s*\{?\s*(?:T|\\top|\\text\s*\{\s*T\s*\})\s*\}?$", ""),
        ((" x 10",), r"(?<=\d) x (?=10 ?\^)", r" \\times "),
        (("\\text",), r"\\text\s*\{\s*\\?&\s*\}", r"\\text{and}"),
        (("cbrt",), r"(?<![A-Za-z\\])cbrt(?=\()", r"\\sqrt[3]"),
        (("\\bar", "\\dot", "\\overline"), r"(?<![\d.])(\d*\.\d*)\\(?:bar|dot|overline)\s*\{\s*(\d+)\s*\}", r"0\1\\overline{\2}"),
        ((".(",), r"(?<![\d.])(\d+\.)\((\d+)\)", r"\1\\overline{\2}"),
        (("mod",), r"\(\s*(?:\\text\s*\{\s*)?mod(?:\s*+\}\s*+|\s++)([^()]*+)\)", r"\\bmod \1"),
        (("\\pmod", "\\mod"), r"\\p?mod(?![A-Za-z])", r"\\bmod "),
        (("\\text",), r"\\text\s*\{\s*mod\s*\}", r"\\bmod "),
        (("\\angle",), r"m?\s*\\angle\s*([A-Z]{1,3})(?=\s*=)", r"\\text{angle \1}"),
        (("\\text",), r"\\text\s*\{\s*\}", " "),
        # Plain content in a text command is the content: \text{5}, \mathrm{e}; a lone letter or (C) only if nothing stands beside it.
        (("\\text",), r"\\text\s*\{\s*([ei]|[-+]?\d[\d.,]*)\s*\}", r" \1 "),
        (("\\text",), r"\\text\s*\{([A-Za-z /]+)\^\s*(?:\{(-?\d)\}|(-?\d))\s*\}", r"\\text{\1}^{\2\3}"),
        (("\\text",), r"\\frac\s*\{\s*\\text\s*\{([^{}]*)\}\s*\}\s*\{\s*\\text\s*\{([^{}]*)\}\s*\}", r"\\text{\1/\2}"),
        (("\\text",), r"^\s*\\text\s*\{\s*(\(?[A-Za-z]\)?)\s*\}\s*$", r"\1"),
        (("sq",), r"(?<![A-Za-z])sq\. ?(?=[a-z])", "square "),
        (("cu",), r"(?<![A-Za-z])cu\. ?(?=[a-z])", "cubic "),
        (("\\choose",), r"\{([^{}\\]*)\\choose(?![A-Za-z])([^{}\\]*)\}", r"\\binom{\1}{\2}"),
        (("\\over",), r"\{([^{}\\]*)\\over(?![A-Za-z])([^{}\\]*)\}|^([^{}\\]*)\\over(?![A-Za-z])([^{}\\]*)$", r"\\frac{\1\3}{\2\4}"),
        (("dots", "..."), r"\\[lc]?dots(?![A-Za-z])|(?<!\.)\.{3,}+(?=\s*(?:,|$))", r"\\ldots "),
        (("\\_",), r"\\_", "_"),
        (("{:}",), r"\{:\}", ":"),
        (("or", "and"), r"(?<=[\d)])(or|and)(?=[a-z] ?[<>=\\])", r" \1 "),
        (("{}", "{ }"), r"(?<![\\A-Za-z}\])^_])\{ ?\}(?! ?[_^])", ""),
        (("{-}", "{+}"), r"(?<![\^_ ])\{([-+])\}", r"\1"),
        (("\\frac{d", "\\frac{ d"), r"\\frac ?\{ ?(?:d|\\mathrm ?\{d\}) ?([a-zA-Z]) ?\} ?\{ ?(?:d|\\mathrm ?\{d\}) ?[xt] ?\}", r"\1'"),
        (("\\partial",), r"\\frac ?\{ ?\\partial ?([a-zA-Z]) ?\} ?\{ ?\\partial ?([a-zA-Z]) ?\}", r"\1_\2"),
        (("\\prime",), r"\\prime(?![A-Za-z]) ?", "'"),
        (("^{'", "^'", "^ '", "^ {'"), r"\^ ?(?:\{('{1,3})\}|('))", r"\1\2"),
        (("^{",), r"\^\{\s*\}", ""),
        (("'",), r"(?<=\d)\s*''$", r"\\text{ inch}"),
        ((ROW_END,), ROW_END + r"\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm)\s*\]", ROW_END),
        (("  ",), r" {2,}", " "),
    )
)
_PLAIN_RULES = tuple(rule for rule in _RULES if any("\\" not in needle and needle.isascii() for needle in rule[0]))
_SPACES = re.compile(" {2,}")
_EDGES = " .,;:"


def normalize(text: str) -> str:
    """The same answer in one notation. Idempotent but for its work on edges."""
    if not (text.isascii() and text.isprintable()):
        text = _RADICALS.sub(r"\1{\2}", text).translate(_CHARS)
    text = (_SPACES.sub(" ", text) if "  " in text else text).strip()
    text = _without_markdown(text) if text[:1] in _MARKDOWN_SIGNS else text
    if not text.isascii():
        text = _FULL_WIDTH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
        text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
        text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}", text)
    # A row end of a matrix must not be taken for an escaped space; elsewhere a doubled backslash is an escaped single one.
    if "\\" in text:
        text = _ruled(_with_row_ends(in_one_line(text)))
        text = unit_in_one_piece(with_unit_words(text))
    else:
        text = _ruled(text)
    text = text.strip(' "')
    while text.endswith(("\\", *".,;:")) or text.startswith((",", ";", ":")):
        text = text.rstrip("\\" + _EDGES).lstrip(" ,;:")
    return "" if text == r"\ldots" else rewritten(text)


_SIMPLE = re.compile(
    r"(?:[0-9A-Za-z+\-*/^(){}=, .<>|_\[\]!]|\\frac(?=\{)|\\sqrt(?=[{\[])|\\text\{ ?(?!arc|sin|cos|tan|floor|ceil)[a-z]{4,}\}"
    r"|\\(?:pi|cdot|times|le|ge|infty|cup|theta|alpha|beta|sin|cos|tan|ln|log|pm|[{}])(?![A-Za-z]))*+"
)
_DELIMITERS = (("\\left(", "("), ("\\right)", ")"), ("\\left[", "["), ("\\right]", "]"), ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"))


def _ruled(text: str) -> str:
    """The text after all rules; what is written in the grammar's own notation meets only those that need no backslash."""
    rules = _PLAIN_RULES
    if "\\" in text:
        if "\\left" in text or "\\right" in text or "frac" in text:
            for written, meant in _DELIMITERS:
                text = text.replace(written, meant)
        rules = _PLAIN_RULES if _SIMPLE.fullmatch(text) and "{\\frac" not in text and "{\\text" not in text and "{d" not in text else _RULES
    for needles, pattern, replacement in rules:
        for needle in needles:
            if needle in text:
                text = pattern.sub(replacement, text)
                break
    return text


_OLD_MATRIX = re.compile(r"^\s*\\([pb]?matrix)\s*\{(.*)\}\s*$", re.DOTALL)


def _with_row_ends(text: str) -> str:
    old = _OLD_MATRIX.match(text)
    if old:
        text = rf"\begin{{{old[1]}}}{old[2]}\end{{{old[1]}}}"
    if "\\begin" not in text:
        return text.replace(r"\\", "\\")
    return re.sub(r"\\(?:cr|newline)(?![A-Za-z])", ROW_END, text.replace(r"\\", ROW_END))


_MARKDOWN = ("**", "__", "`", "*")
_MARKDOWN_SIGNS = ("*", "_", "`")


def _without_markdown(text: str) -> str:
    for mark in _MARKDOWN:
        inside = text[len(mark) : -len(mark)]
        if text.startswith(mark) and text.endswith(mark) and inside and mark not in inside:
            text = inside
    return text


_WORD_NOISE = re.compile(r"\\(?:text|mathbb|mathcal)|[{}\"\x02]")
_TEXT_COMMAND = re.compile(r"\\text\s*\{[^{}]*\}|\\math(?:bb|cal)(?![A-Za-z])")
_MATHEMATICS = re.compile(r"\\[A-Za-z|]|[\^_=<>+*]|(?<![A-Za-z])[A-Za-z]!|\)!")
_WORD_IN_MATHEMATICS = re.compile(
    r"(?<![\\A-Za-z])(?:[A-Za-z]{4,}|(?=[A-Za-z]{0,2}[aeiouyAEIOUY])[A-Za-z]{3}|[Nn]o|[Ii][fnst]|[Oo][rfn]|[Tt]o|[Ww]e|[Aa][nst]|[Bb][ey]|[Ss]o|[Dd]o)(?![A-Za-z])"
)
_ARTICLE = re.compile(r"^(?:the|an?) (?!or |and )(?=\w\w)")
_LETTER_IN_BRACKETS = re.compile(r"\(([a-z])\)")


def is_mathematics(normalized: str) -> bool:
    """Whether a text holds more than words: commands, operators, indices, factorials."""
    return bool(_MATHEMATICS.search(_TEXT_COMMAND.sub("", normalized)))


_EMPTY_ARGUMENT = re.compile(r"\\(?:frac|sqrt|binom)\s*(?:\[[^\[\]]*\])?\s*(?:\{[^{}]*\}\s*)?\{\s*\}|[\^_]\s*\{\s*\}")


def is_broken(normalized: str) -> bool:
    """Whether a command has an empty argument or braces do not match, so that without braces it looks like another formula."""
    return normalized.count("{") != normalized.count("}") or bool(_EMPTY_ARGUMENT.search(normalized))


def with_small_words(text: str) -> str:
    """Words in lower case, letters and commands as they are."""
    return _WORD_IN_MATHEMATICS.sub(lambda match: match[0].casefold(), text)


@functools.lru_cache(maxsize=512)
def plain_words(normalized: str) -> str:
    r"""A normalised text as bare words, for answers that are words: `\text{Not  Even.}` becomes `not even`.

    In what is mathematics beyond the grammar (`\sum_{k=1}^N k!`) letters keep their case, words lose it.
    """
    words = " ".join(_WORD_NOISE.sub(" ", normalized).split())
    if is_mathematics(normalized):
        words = with_small_words(words).strip(" .,;:")
    else:
        words = words.casefold()
        words = words.strip(" .,;:!?'") if any(char.isalpha() for char in words) else words.lstrip(" ,;:").rstrip(" .,;:")
    words = measured(_ARTICLE.sub("", words))
    match = _LETTER_IN_BRACKETS.fullmatch(words)
    return match[1] if match else words
