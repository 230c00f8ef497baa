#!/usr/bin/env python3
"""Renders the golden conversations with the reference: Python's jinja2, set up
exactly as Hugging Face's apply_chat_template sets it up.

usage: tools/golden-templates.py [--check]

Reads models.json, conversations.json and *.jinja in init/chat/src/golden and
writes NAME.expected.json beside each template; with --check it only compares.
Needs jinja2 (pip install jinja2==3.1.6). The tests of init compare bytes.
"""

import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "init/chat/src/golden"
# tests/golden.rs names the same second.
NOW = datetime.datetime(2026, 3, 7, 9, 5, 3)


class Generation(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %}: rendered as if it were not there."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, jinja2.ext.loopcontrols],
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def fold_system(messages):
    """For templates without a system role: before the first user message."""
    if messages[0]["role"] != "system":
        return messages
    system, first, *rest = messages
    text = system["content"] and system["content"] + "\n\n"
    return [{**first, "content": text + first["content"]}, *rest]


def as_templates_name_it(message):
    message = dict(message)
    if "reasoning" in message:
        reasoning = message.pop("reasoning")
        message |= {"reasoning_content": reasoning, "thinking": reasoning}
    return message


def render(template, model, messages):
    if model["system"] == "folded":
        messages = fold_system(messages)
    messages = [as_templates_name_it(message) for message in messages]
    if model.get("content") == "parts":
        for message in messages:
            message["content"] = [{"type": "text", "text": message["content"]}]
    try:
        text = template.render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=True,
            bos_token=model["bos"],
            eos_token=model["eos"],
        )
    except jinja2.exceptions.TemplateError as error:
        return {"refused": error.message}
    return {"text": text}


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    models = json.loads((GOLDEN / "models.json").read_text("utf-8"))
    conversations = json.loads((GOLDEN / "conversations.json").read_text("utf-8"))
    stale = []
    for model in models:
        source = (GOLDEN / f"{model['name']}.jinja").read_bytes().decode("utf-8")
        template = environment().from_string(source)
        expected = {
            conversation["name"]: render(template, model, conversation["messages"])
            for conversation in conversations
        }
        text = json.dumps(expected, ensure_ascii=True, indent=1) + "\n"
        path = GOLDEN / f"{model['name']}.expected.json"
        if check and (not path.exists() or path.read_text("utf-8") != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text, "utf-8")
    if stale:
        sys.exit("not what jinja2 renders: " + ", ".join(stale))


if __name__ == "__main__":
    main()
