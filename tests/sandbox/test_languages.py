"""The names people write for languages."""

from __future__ import annotations

import pytest

from sandbox.languages import LANGUAGES, canonical_language, compile_command, header_command


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("python", "python"), ("Python", "python"), ("py", "python"), ("python3", "python"), ("PY3", "python"),
        ("cpp", "cpp"), ("C++", "cpp"), ("c++20", "cpp"), ("C++20", "cpp"), ("cxx", "cpp"), ("cc", "cpp"), ("g++", "cpp"),
        ("c", None), ("text", None), ("bash", None), ("", None), ("python2", None), ("javascript", None), ("pythonn", None),
    ],
)  # fmt: skip
def test_canonical_language(name: str, wanted: str | None) -> None:
    assert canonical_language(name) == wanted


def test_no_name_means_two_languages() -> None:
    names = [alias for language in LANGUAGES.values() for alias in language.aliases]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)


def test_the_header_is_made_with_exactly_the_flags_it_serves() -> None:
    compiled = compile_command("g++", "gnu++20", (), with_header=True)
    header = header_command("g++", "gnu++20")
    flags = {part for part in compiled if part.startswith("-") and not part.startswith(("-I", "-o"))}
    assert flags <= set(header)
