#!/usr/bin/env python3
"""Makes the fault matrix of docs/reliability.md of what tests saw.

Usage: tools/reliability.py RECORDS [--write]

RECORDS is the file that the tests of tools/vmtest write their records to, a line of
JSON each (ZOSIA_FAULTS=RECORDS cargo test -p vmtest). Without --write, says in what
the page differs, times and numbers aside, and ends with status 1 if it does.
"""

import datetime
import json
import os
import pathlib
import platform
import re
import sys

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs/reliability.md"
BEGIN = "<!-- The table is made by tools/reliability.py. -->\n"
TITLES = {
    1: "no disk",
    2: "a disk that appears late",
    3: "a bad sector",
    4: "a disk that is pulled out",
    5: "a slow disk",
    6: "a file that is cut",
    7: "flipped bits",
    8: "a hostile file",
    9: "an engine that dies or hangs",
    10: "memory that runs out",
    11: "a model larger than the memory",
    12: "errors of PID 1",
    13: "a kernel that panics",
    14: "ways of leaving",
    15: "what is typed and pasted",
    16: "parameters",
    17: "a disk that could be written",
    18: "processes that ended",
    19: "time that stands still",
    20: "a loop of crashes",
    21: "the host's files, streams and signals",
    22: "what is typed without end",
    23: "conversations that are kept",
}


def cell(text):
    """Numbers, which differ from run to run, as N; what would end a cell, escaped."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "HEX", text)
    text = re.sub(r"(?<![\w-])\d[\d.]*(?!\w)", "N", text)
    text = re.sub(r"/tmp/[\w./-]+", "PATH", text)
    return text.replace("|", "\\|").replace("<", "&lt;")


def rows(records):
    """A line for each record, by row, in the order of what is done to the machine."""
    seen = {}
    for record in records:
        told = f"`{cell(record['told'])}`" if record["told"] else "nothing"
        key = (record["row"], cell(record["fault"]))
        # A test that is repeated saw the same.
        seen[key] = (told, cell(record["then"]), record["seconds"])
    for (row, fault), (told, then, seconds) in sorted(seen.items()):
        yield f"| {row} {TITLES[row]} | {fault} | {told} | {then} |", seconds


def table(records):
    when = datetime.date.today().isoformat()
    lines = [
        f"Last run: {when}, {platform.machine()}, {os.cpu_count()} processors, guests emulated.",
        "",
        "| row | fault | what the user reads | what happens then | seconds |",
        "|---|---|---|---|---|",
    ]
    lines += [f"{line} {seconds:.1f} |" for line, seconds in rows(records)]
    return "\n".join(lines) + "\n"


def in_page(page):
    """The page's rows, without their times."""
    return [line.rsplit("|", 2)[0] + "|" for line in page.splitlines() if re.match(r"\| \d", line)]


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if len(sys.argv) > 1 else 2
    records = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    page = PAGE.read_text()
    if "--write" in sys.argv[2:]:
        above, _, _ = page.partition(BEGIN)
        PAGE.write_text(above + BEGIN + "\n" + table(records))
        return 0
    seen = {line for line, _ in rows(records)}
    stands = set(in_page(page))
    for line in sorted(seen ^ stands):
        print(f"{'not in the page' if line in seen else 'not seen'}: {line}")
    if seen != stands:
        print(f"docs/reliability.md is not what the tests saw; {sys.argv[0]} {sys.argv[1]} --write")
    return 0 if seen == stands else 1


if __name__ == "__main__":
    sys.exit(main())
