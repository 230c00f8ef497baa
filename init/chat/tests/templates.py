#!/usr/bin/env python3
"""Renders other people's chat templates with the reference, and writes what came
of it to templates/expected.tsv.

usage: init/chat/tests/templates.py [NAME CONVERSATION]

The templates are those in llama.cpp's source (tools/llama-source.sh) and in its
vocabularies, and the test model's (tools/model.sh get smollm2-135m). A line of
the table is a template's name, the beginning of its SHA-256, what it can do, and
the beginnings of the SHA-256 of its renderings: of each conversation as zosia
passes it, then of each of the contexts. With NAME and CONVERSATION: prints that
rendering instead, to be compared with what a failed test shows.
"""

import hashlib
import json
import pathlib
import struct
import subprocess
import sys

import jinja2
import reference

TESTS = pathlib.Path(__file__).resolve().parent
DATA = TESTS / "templates"
TOOLS = TESTS.parent.parent.parent / "tools"


def run(*command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return pathlib.Path(done.stdout.strip())


def template_of(gguf):
    """tokenizer.chat_template, or None."""
    with open(gguf, "rb") as file:
        data = file.read(1 << 24)
    key = b"tokenizer.chat_template"
    _, found, rest = data.partition(struct.pack("<Q", len(key)) + key + struct.pack("<I", 8))
    if not found:
        return None
    (length,) = struct.unpack_from("<Q", rest)
    return rest[8 : 8 + length]


def templates():
    """Name and text of each, sorted by name."""
    source = run(TOOLS / "llama-source.sh") / "models"
    found = {path.stem: path.read_bytes() for path in source.glob("templates/*.jinja")}
    files = [*source.glob("*.gguf"), run(TOOLS / "model.sh", "get", "smollm2-135m")]
    for path in files:
        text = template_of(path)
        if text is not None:
            found[path.stem] = text
    return sorted(found.items())


def digest(data):
    return hashlib.sha256(data).hexdigest()[:8]


def render(template, variables):
    """The text after "=", what the template said after "!", or "-" for an error."""
    try:
        outcome = "=" + template.render(**variables)
        outcome.encode()
        return outcome
    except jinja2.TemplateError as error:
        return f"!{error.message}" if type(error) is jinja2.TemplateError else "-"
    except Exception:
        return "-"


class Template:
    """A template as zosia uses it."""

    def __init__(self, source, model):
        self.template = reference.environment().from_string(source.decode())
        self.tokens = {"bos_token": model.get("bos", "<s>"), "eos_token": model.get("eos", "</s>")}
        self.parts = False
        self.system = True
        if "zosiaprobe0" not in self.probe("user"):
            self.parts = True
            if "zosiaprobe0" not in self.probe("user"):
                self.parts = None
                return
        both = self.probe("system", "user")
        self.system = "zosiaprobe0" in both and "zosiaprobe1" in both

    def probe(self, *roles):
        return self.render(
            [{"role": role, "content": f"zosiaprobe{i}"} for i, role in enumerate(roles)]
        )

    def render(self, messages):
        if not self.system:
            messages = fold_system(messages)
        messages = [self.as_templates_name_it(message) for message in messages]
        fixed = {"tools": None, "documents": None, "add_generation_prompt": True}
        return render(self.template, {"messages": messages, **fixed, **self.tokens})

    def as_templates_name_it(self, message):
        message = dict(message)
        if "reasoning" in message:
            reasoning = message.pop("reasoning")
            names = ["reasoning_content", "thinking", "reasoning"]
            message |= dict.fromkeys(names, reasoning)
        if self.parts:
            message["content"] = [{"type": "text", "text": message["content"]}]
        return message

    def abilities(self):
        if self.parts is None:
            return "unusable"
        return ("parts" if self.parts else "text") + ("" if self.system else ",folded")


def fold_system(messages):
    """For templates without a system role: before the first user message."""
    if messages[0]["role"] != "system":
        return messages
    system, first, *rest = messages
    text = system["content"] and system["content"] + "\n\n"
    return [{**first, "content": text + first["content"]}, *rest]


def main():
    if len(sys.argv) not in (1, 3):
        sys.exit(__doc__)
    models = json.loads((DATA / "models.json").read_text("utf-8"))
    conversations = json.loads((DATA / "conversations.json").read_text("utf-8"))
    contexts = json.loads((DATA / "contexts.json").read_text("utf-8"))
    lines = []
    for name, source in templates():
        template = Template(source, models.get(name, {}))
        outcomes = {each["name"]: template.render(each["messages"]) for each in conversations}
        if template.parts is None:
            outcomes = {}
        for context in contexts:
            variables = {**template.tokens, **context["variables"]}
            outcomes[context["name"]] = render(template.template, variables)
        if sys.argv[1:2] == [name]:
            print(outcomes[sys.argv[2]])
            return
        digests = " ".join(digest(outcome.encode()) for outcome in outcomes.values())
        lines.append("\t".join([name, digest(source), template.abilities(), digests]) + "\n")
    if sys.argv[1:]:
        sys.exit(f"there is no template {sys.argv[1]}")
    (DATA / "expected.tsv").write_text("".join(lines), "utf-8", newline="\n")


if __name__ == "__main__":
    main()
