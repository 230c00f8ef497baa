"""Makes docs/session-light.svg and docs/session-dark.svg from a real session.

Usage: python3 docs/picture.py [ARGUMENT]...   (tmux; rich, of docs/requirements.txt)

ARGUMENTS are what tools/run.sh is given (default: --native smollm2-135m). The lines below
are typed at a terminal of COLS x ROWS, each when the one before is answered, and what the
terminal then shows is drawn, in its colours.
"""

import os
import pathlib
import shlex
import subprocess
import sys
import time

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLS, ROWS = 84, 22
LINES = [
    "/set temp 0",
    "/system You are a helpful AI assistant.",
    "What is the capital of France?",
    "And of Italy?",
]
PROMPT = ">>> "
HINT = "Send a message (/help for help)"
# Background, foreground, the eight colours and the eight bright ones.
THEMES = {
    "light": TerminalTheme(
        (255, 255, 255),
        (36, 41, 46),
        [(36, 41, 46), (207, 34, 46), (17, 99, 41), (125, 78, 0)]
        + [(9, 105, 218), (130, 80, 223), (27, 124, 131), (110, 119, 129)],
        [(87, 96, 106), (164, 14, 38), (26, 127, 55), (99, 60, 1)]
        + [(33, 139, 255), (164, 117, 249), (49, 146, 170), (140, 149, 159)],
    ),
    "dark": TerminalTheme(
        (13, 17, 23),
        (230, 237, 243),
        [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)]
        + [(88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)],
        [(110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65)]
        + [(121, 192, 255), (210, 168, 255), (86, 212, 221), (255, 255, 255)],
    ),
}


def tmux(*words):
    command = ["tmux", "-L", f"zosia-picture-{os.getpid()}", "-f", "/dev/null", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for_prompt():
    """Waits until the last line is an empty prompt, as it is when all is answered; the
    first one says what it is for."""
    while True:
        lines = tmux("capture-pane", "-p").rstrip("\n").split("\n")
        if lines[-1].rstrip() in (PROMPT.rstrip(), f"{PROMPT}{HINT}"):
            return
        time.sleep(0.2)


def session(arguments):
    """The screen after LINES, with its escape sequences."""
    top = pathlib.Path(__file__).resolve().parent.parent
    tmux("new-session", "-d", "-x", str(COLS), "-y", str(ROWS), "-c", str(top), "sh")
    try:
        tmux("send-keys", "-l", f"PS1='$ '; clear; tools/run.sh {shlex.join(arguments)}\n")
        for line in LINES:
            wait_for_prompt()
            tmux("send-keys", "-l", line)
            tmux("send-keys", "Enter")
            # The line itself is a prompt no more.
            while f"{PROMPT}{line}" not in tmux("capture-pane", "-p"):
                time.sleep(0.2)
        wait_for_prompt()
        return tmux("capture-pane", "-p", "-e").rstrip("\n")
    finally:
        tmux("kill-server")


def draw(screen, theme):
    console = Console(record=True, width=COLS, file=open(os.devnull, "w"), color_system="256")
    console.print(Text.from_ansi(screen))
    # No font of elsewhere: the reader's own.
    before, rest = CONSOLE_SVG_FORMAT.split("    @font-face", 1)
    after = rest[rest.index("    .{unique_id}-matrix") :]
    form = (before + after).replace("Fira Code, monospace", "ui-monospace, monospace")
    return console.export_svg(
        title="zosia", theme=theme, code_format=form, unique_id="zosia"
    )


def main():
    screen = session(sys.argv[1:] or ["--native", "smollm2-135m"])
    here = pathlib.Path(__file__).resolve().parent
    for name, theme in THEMES.items():
        (here / f"session-{name}.svg").write_text(draw(screen, theme))


if __name__ == "__main__":
    main()
