"""Units of measurement: one name for each, however it is written."""

from __future__ import annotations

import re

from reward_service.scoring.equivalence.unit_symbols import with_names

_UNIT_NAMES = {
    "degree": "degree", "deg": "degree", "dollar": "dollar", "usd": "dollar", "buck": "dollar", "percent": "%", "percentage": "%",
    "pct": "%", "per cent": "%", "eur": "euro", "gbp": "pound",
    "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km",
    "millimeter": "mm", "inche": "inch", "in": "inch", "feet": "foot", "ft": "foot", "hour": "hour", "hr": "hour", "h": "hour",
    "minute": "minute", "min": "minute",
    "second": "second", "sec": "second", "s": "second", "kilogram": "kg", "gram": "g", "liter": "l", "litre": "l",
    "mile": "mile", "mi": "mile",
    "cent": "cent", "pound": "pound", "lb": "pound", "square unit": "unit", "cubic unit": "unit", "sq unit": "unit", "unit": "unit",
    "radian": "radian", "rad": "radian", "kph": "km/hour",
    "kmh": "km/hour",
    "mph": "mile/hour",
    "degree celsius": "degree c", "degrees celsius": "degree c", "degree centigrade": "degree c", "degree fahrenheit": "degree f",
    "amp": "ampere", "electron volt": "ev", "kilohm": "kohm", "yd": "yard", "oz": "ounce", "lbs": "pound",
}  # fmt: skip
_SQUARE = re.compile(r"\b(?:square|sq\.?) (\w+)")
_CUBIC = re.compile(r"\b(?:cubic|cu\.?) (\w+)")


def unit_name(words: str) -> str:
    """One name for a unit however it is written: `Centimeters` is `cm`, `sq cm` is `cm^2`."""
    words = " ".join(with_names(words).casefold().replace(".", " ").replace(" per ", "/").split()).strip()
    words = words.replace(" / ", "/")
    if "/(" in words:
        words = words.replace("(", "").replace(")", "")
    if "/" in words and words not in _UNIT_NAMES:
        return "/".join(_side(part) for part in words.split("/"))
    if "^" in words and " " not in words:
        return _side(words)
    for pattern, power in ((_SQUARE, "^2"), (_CUBIC, "^3")):
        match = pattern.fullmatch(words)
        if match:
            base = unit_name(match[1])
            return base if base == "unit" else base + power
    single = words[:-1] if words.endswith("s") and len(words) > 2 else words
    return _UNIT_NAMES.get(words, _UNIT_NAMES.get(single, single))


def _side(words: str) -> str:
    """One side of a quotient of units: `s s` is `second^2`, as is `s^2`."""
    base, _, power = words.partition("^")
    names = base.split()
    if len(names) > 1 and len(names[0]) <= _SYMBOL_CHARS:
        counts = {name: [unit_name(each) for each in names].count(name) for name in sorted(map(unit_name, names))}
        return " ".join(f"{name}^{count}" if count > 1 else name for name, count in counts.items()) + (f"^{power}" if power else "")
    if len(names) > 1 and len(set(names)) == 1:
        return f"{unit_name(names[0])}^{len(names)}"
    return unit_name(base.strip()) + (f"^{power}" if power else "")


_SYMBOL_CHARS = 3  # of the longest symbol that units are multiplied by: longer ones are words, as `light year`
_SAYS_MORE = (
    "not? or and if is are otherwise none any all except only than least most more less up about maybe to negative one two three four five "
    "six seven eight nine ten eleven twelve (?:thir|four|fif|six|seven|eigh|nine)teen twenty thirty forty fifty sixty seventy eighty "
    "ninety half halves thirds? fourths? fifths? sixths? sevenths? eighths? ninths? tenths? hundredths? thousandths? squared cubed doubled "
    "tripled halved factorial plus minus over modulo mod etc"
)
_DENYING = (
    "wrong false incorrect never cannot can't won't isn't rejected excluded exclusive extraneous invalid impossible undefined untrue "
    "inadmissible discarded omitted disproved fails? failed nope contradiction repeating recurring upwards out zero bound root power"
)
_DENIED = re.compile("(?:" + _DENYING.replace(" ", "|") + r")(?: be)?$")  # as the last word: `5 wrong answers` is a number of them
_NO_UNIT = re.compile(r"\b(?:" + _SAYS_MORE.replace(" ", "|") + r")\b|[\d=<>]")
_SAYS_MORE_THAN_A_NAME = re.compile(
    r"\b(?:not?|or|never|cannot|wrong|except|maybe|unless|neither|nor|isn|false|unequal|incorrect|discarded?|reject(?:ed)?|exclude[ds]?|invalid|impossible"
    r"|extraneous)\b|n't|[<>\u2260]"
)
_MAX_UNIT_WORDS = 4


def says_no_more(words: str) -> bool:
    """Whether words only name something: no negation, no number, no second thing."""
    return not _SAYS_MORE_THAN_A_NAME.search(words.casefold())


def is_unit_word(words: str) -> bool:
    """A short noun may be a unit; words that say something about the value are not."""
    words = words.casefold().strip(" .,;:()!?").replace("non-negative", "nonnegative")
    return len(words.split()) <= _MAX_UNIT_WORDS and not _NO_UNIT.search(words) and not _DENIED.search(words)


_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def scaled(unit: str) -> tuple[int, str]:
    """What a unit's first word multiplies by, and the unit: `million dollars` is 1,000,000 and `dollar`."""
    first, _, rest = unit.partition(" ")
    scale = _SCALES.get(first) or _SCALES.get(first.removesuffix("s"))
    return (scale, unit_name(rest) if rest else "") if scale else (1, unit)
