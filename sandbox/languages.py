"""Every language: the names people write, how a program is run, and the program that proves it works here."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """A language. `kind` is how its program starts: forked from a warm interpreter, or executed."""

    name: str
    kind: str
    file: str
    aliases: frozenset[str]
    self_test: str
    self_test_input: bytes
    self_test_output: bytes


PYTHON = Language(
    name="python",
    kind="python",
    file="main.py",
    aliases=frozenset({"python", "py", "python3", "py3", "python3.11", "python3.12", "python3.13", "cpython"}),
    self_test="import sys\nprint(sum(map(int, sys.stdin.read().split())))\n",
    self_test_input=b"19 23\n",
    self_test_output=b"42\n",
)
CPP = Language(
    name="cpp",
    kind="native",
    file="main.cpp",
    aliases=frozenset(
        {"cpp", "c++", "cxx", "cc", "cpp11", "cpp14", "cpp17", "cpp20", "c++11", "c++14", "c++17", "c++20", "g++", "gnu++17", "gnu++20"}
    ),
    self_test="#include <bits/stdc++.h>\nint main() { long a, b; std::cin >> a >> b; std::cout << a + b << '\\n'; }\n",
    self_test_input=b"19 23\n",
    self_test_output=b"42\n",
)
LANGUAGES: dict[str, Language] = {language.name: language for language in (PYTHON, CPP)}
_BY_ALIAS = {alias: language.name for language in LANGUAGES.values() for alias in language.aliases}


def canonical_language(name: str) -> str | None:
    """The language that people mean by `name`, in any case (`C++20` is `cpp`); None for one that is unknown."""
    return _BY_ALIAS.get(name.lower())


CPP_OPTIMISATION = ("-O2", "-pipe", "-DONLINE_JUDGE")
# Ways to link, best first; the first that works on this machine is taken. A static program starts three times faster (no dynamic linker:
# 0.36 ms against 1.08), and gold links it faster than bfd does (0.06 s against 0.15). Without what nobody calls it is a fifth smaller.
_STATIC = ("-static", "-s", "-Wl,--gc-sections")
LINK_FLAGS = ((*_STATIC, "-fuse-ld=gold"), _STATIC, ("-fuse-ld=gold",), ())
HEADER_FOLDER = "/pch"  # inside the compile box: holds bits/stdc++.h.gch and nothing else


def compile_command(compiler: str, standard: str, link: tuple[str, ...], *, with_header: bool) -> tuple[str, ...]:
    """The command that makes `main` of `/program/main.cpp`; the precompiled header serves exactly these flags, however it is linked."""
    header = (f"-I{HEADER_FOLDER}",) if with_header else ()
    return (compiler, *CPP_OPTIMISATION, f"-std={standard}", *link, *header, "/program/main.cpp", "-o", "/box/work/main")


def header_command(compiler: str, standard: str) -> tuple[str, ...]:
    """The command that precompiles `bits/stdc++.h` with the flags of `compile_command`."""
    return (compiler, *CPP_OPTIMISATION, f"-std={standard}", "-x", "c++-header", "/program/main.cpp", "-o", "/box/work/main")


def find_compiler() -> str | None:
    """The path of g++, or None where it is not installed."""
    found = shutil.which("g++")
    return os.path.realpath(found) if found else None


def tool_chain(compiler: str) -> dict[str, str]:
    """What a compile box must show beside the run-time libraries: path inside to path outside.

    Raises:
        OSError: the compiler does not run.
    """
    shown = {compiler: compiler}
    for program in ("cc1plus", "collect2", "as", "ld", "ld.gold"):
        answer = subprocess.run(
            [compiler, f"-print-prog-name={program}"], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
        path = answer if answer.startswith("/") else shutil.which(answer) or ""
        if path:
            shown[path] = path
            shown[os.path.realpath(path)] = os.path.realpath(path)
    library = subprocess.run([compiler, "-print-libgcc-file-name"], capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    folders = {os.path.dirname(os.path.realpath(library)), "/usr/include"}
    if os.path.isdir("/usr/libexec/gcc"):
        folders.add("/usr/libexec/gcc")
    shown.update({folder: folder for folder in folders if os.path.isdir(folder)})
    return shown


def compiler_version(compiler: str) -> str:
    """The compiler's first line about itself. Raises OSError."""
    out = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    return out.split("\n", 1)[0]
