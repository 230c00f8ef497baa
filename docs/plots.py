"""Draws docs/plot-neighbours.svg and docs/plot-depth.svg from the records in bench/runs.

Usage: python3 docs/plots.py [--check]

Decode of zosia and llama.cpp, natively: medians, and from the slowest run to the fastest.
A model has a panel where records tell its speed at two places or more. Whoever looks
chooses between light and dark.
--check changes nothing, and fails where a picture is not what the records say.
"""

import json
import pathlib
import statistics
import sys
from collections import defaultdict
from html import escape

DOCS = pathlib.Path(__file__).parent
RUNS = DOCS.parent / "bench/runs"
AXES = {
    "neighbours": "endless loops beside it on two processors",
    "depth": "tokens in the context",
}
MODELS = {"smollm2-135m": "SmolLM2-135M", "phi35-shape": "Phi-3.5's shape", "phi3-shape": "Phi-3.5's shape"}
# llama.cpp as it builds itself or, where that does not run, with zosia's flags.
WHO = {"zosia": "zosia", "llama-default": "llama.cpp", "llama-flags": "llama.cpp"}
STYLE = """<style>
svg { --ground: #ffffff; --text: #24292e; --grid: #d8dee4; --zosia: #0969da; --peer: #bc4c00 }
@media (prefers-color-scheme: dark) {
svg { --ground: #0d1117; --text: #e6edf3; --grid: #30363d; --zosia: #58a6ff; --peer: #f0883e }
}
path { fill: none; stroke: var(--grid) } text { fill: var(--text) } rect { fill: var(--ground) }
.line { stroke-width: 2 }
.zosia path { stroke: var(--zosia) } .zosia circle, .zosia text { fill: var(--zosia) }
.peer path { stroke: var(--peer) } .peer circle, .peer text { fill: var(--peer) }
</style>"""
# A panel: its size, and the space around what is drawn.
WIDTH, HEIGHT = 410, 280
LEFT, RIGHT, TOP, BOTTOM = 50, 56, 40, 50


def speeds(result):
    """Tokens decoded a second in each run of a result: zosia's, or llama-bench's."""
    if "zosia" in result:
        return [result["decode_tokens"] * 1e9 / ns for ns in result["decode_ns"] if result["decode_tokens"]]
    return result["samples_ts"] if result["n_gen"] else []


def read_records(axis):
    """{(processor, model): {who: {where on the axis: [tokens/s]}}} of all native records."""
    panels = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for file in sorted(RUNS.glob("*/*.json")):
        record = json.loads(file.read_text())
        if record.get("where") != "native" or axis not in record or record.get("unit"):
            continue
        model = record["model_file"].removesuffix(".gguf")
        for measured in record["rounds"]:
            where = {name: measured.get(name, record.get(name, 0)) for name in AXES}
            place = where.pop(axis)
            if measured["who"] in WHO and not any(where.values()):
                lines = panels[record["host_cpu"], MODELS.get(model, model)]
                lines[WHO[measured["who"]]][place] += speeds(measured["result"])
    return {
        name: lines
        for name, lines in panels.items()
        if any(sum(map(bool, places.values())) > 1 for places in lines.values())
    }


def round_up(value):
    """The next number of one digit and zeros."""
    step = 1
    while True:
        for digit in range(1, 10):
            if digit * step >= value:
                return digit * step
        step *= 10


def draw_panel(left, title, lines, axis):
    """One model: a grid, and a line for each who."""
    places = sorted({place for line in lines.values() for place in line})
    fastest = max(speed for line in lines.values() for runs in line.values() for speed in runs)
    top = round_up(fastest / 4) * 4
    across = (WIDTH - LEFT - RIGHT - 40) / max(places)

    def x(place):
        return left + LEFT + 20 + place * across

    def y(speed):
        return HEIGHT - BOTTOM - speed * (HEIGHT - TOP - BOTTOM) / top

    yield f'<text x="{left + LEFT}" y="22" font-weight="bold">{escape(title)}: tokens/s</text>'
    for quarter in range(5):
        speed = top * quarter // 4
        yield f'<path d="M{left + LEFT} {y(speed):.1f}H{left + WIDTH - RIGHT}"/>'
        yield f'<text x="{left + LEFT - 8}" y="{y(speed) + 4:.1f}" text-anchor="end">{speed}</text>'
    for place in places:
        yield f'<text x="{x(place):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{place}</text>'
    middle = left + (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{AXES[axis]}</text>'
    for who, line in lines.items():
        yield from draw_line(who, {place: line[place] for place in sorted(line) if line[place]}, x, y)


def draw_line(who, line, x, y):
    """Medians, joined, and the range of each; who, where the lines are apart."""
    medians = {place: statistics.median(runs) for place, runs in line.items()}
    path = "L".join(f"{x(place):.1f} {y(speed):.1f}" for place, speed in medians.items())
    yield f'<g class="{"zosia" if who == "zosia" else "peer"}"><path class="line" d="M{path}"/>'
    for place, runs in line.items():
        yield f'<path d="M{x(place):.1f} {y(min(runs)):.1f}V{y(max(runs)):.1f}"/>'
        yield f'<circle cx="{x(place):.1f}" cy="{y(medians[place]):.1f}" r="4"/>'
    named = min(line) if who == "zosia" else max(line)
    yield f'<text x="{x(named) + 10:.1f}" y="{y(medians[named]) - 6:.1f}">{who}</text></g>'


def draw(axis, panels):
    """The picture of one axis, its panels side by side."""
    width = WIDTH * len(panels)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" '
        'font-family="sans-serif" font-size="13">'
    )
    yield STYLE
    yield f'<rect width="{width}" height="{HEIGHT}"/>'
    for number, ((processor, model), lines) in enumerate(sorted(panels.items(), reverse=True)):
        processor = processor.replace("(R)", "").removesuffix(" Processor")
        yield from draw_panel(number * WIDTH, f"{model}, {processor}", lines, axis)
    yield "</svg>"


def main():
    check = sys.argv[1:] == ["--check"]
    for axis in AXES:
        panels = read_records(axis)
        file = DOCS / f"plot-{axis}.svg"
        drawn = "\n".join(draw(axis, panels)) + "\n" if panels else None
        if check and drawn != (file.read_text() if file.exists() else None):
            sys.exit(f"{file} is not what the records say: python3 docs/plots.py")
        if drawn and not check:
            file.write_text(drawn)


main()
