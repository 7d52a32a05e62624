r"""Light normalisation of an answer's notation: what LaTeX and Unicode write differently and readers see as the same.

`\left(\dfrac{1}{2},\,\text{cm}\right)` becomes `(\frac{1}{2}, \text{cm})`. Nothing here changes a value; look-alike letters of other
scripts are left as they are, so that they equal nothing. All patterns are linear.
"""

from __future__ import annotations

import re
import unicodedata

from reward_service.scoring.equivalence.customs import rewritten

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
        "\u00bd": r"\frac{1}{2}", "\u2153": r"\frac{1}{3}", "\u2154": r"\frac{2}{3}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}",
        "\u20ac": r"\text{euro}", "\u00a3": r"\text{pound}",
    }
)  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_FULL_WIDTH = re.compile("[\uff01-\uff5e\U0001d400-\U0001d7ff]")
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right)\s*\.", ""),
        (r"\\(?:left|right|middle|bigg?[lrm]?|Bigg?[lrm]?|displaystyle|textstyle|scriptstyle)(?![A-Za-z])", ""),
        (r"\\(?:limits|nolimits|rm|bf|it|boldmath)(?![A-Za-z])", ""),
        (r"\\(?:dfrac|tfrac|cfrac|sfrac|nicefrac)(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(?=[\d{\\A-Za-z])", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\(?:dbinom|tbinom)(?![A-Za-z])", r"\\binom"),
        (r"\\(?:mathbf|boldsymbol|bm|mathit|pmb|mathsf|mathtt|ensuremath|underline|phantom|smash)(?![A-Za-z])\s*(?=\{)", ""),
        (r"\\(?:text(?:bf|it|rm|normal|sf|tt|sc)|emph|mathrm|mbox|hbox|operatorname\*?|mathop)(?![A-Za-z])\s*(?=\{)", r"\\text"),
        (r"(?<=\d)(?:\{,\}|,\\!)\s*(?=\d{3})", ""),
        (r"(?<=\d)(?:\\[ ,;:]|~)(?=\d{3}(?!\d))", ""),
        (r"\\!", ""),
        (r"\\(?:[ ,;:>/]|quad(?![A-Za-z])|qquad(?![A-Za-z])|hspace\{[^{}]*\})|~", " "),
        (r"\\(?:\$|textdollar(?![A-Za-z]))", r"\\dollar "),
        (r"\\[()\[\]](?!\s*\d+(?:pt|em|ex|mm))|\$", " "),
        (r"\\degrees?(?![A-Za-z])", r"^\\circ "),
        (r"\^\s*\{\s*\\circ\s*\}", r"^\\circ "),
        (r"\\(?:leq|leqslant|leqq)(?![A-Za-z])", r"\\le "),
        (r"\\(?:geq|geqslant|geqq)(?![A-Za-z])", r"\\ge "),
        (r"\\(?:ne|not\s*=)(?![A-Za-z])", r"\\neq "),
        (r"\\(?:lbrace)(?![A-Za-z])", r"\\{"),
        (r"\\(?:rbrace)(?![A-Za-z])", r"\\}"),
        (r"\\(?:lbrack)(?![A-Za-z])", "["),
        (r"\\(?:rbrack)(?![A-Za-z])", "]"),
        (r"\\(?:lvert|rvert|vert|mid)(?![A-Za-z])", "|"),
        (r"\\(?:ast|cdotp|bullet)(?![A-Za-z])", r"\\cdot "),
        (r"\\(?:varnothing|O)(?![A-Za-z])", r"\\emptyset "),
        (r"\\(?:percent|%)(?![A-Za-z])", "%"),
        (r"\\(?:colon)(?![A-Za-z])", ":"),
        (r"\\(?:lt)(?![A-Za-z])", "<"),
        (r"\\(?:gt)(?![A-Za-z])", ">"),
        (r"<=|=<", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=|\\not\\in(?![A-Za-z])", r"\\neq "),
        (r"==", "="),
        (r"\*\*", "^"),
        (r"\\text\s*\{\s*\}", " "),
        # Plain content in a text command is the content: \text{5}, \mathrm{e}; a lone letter or (C) only if nothing stands beside it.
        (r"\\text\s*\{\s*([ei]|[-+]?\d[\d.,]*)\s*\}", r" \1 "),
        (r"^\s*\\text\s*\{\s*(\(?[A-Za-z]\)?)\s*\}\s*$", r"\1"),
        (r"(?<![A-Za-z])sq\. ?(?=[a-z])", "square "),
        (r"(?<![A-Za-z])cu\. ?(?=[a-z])", "cubic "),
        (r"\{([^{}\\]*)\\choose(?![A-Za-z])([^{}\\]*)\}", r"\\binom{\1}{\2}"),
        (r"\{([^{}\\]*)\\over(?![A-Za-z])([^{}\\]*)\}", r"\\frac{\1}{\2}"),
        (r"\\[lc]?dots(?![A-Za-z])|\.\.\.(?=\s*,)", r"\\ldots "),
        (r" {2,}", " "),
    )
)
ROW_END = "\x02"
_EDGES = " .,;:"


def normalize(text: str) -> str:
    """The same answer in one notation. Idempotent but for its work on edges."""
    text = _without_markdown(text.translate(_CHARS).strip())
    if not text.isascii():
        text = _FULL_WIDTH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
        text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
        text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}", text)
    # A row end of a matrix must not be taken for an escaped space; elsewhere a doubled backslash is an escaped single one.
    text = text.replace(r"\\", ROW_END if "\\begin" in text else "\\")
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = text.strip().strip('"').strip()
    while text.endswith(("\\", *".,;:")) or text.startswith((",", ";", ":")):
        text = text.rstrip("\\" + _EDGES).lstrip(" ,;:")
    return rewritten(text)


_MARKDOWN = ("**", "__", "`", "*")


def _without_markdown(text: str) -> str:
    for mark in _MARKDOWN:
        inside = text[len(mark) : -len(mark)]
        if text.startswith(mark) and text.endswith(mark) and inside and mark not in inside:
            text = inside
    return text


_WORD_NOISE = re.compile(r"\\(?:text|mathbb|mathcal)|[{}\"\x02]")
_ARTICLE = re.compile(r"^(?:the|an?) (?=\w\w)")
_LETTER_IN_BRACKETS = re.compile(r"\(([a-z])\)")


def plain_words(normalized: str) -> str:
    r"""A normalised text as bare words, for answers that are words: `\text{Not  Even.}` becomes `not even`."""
    words = " ".join(_WORD_NOISE.sub(" ", normalized).casefold().split()).strip(" .,;:!?'")
    words = _ARTICLE.sub("", words)
    match = _LETTER_IN_BRACKETS.fullmatch(words)
    return match[1] if match else words
