r"""What is set in several lines or pieces: `\begin{cases} x = 1 \\ y = 2 \end{cases}`, `x = 1 \\ y = 2`, `\text{m} \cdot \text{s}^{-2}`.

Each is rewritten in one line and in one piece. All patterns are linear.
"""

from __future__ import annotations

import re

_SYSTEM = re.compile(
    r"(?:\\left\s*)?(?P<brace>\\\{|\\lbrace)?\s*\\begin\s*\{(?P<kind>cases|array|aligned|align\*?|gathered|matrix)\}"
    r"(?P<columns>\s*\{[lcr| ]*\})?"
)
_ALONE = re.compile(  # one line, which an environment sets as a display
    r"\\begin\{(?P<kind>aligned|align\*?|gathered|gather\*?|equation\*?|split)\}(?P<body>.*)\\end\{(?P<end>[a-z]+\*?)\}", re.DOTALL
)
_SYSTEM_END = re.compile(r"\\end\s*\{(?P<kind>[a-z]+\*?)\}\s*(?:\\right\s*\.)?\s*")
_ROW_END = re.compile(r"\\\\(?:\s*\[[^\[\]]*\])?")
_NEXT_EQUATION = re.compile(r"\\\\\s+(?=[a-zA-Z](?:_\{?\w+\}?)?\s*=)|\\\\(?=[a-zA-Z](?:_\{?\w\}?)?\s*=)")
_RELATION = re.compile(r"[=<>]|\\(?:leq?|geq?|leqslant|geqslant|in)(?![A-Za-z])")
_POWER = re.compile(r"\s*\^\s*(?:\{\s*(-?[1-4])\s*\}|(-?[1-4]))")
_MARK = re.compile(r"\s*(\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|\*|/)?\s*")
_UNIT = re.compile(r"\\text\s*\{\s*([A-Za-z/ ]+?)\s*\}")
_FRACTION = re.compile(r"\\frac\s*\{")
_BARE_FRACTION = re.compile(r"(?<=[\d ])\\frac\{ ?(km|cm|mm|m|ft|kg|g|mi) ?\}\{ ?(s|h|hr|min|m|cm|L) ?(?:\^ ?\{? ?([23]) ?\}? ?)?\}$")
_MAX_PIECES = 8
_SYMBOL_CHARS = 3


def in_one_line(text: str) -> str:
    """The equations of a system, or of lines without an environment, with commas between them; any other text as it is."""
    if "\\begin" not in text:
        if "\\\\" in text and _NEXT_EQUATION.search(text) and "=" in text[: text.find("\\\\")]:
            return _NEXT_EQUATION.sub(", ", text)
        return text
    alone = _ALONE.fullmatch(text)
    if alone and alone["kind"] == alone["end"] and not any(mark in alone["body"] for mark in ("\\\\", "&", "\\begin", "\\end")):
        return alone["body"].strip()
    opened = _SYSTEM.match(text)
    closed_at = text.rfind("\\end")
    closed = _SYSTEM_END.fullmatch(text, closed_at) if closed_at >= 0 else None
    if not opened or not closed or opened["kind"] != closed["kind"]:
        return text
    if opened["kind"] in ("array", "matrix") and not opened["brace"]:
        return text
    body = re.sub(r"&\s*(?==|\\le|\\ge|<|>)", "", text[opened.end() : closed_at])
    lines = [line.strip().rstrip(",.;& ") for line in _ROW_END.split(body)]
    lines = [line for line in lines if line]
    if "&" in body or "\\begin" in body or not lines or not all(map(_RELATION.search, lines)):
        return text
    return ", ".join(lines)


def unit_in_one_piece(text: str) -> str:
    r"""`9.8 \text{m}\cdot\text{s}^{-2}` as `9.8 \text{m/s s}`: a unit made of several, behind a value."""
    start = text.find("\\text")
    if start <= 0:
        return text
    over = text.rfind("\\frac", 0, start)
    if over >= 0 and not text[over + 5 : start].strip(" {"):
        start = over
    before = text[:start].rstrip()
    if not before or before[-1] not in "0123456789)}":
        return text
    pieces = _pieces(text[start:])
    if pieces is None:
        return text
    above = " ".join(name for name, power in pieces for _ in range(power))
    below = " ".join(name for name, power in pieces for _ in range(-power))
    return rf"{before} \text{{{above}{'/' + below if below else ''}}}"


def _pieces(tail: str) -> list[tuple[str, int]] | None:
    """The units of a tail and their powers; None for what is no unit of several, or whose one unit needs no help."""
    found: list[tuple[str, int]] = []
    at, sign, several = 0, 1, False
    while at < len(tail):
        if len(found) > _MAX_PIECES:
            return None
        unit = _UNIT.match(tail, at)
        fraction = _FRACTION.match(tail, at) if unit is None else None
        if unit is not None:
            several |= bool(found)
            at, power = _power(tail, unit.end())
            names = unit[1].split("/")
            if len(names) > 1 and (power < 0 or len(names) > 2 or not all(names)):
                return None
            several |= power < 0
            for index, name in enumerate(names):
                words = name.split()
                words = words if len(words) > 1 and all(len(word) <= _SYMBOL_CHARS for word in words) else [name.strip()]
                above = sign * (-1 if index else 1)
                found += [(word, above) for word in words[:-1]]
                found.append((words[-1], above * (power if index == len(names) - 1 else 1)))
        elif fraction is not None:
            inside = _fraction(tail, fraction.end())
            if inside is None:
                return None
            pairs, at = inside
            found += [(name, sign * power) for name, power in pairs]
            several = True
        else:
            return None
        mark = _MARK.match(tail, at)
        at = mark.end() if mark else at
        if mark and mark[1] == "/":
            sign, several = -1, True
    return found if several else None


def _fraction(tail: str, start: int) -> tuple[list[tuple[str, int]], int] | None:
    pairs: list[tuple[str, int]] = []
    at = start
    for side in (1, -1):
        while unit := _UNIT.match(tail, at):
            at, power = _power(tail, unit.end())
            pairs.append((unit[1], side * power))
            mark = _MARK.match(tail, at)
            at = mark.end() if mark and mark[1] != "/" else at
        closed = re.compile(r"\s*\}\s*\{\s*" if side == 1 else r"\s*\}\s*").match(tail, at)
        if closed is None:
            return None
        at = closed.end()
    return pairs, at


def _power(tail: str, at: int) -> tuple[int, int]:
    found = _POWER.match(tail, at)
    return (found.end(), int(found[1] or found[2])) if found else (at, 1)


_SIGNS = (
    (re.compile(r"(?<=[\d}]) ?\\text\{ ?(k|M|m)? ?\} ?\\Omega$|(?<=[\d}]) (k|M)? ?\\Omega$"), "ohm"),
    (re.compile(r"(?<=[\d} ])\\mu ?(?:\\text\{ ?([a-zA-Z]) ?\}|([a-zA-Z])(?![A-Za-z]))"), "micro"),
)


_SPLIT_BRACKET = re.compile(r"\\text ?\{([A-Za-z/ ]*\([A-Za-z ]*)\} ?\\cdot ?\\text ?\{([A-Za-z ]*\)[A-Za-z ]*)\}")
_MARKED_INSIDE = re.compile(r"\\text ?\{((?:[A-Za-z /()]|\\(?:cdot|mu|Omega)(?![A-Za-z])|\^ ?\{? ?-?\d ?\}?)++)\}")


def _without_marks(inside: str) -> str:
    inside = re.sub(r" ?\\cdot ?", " ", inside)
    return re.sub(r"\\mu ?", "micro", inside).replace("\\Omega", "ohm").strip()


_POWERS_INSIDE = re.compile(r"\\text\s*\{((?:[A-Za-z /]++(?:\^ ?\{? ?-?\d ?\}?)?+)++)\}")
_POWER_INSIDE = re.compile(r"([A-Za-z /]+)(\^ ?\{? ?-?\d ?\}?)?")


def with_unit_words(text: str) -> str:
    r"""`25\ \Omega`, `3\ \mu\text{m}`, `2\ M_\odot`, `5 \frac{m}{s^2}`, `\text{meters per second squared}` with their units in words."""
    if "\\Omega" in text:
        text = _SIGNS[0][0].sub(lambda found: rf" \text{{{found[1] or found[2] or ''}ohm}}", text)
    if "\\mu" in text:
        text = _SIGNS[1][0].sub(lambda found: rf"\text{{micro{found[1] or found[2]}}}", text)
    if "odot" in text:
        text = re.sub(r"(?<=[\d} ])M_ ?\{? ?\\odot ?\}?", r"\\text{solar mass}", text)
    if "\\text" in text and "\\" in text.replace("\\text", ""):
        text = _SPLIT_BRACKET.sub(r"\\text{\1 \2}", text)
        text = _MARKED_INSIDE.sub(lambda found: rf"\text{{{_without_marks(found[1])}}}" if "\\" in found[1] else found[0], text)
    if "squared" in text:
        text = re.sub(r"(?<=per )(\w+) squared", r"\1 \1", text)
    if "^" in text and "\\text" in text:
        text = _POWERS_INSIDE.sub(lambda found: _POWER_INSIDE.sub(r"\\text{\1}\2", found[1]) if "^" in found[1] else found[0], text)
    if "\\frac" in text:
        text = _BARE_FRACTION.sub(lambda found: rf"\text{{{found[1]}/{' '.join([found[2]] * int(found[3] or 1))}}}", text)
    return text
