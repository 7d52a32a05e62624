"""Scripts: which characters are letters, of which script, and which script a language is written in.

Words are found by these ranges and not by `\\w`, which has no vowel signs of Indic scripts and calls digits letters.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

# Ranges of letters and the marks inside words; digits and punctuation are in none. (Unicode 15.1, Scripts.txt, in whole blocks.)
RANGES: Mapping[str, str] = {
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0250-\u02af\u0300-\u036f\u1d00-\u1d25\u1e00-\u1eff\ua722-\ua7ff",
    "greek": "\u0370-\u0373\u0376-\u037d\u0386\u0388-\u03ff\u1f00-\u1fff",
    "cyrillic": "\u0400-\u0481\u0483-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
    "armenian": "\u0531-\u0556\u0560-\u0588",
    "hebrew": "\u0591-\u05bd\u05bf\u05c1-\u05c7\u05d0-\u05f2",
    "arabic": (
        "\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06dc\u06df-\u06ef\u06fa-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdfb\ufe70-\ufefc"
    ),
    "devanagari": "\u0900-\u0963\u0971-\u097f",
    "bengali": "\u0980-\u09e3",
    "gurmukhi": "\u0a01-\u0a65\u0a70-\u0a75",
    "gujarati": "\u0a81-\u0ae3",
    "oriya": "\u0b01-\u0b63",
    "tamil": "\u0b82-\u0be5",
    "telugu": "\u0c00-\u0c65",
    "kannada": "\u0c80-\u0ce5",
    "malayalam": "\u0d00-\u0d65",
    "sinhala": "\u0d80-\u0df3",
    "thai": "\u0e01-\u0e3a\u0e40-\u0e4e",
    "lao": "\u0e81-\u0ecd\u0edc-\u0edf",
    "tibetan": "\u0f40-\u0fbc",
    "myanmar": "\u1000-\u103f\u1050-\u109f",
    "georgian": "\u10a0-\u10ff\u1c90-\u1cbf",
    "ethiopic": "\u1200-\u135a\u1380-\u138f",
    "khmer": "\u1780-\u17d3",
    "syriac": "\u0710-\u074f",
    "thaana": "\u0780-\u07b1",
    "nko": "\u07ca-\u07f5",
    "cherokee": "\u13a0-\u13fd\uab70-\uabbf",
    "canadian": "\u1401-\u167f\u18b0-\u18f5",
    "mongolian": "\u1820-\u18aa",
    "javanese": "\ua980-\ua9c0",
    "tifinagh": "\u2d30-\u2d7f",
    "yi": "\ua000-\ua48c",
    "bopomofo": "\u3105-\u312f\u31a0-\u31bf",
    "hangul": "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb",
    "kana": "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d",
    "han": "\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
}

# The scripts of the languages that are not written in Latin letters (alone).
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "ru",
            "uk",
            "bg",
            "be",
            "mk",
            "kk",
            "tg",
            "ky",
            "tt",
            "ba",
            "ce",
            "cv",
            "av",
            "bxr",
            "krc",
            "kv",
            "lez",
            "mhr",
            "mrj",
            "myv",
            "os",
            "rue",
            "sah",
            "tyv",
            "xal",
        ),
        ("cyrillic",),
    ),
    **dict.fromkeys(("uz", "az", "tk"), ("cyrillic", "latin")),  # in both since their reforms
    "mn": ("cyrillic", "mongolian"),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "ug", "ckb", "sd", "arz", "azb", "lrc", "mzn", "pnb"), ("arabic",)),
    **dict.fromkeys(("hi", "mr", "ne", "sa", "bh", "dty", "gom", "mai", "new"), ("devanagari",)),
    **dict.fromkeys(("bn", "as", "bpy"), ("bengali",)),
    **dict.fromkeys(("he", "yi"), ("hebrew",)),
    "sr": ("cyrillic", "latin"),
    "zh": ("han", "bopomofo"),
    "dv": ("thaana",),
    "xmf": ("georgian",),
    "ja": ("kana", "han"),
    "ko": ("hangul",),
    "el": ("greek",),
    "hy": ("armenian",),
    "pa": ("gurmukhi",),
    "gu": ("gujarati",),
    "or": ("oriya",),
    "ta": ("tamil",),
    "te": ("telugu",),
    "kn": ("kannada",),
    "ml": ("malayalam",),
    "si": ("sinhala",),
    "th": ("thai",),
    "lo": ("lao",),
    "bo": ("tibetan",),
    "my": ("myanmar",),
    "ka": ("georgian",),
    "am": ("ethiopic",),
    "km": ("khmer",),
}

# What one letter of a script says, in letters of an alphabet: a word of five letters is two syllables of Hangul and 1.5 Han characters.
WEIGHTS: Mapping[str, int] = {"han": 3, "kana": 2, "hangul": 2}


def scripts_of(language: str) -> tuple[str, ...]:
    """The scripts that a language is written in; "ja" -> ("kana", "han")."""
    return _SCRIPTS.get(language, ("latin",))


def letters_of(scripts: Iterable[str]) -> str:
    """The inside of a character class with the letters of these scripts."""
    return "".join(RANGES[script] for script in scripts)


def other_scripts(scripts: Iterable[str]) -> tuple[str, ...]:
    """All scripts but these."""
    return tuple(script for script in RANGES if script not in frozenset(scripts))


def script_of(letter: str) -> str | None:
    """The script of a letter; "é" -> "latin"."""
    return next((script for script, ranges in RANGES.items() if re.match(f"[{ranges}]", letter)), None)


LETTERS = letters_of(RANGES)


@functools.cache
def _runs_of(scripts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"[{letters_of(scripts)}]+")


def letters_in(text: str, scripts: tuple[str, ...]) -> int:
    """The weight of a text's letters of these scripts."""
    return weight_of("".join(_runs_of(scripts).findall(text)))


_DENSE = re.compile(f"[{letters_of(WEIGHTS)}]")
_BY_WEIGHT = {weight: re.compile(f"[{letters_of(script for script in WEIGHTS if WEIGHTS[script] == weight)}]+") for weight in (2, 3)}


def weight_of(text: str) -> int:
    """The letters of a text that consists of letters, those of dense scripts counted by their weight; "漢字ab" -> 8."""
    weight = len(text)
    if not text.isascii() and _DENSE.search(text):
        for each, pattern in _BY_WEIGHT.items():
            weight += (each - 1) * sum(map(len, pattern.findall(text)))
    return weight
