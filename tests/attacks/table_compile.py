# ruff: noqa: E501 - a program stands in as few lines as it can: broken strings would hide it
"""Attacks while a program is compiled: host files by the compiler, bombs for it, and Python sources that break the one who loads them."""

from __future__ import annotations

import dataclasses

from sandbox.interface import Limits, Status
from tests.attacks.attack import ANYHOW, COMPILED, FAILED, MEBIBYTE, REFUSED, SMALL, Attack, cpp, raw

_BOMB = "it must never be compiled where nothing stops it"
_SHOWN = frozenset({Status.COMPILE_ERROR, Status.FINISHED})
_MAIN = "int main() {}\n"


def _reads(id: str, program: str, why: str, **more: object) -> Attack:
    """A source that makes the compiler show a file of the host: `{secret}` is the path of one that holds the secret."""
    return raw(id, "compile: files", program, why, language="cpp", **{"allowed": _SHOWN, "limits": COMPILED, "prints": b"", **more})


FILES = (
    _reads("include-secret", '#include "{secret}"\n' + _MAIN, "the diagnostic quotes the line; kjudge #82"),
    _reads("include-angle", "#include <{secret}>\n" + _MAIN, "the other form"),
    _reads("include-up", '#include "../../../../../../../..{secret}"\n' + _MAIN, "relative to the source"),
    _reads("include-from-system", "#include <sys/../../../../../../..{secret}>\n" + _MAIN, "relative to the system's folders"),
    _reads("include-root-link", '#include "/proc/self/root{secret}"\n' + _MAIN, "through this process's root link"),
    _reads("include-macro", "#define STR(x) #x\n#define P STR({secret})\n#include P\n" + _MAIN, "a computed name"),
    _reads("include-next", '#include_next "{secret}"\n' + _MAIN, "GNU's own form"),
    _reads("import-secret", '#import "{secret}"\n' + _MAIN, "Objective C's form"),
    _reads("include-shadow", '#include "/etc/shadow"\n' + _MAIN, "password hashes", control="none",
           no_control="it would print them here; include-secret is the same attack"),
    _reads("include-environment", '#include "/proc/self/environ"\n' + _MAIN, "the service's environment", control="none",
           no_control="g++ takes files of /proc for empty ones"),
    _reads("include-cmdline", '#include "/proc/1/environ"\n' + _MAIN, "the environment of process 1", control="none",
           no_control="g++ takes files of /proc for empty ones"),
    _reads("incbin-secret", 'asm(".data\\nsecret: .incbin \\"{secret}\\"\\nsecret_end: .byte 0\\n.text");\nextern char secret[];\n'
           "#include <cstdio>\nint main() { puts(secret); }\n", "the assembler reads files, too"),
    _reads("asm-include", 'asm(".include \\"{secret}\\"");\n' + _MAIN, "the assembler quotes what it does not understand"),
    _reads("line-secret", '#line 1 "{secret}"\nint main() { return undeclared; }\n', "diagnostics quote the file that #line names"),
    _reads("has-include", '#if __has_include("{secret}")\n#error escaped: the file is there\n#endif\n' + _MAIN, "whether a file exists"),
    _reads("dependency", '#pragma GCC dependency "{secret}"\n#pragma GCC dependency "{secret}" escaped: it is there\n' + _MAIN,
           "a pragma that looks at a file's time", control="none", no_control="it is silent where the file is older; has-include asks the same"),
    _reads("macro-file", "#include <cstdio>\nconst char* paths[] = {__FILE__, __BASE_FILE__, __TIMESTAMP__};\n"
           'int main() { for (auto p : paths) if (__builtin_strstr(p, "/home") || __builtin_strstr(p, "/root")) puts("escaped"); }\n',
           "where the compiler works", control="none", no_control="depends on where the control works"),
    _reads("pch-preprocess", '#pragma GCC pch_preprocess "{secret}"\n' + _MAIN, "a header of choice as a precompiled one", control="none",
           no_control="the compiler takes it in preprocessed sources only"),
    _reads("plugin-option", '#pragma GCC optimize ("-fplugin={secret}")\n__attribute__((optimize("-fplugin=/box/work/x.so"))) int f();\n' + _MAIN,
           "options by attribute", control="none", no_control="the compiler takes no such option here; the row watches that it stays so"),
    _reads("dump-option", '#pragma GCC optimize ("-fdump-tree-all=/program/x", "-save-temps")\n' + _MAIN, "files by option", control="none",
           no_control="the compiler takes no such option here; the row watches that it stays so"),
    _reads("embed", '#if __has_embed("{secret}")\n#error escaped\n#endif\nconst char s[] = {\n#embed "{secret}"\n};\n' + _MAIN, "C23's #embed",
           control="none", no_control="compilers before GCC 15 do not know it"),
)  # fmt: skip

_TIGHT = Limits(cpu_s=0.5, memory_bytes=100 * MEBIBYTE, compile_s=0.7)


def _bomb(id: str, program: str, why: str, **more: object) -> Attack:
    fixed: dict[str, object] = {"allowed": REFUSED, "limits": _TIGHT, "control": "none", "no_control": _BOMB, "wall_s": 8}
    return raw(id, "compile: bombs", program, why, language="cpp", **{**fixed, **more})


BOMBS = (
    _bomb("include-zero", "#include </dev/zero>\n", "a file without end"),
    _bomb("include-random", '#include "/dev/urandom"\n', "a file without end, and no text"),
    _bomb("include-stdin", '#include "/dev/stdin"\nint x = ;', "waiting for input"),
    _bomb("include-output", '#include "/proc/self/fd/1"\nint x = ;', "the file it writes"),
    _bomb("include-itself", "#include __FILE__\n#include __FILE__\n", "two to the power of the depth"),
    _bomb("template-depth", "template<int N> struct F { using T = typename F<N + 1>::T; };\nF<0>::T x;\n", "instantiation without end"),
    _bomb("template-tree", "template<int N, int M> struct F { static const long v = F<N - 1, 2 * M>::v + F<N - 1, 2 * M + 1>::v; };\n"
          "template<int M> struct F<0, M> { static const long v = M; };\nint main() { return F<22, 0>::v; }\n", "four million instantiations"),
    _bomb("constexpr-loop", "constexpr int f() { int x = 0; while (true) x = (x + 1) % 7; return x; }\nstatic_assert(f() == 0);\n", "evaluation without end"),
    _bomb("constexpr-nested", "constexpr long f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\nstatic_assert(f(60) == 1);\n", "an exponential evaluation"),
    _bomb("constexpr-memory", "struct A { long v[4096]; };\ntemplate<int N> constexpr A g() { A a{}; a.v[N] = N; return a; }\n"
          "constexpr long h() { long s = 0; for (long i = 0; i < 100000000; i++) { auto a = g<5>(); s += a.v[5]; } return s; }\nstatic_assert(h());\n",
          "memory by evaluation"),
    _bomb("macro-bomb", "#define A0(x) x x x x x x x x x x\n" + "".join(f"#define A{n}(x) A{n - 1}(A{n - 1}(x))\n" for n in range(1, 6))
          + "int main() { A5(;) }\n", "ten to the power of 32 tokens"),
    _bomb("incbin-zero", 'asm(".incbin \\"/dev/zero\\"");\nint main() {}\n', "a file without end for the assembler",
          allowed=frozenset({Status.COMPILE_ERROR, Status.FINISHED})),
    _bomb("asm-space", 'asm(".data\\n.fill 4000000000, 1, 7");\nint main() {}\n', "four gigabytes of binary"),
    _bomb("giant-array", "char big[3u << 30] = {1};\nint main() { return big[5]; }\n", "three gigabytes of binary"),
    _bomb("asm-repeat", 'asm(".rept 1000000000\\nnop\\n.endr");\nint main() {}\n', "a billion instructions"),
    _bomb("asm-macro", 'asm(".macro m\\nm\\nm\\n.endm\\nm");\nint main() {}\n', "a macro that calls itself"),
    _bomb("diagnostics", "template<class T> struct X { typename T::a b; };\n" + "".join(f"X<int> x{n}; int y{n} = z{n};\n" for n in range(3000)),
          "a flood of diagnostics"),
    _bomb("pragma-message", "".join(f'#pragma message "{"m" * 200}"\n' for _ in range(2000)) + "int x = ;", "a flood of messages"),
    _bomb("deep-parentheses", f"int x = {'(' * 60000}1{')' * 60000};\nint main() {{}}\n", "the parser's stack", allowed=ANYHOW),
    _bomb("deep-declarator", f"int {'*' * 100000}p;\nint y = ;", "the parser's stack"),
    _bomb("huge-line", "int x = 1" + "+1" * 500000 + ";\nint main() {}\n", "one expression of a megabyte", allowed=ANYHOW),
    _bomb("huge-identifier", f"int {'a' * 2_000_000} = ;", "a name of two megabytes, quoted in the diagnostic"),
    _bomb("empty-source", "", "nothing at all"),
    _bomb("binary-source", "\0\1\2\x7fELF" * 100, "no text at all"),
    _bomb("print-directive", 'asm(".print \\"#!/bin/sh\\"");\nint main() {}\n', "the assembler's own output goes where the binary goes",
          allowed=frozenset({Status.COMPILE_ERROR, Status.RUNTIME_ERROR, Status.FINISHED}), limits=COMPILED),
    _bomb("print-flood", 'asm(".rept 3000000\\n.print \\"escape\\"\\n.endr");\nint main() {}\n', "a flood where the binary goes",
          allowed=frozenset({Status.COMPILE_ERROR, Status.RUNTIME_ERROR})),
    _bomb("no-main", "int f() { return 1; }\n", "nothing to link", limits=COMPILED),
    _bomb("own-start", 'asm(".globl _start\\n_start: hlt");\nint main() {}\n', "a start of its own", limits=COMPILED, allowed=FAILED),
    _bomb("interpreter", 'const char i[] __attribute__((section(".interp"))) = "/nonexistent";\nint main() {}\n', "a loader that is not there",
          limits=COMPILED, allowed=FAILED | {Status.FINISHED}),
    _bomb("network-by-linker", '#pragma comment(lib, "//10.0.0.1/x")\nint main() {}\n', "a library of another machine", limits=COMPILED,
          allowed=frozenset({Status.FINISHED, Status.COMPILE_ERROR}), prints=b""),
)  # fmt: skip


def _source(id: str, program: str, why: str, **more: object) -> Attack:
    fixed: dict[str, object] = {
        "allowed": ANYHOW, "limits": dataclasses.replace(SMALL, compile_s=1), "control": "none", "no_control": _BOMB, "wall_s": 9,
        "inputs": (b"", b""), "prints": b"",
    }  # fmt: skip
    return raw(id, "compile: Python", program, why, **{**fixed, **more})


_REFUSED: dict[str, object] = {"allowed": REFUSED}
SOURCES = (
    _source("py-brackets", "(" * 5000, "the parser's stack", **_REFUSED),
    _source("py-minus", "-" * 200_000 + "1", "recursion of the compiler", **_REFUSED),
    _source("py-attributes", "a" + ".b" * 200_000, "recursion of the compiler", **_REFUSED),
    _source("py-lambda", "lambda:" * 50_000 + "1", "recursion of the compiler", **_REFUSED),
    _source("py-blocks", "".join(" " * n + "if 1:\n" for n in range(150)) + " " * 150 + "pass", "too deep indentation", **_REFUSED),
    _source("py-import-dots", "import " + "a." * 100_000 + "b", "takes time by the square of its length", **_REFUSED),
    _source("py-fold-string", "x = 'x' * 10 ** 10", "a constant that a compiler might compute"),
    _source("py-fold-power", "x = 10 ** 10 ** 10", "a constant that a compiler might compute"),
    _source("py-fold-format", "x = '%1000000000d' % 1", "a constant that a compiler might compute"),
    _source("py-fold-tuple", "x = ((((0,) * 255,) * 255,) * 255,) * 255", "a constant that a compiler might compute"),
    _source("py-null", "x = 1\0\nprint('escaped')", "a null byte", **_REFUSED),
    _source("py-digits", "x = " + "9" * 100_000, "more digits than an integer may have", **_REFUSED),
    *(
        _source(f"py-cookie-{name}", f"# -*- coding: {name} -*-\nprint(1)", "a codec of the program's choice", prints=None)
        for name in ("hex", "rot13", "utf-7", "idna", "undefined", "unicode_escape", "utf-16", "no-such-codec", "../main", "main", "a" * 5000)
    ),
    _source("py-long-name", f"def f({'a' * 300_000}, {'a' * 300_000}): pass", "the error's text holds a name of 300 KB", **_REFUSED),
    _source("py-cut-name", f"def f({'a' * 70_000}, {'a' * 70_000}): pass", "the error's text holds a name of 70 KB", **_REFUSED),
    _source("py-huge", "x = 1\n" * 500_000, "three megabytes of source"),
    _source("py-huge-string", f"x = '{'a' * 8_000_000}'", "eight megabytes of constant"),
    _source("py-import-self", "import main", "its own module by name", prints=None),
    _source("py-import-shadow", "import os\nopen('numpy.py', 'w').write('print(\"escaped\")')\nimport numpy", "a module named like one that is loaded early",
            prints=None),
    _source("py-import-list", "import antigravity, this, turtle, idlelib, test.support\n", "modules with effects of their own", prints=None),
    _source("py-import-text", "s = '''\nimport antigravity, numpy; __import__(\"os\").system(\"x\")\nimport sandbox, ..x, *\n'''\n",
            "text that only looks like imports"),
    _source("py-surrogate", "x = '\udcff\ud800'\nprint(1)", "lone surrogates in the source", prints=None),
    _source("py-bom", "\ufeff# coding: latin-1\nprint(1)", "two encodings at once", prints=None),
    _source("py-form-feed", "\x0c" * 100_000 + "x = 1", "white space of another kind"),
    _source("py-exit-code", "raise SystemExit\n" * 3, "a source that only exits"),
)  # fmt: skip

BOXED = (
    cpp("compiled-in-a-box", "compile: files", 'const char* paths[] = {"/usr/bin/g++", "/pch", "/usr/include/stdio.h"};\nfor (auto p : paths) if (!access(p, R_OK)) escaped(p);',
        "the tool chain is no part of the box that runs the program"),
)  # fmt: skip

ATTACKS: tuple[Attack, ...] = (*FILES, *BOMBS, *SOURCES, *BOXED)
