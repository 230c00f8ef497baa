#!/usr/bin/env python3
"""Renders constructs.txt with the reference and writes expected.jsonl: a line of
[template, text] for each, null where jinja2 fails.

usage: init/chat/tests/expected.py

In constructs.txt each line is a template, in which ⏎ stands for the end of a
line.
"""

import json
import pathlib

import reference

HERE = pathlib.Path(__file__).resolve().parent

# The same as in the test.
CONTEXT = {
    "messages": [
        {"role": "user", "content": " Hi "},
        {"role": "assistant", "content": "it's"},
        {"role": "user", "content": "Bye"},
    ],
    "tools": None,
    "documents": None,
    "add_generation_prompt": True,
    "bos_token": "<s>",
}


def main():
    with open(HERE / "constructs.txt", encoding="utf-8", newline="\n") as file:
        templates = [line.replace("⏎", "\n") for line in file.read().split("\n") if line]
    with open(HERE / "expected.jsonl", "w", encoding="ascii", newline="\n") as out:
        for template in templates:
            try:
                text = reference.environment().from_string(template).render(**CONTEXT)
                text.encode()
            except Exception:
                text = None
            print(json.dumps([template, text]), file=out)


if __name__ == "__main__":
    main()
