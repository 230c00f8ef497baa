#!/usr/bin/env python3
"""Renders constructs.txt with the reference, Python's jinja2, set up as Hugging
Face's apply_chat_template sets it up, and writes expected.jsonl: a line of
[template, text] for each, null where jinja2 fails.

usage: init/chat/tests/expected.py

Needs jinja2==3.1.6 on Python 3.11. In constructs.txt each line is a template,
in which ⏎ stands for the end of a line.
"""

import importlib.util
import json
import pathlib
import sys

import jinja2

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = HERE.parent.parent.parent / "tools"


def load_reference():
    path = TOOLS / "golden-templates.py"
    spec = importlib.util.spec_from_file_location("golden_templates", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    if jinja2.__version__ != "3.1.6":
        sys.exit("this needs jinja2==3.1.6")
    reference = load_reference()
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
