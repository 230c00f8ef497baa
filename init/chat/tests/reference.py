"""The reference that templates are compared with: Python's jinja2, set up
exactly as Hugging Face's apply_chat_template sets it up."""

import datetime
import json
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

# The tests name the same second.
NOW = datetime.datetime(2026, 3, 7, 9, 5, 3)

if jinja2.__version__ != "3.1.6" or sys.version_info[:2] != (3, 11):
    sys.exit("this needs jinja2==3.1.6 on Python 3.11")


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
