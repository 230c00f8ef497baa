#!/usr/bin/env python3
"""Checks that troubleshooting.md has an entry for every error the sources print,
and for every code.

Usage: docs/check_messages.py

Takes the texts of `#[error("…")]` in the Rust sources and of `die STATUS "…"`
and `say "…"` in the scripts that users run, cuts them at their placeholders,
and looks for the longest piece in the page; of all texts in the Rust sources that end
with a code, for every piece. Codes (ZE-10) must be the same in the
sources and in the page's table. Prints what is missing.
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
PIECE_MIN = 10
CODE = re.compile(r"ZE-\d\d")
# Messages that only name what another one, which is in the page, is about.
INTERNAL = {
    "cannot make the directory ": "/run/models cannot be made: never seen, no remedy",
    "cannot unmount ": "not shown: an unused mount harms nobody",
    "loading was interrupted": "said to nobody: the user interrupted",
    " bytes is too long to tokenize": "2 GiB in one message, which nothing can send",
    "llama.cpp's decode returned ": "part of 'evaluation failed'",
    "the worker threads cannot be started": "part of 'llama.cpp cannot make a context'",
    "the grammar allows no further token": "part of 'evaluation failed'",
    "it refuses this conversation: ": "part of 'chat template failed'",
    "it needs more than ": "part of 'chat template failed'",
    "it has no file": "said by nobody: a draft model that is named has one",
    "it runs without end": "part of 'chat template failed'",
    "it leaves out what the user says": "part of 'chat template failed'",
}
# Progress, not errors.
SAID = re.compile(r"^(fetching|would |building out|imported; to chat|the conversation is in|\$step_text)")


def rust_texts():
    error = re.compile(r'#\[error\(\s*"((?:[^"\\]|\\.)*)"', re.S)
    for file in sorted((TOP / "init").rglob("*.rs")):
        for text in error.findall(file.read_text()):
            text = re.sub(r"\\\n\s*", "", text).replace('\\"', '"')
            yield file, re.split(r"\{[^}]*\}|\\u", text)


def coded_pieces():
    """Of texts that end with a code, each piece by itself."""
    coded = re.compile(r'"((?:[^"\\]|\\.)*) \[(?:ZE-\d\d|\{code\})\]"', re.S)
    for file in sorted((TOP / "init").rglob("*.rs")):
        if "tests" in file.parts or file.name == "tests.rs":
            continue
        source = file.read_text().split("#[cfg(test)]\nmod tests {")[0]
        for text in coded.findall(source):
            text = re.sub(r"\\\n\s*", "", text).replace('\\"', '"')
            for piece in re.split(r"\{[^}]*\}|\\u", text):
                yield file, [piece.strip(" ;:,()")]


def shell_texts():
    scripts = [TOP / "tools/run.sh", TOP / "tools/model.sh", *sorted((TOP / "tools/lib").glob("*.sh"))]
    call = re.compile(r'(?:\bdie \d|\bsay) "((?:[^"\\]|\\.)*)"')
    for file in scripts:
        for text in call.findall(file.read_text()):
            if not SAID.match(text):
                yield file, re.split(r"\$\{[^}]*\}|\$\([^)]*\)+|\$\(.*|\$\w+|\$\*", text)


def sources():
    yield from (TOP / "init").rglob("*.rs")
    yield from (TOP / "tools").rglob("*.sh")


def squeeze(text):
    """One space for every run of white space and backquotes, and no codes."""
    return re.sub(r"[`\s]+", " ", re.sub(r" \[ZE-\d\d\]", "", text))


def main():
    page = squeeze((TOP / "docs/troubleshooting.md").read_text())
    missing = 0
    seen = 0
    for file, pieces in [*rust_texts(), *coded_pieces(), *shell_texts()]:
        piece = max(pieces, key=len)
        if len(piece.strip()) < PIECE_MIN or piece in INTERNAL:
            continue
        seen += 1
        if squeeze(piece).strip() not in page:
            print(f"{file.relative_to(TOP)}: no entry for: {piece.strip()}")
            missing += 1
    used = {code for file in sources() for code in CODE.findall(file.read_text())}
    explained = set(re.findall(r"^\| (ZE-\d\d) \|", (TOP / "docs/troubleshooting.md").read_text(), re.M))
    for code in sorted(used ^ explained):
        print(f"{code}: {'no entry' if code in used else 'no message has it'}")
        missing += 1
    if seen < 50:
        sys.exit(f"only {seen} messages were found: the search is broken")
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
