#!/usr/bin/env python3
"""Draws the tables of a result of bench/compare_torch_cuda.py as SVG files beside it.

Usage: python3 bench/plot_cuda.py PAGE.md, one that `bench/compare_torch_cuda.py --report PAGE.md` wrote
Writes NAME-lengths.svg (TFLOP/s and milliseconds against length, for each head dimension and direction, beside
cuDNN) and NAME-variants.svg (speed of score functions beside plain attention, time of masks beside their share of
plain's; of both beside FlexAttention). What is drawn is what the tables say; b is 16384 / length and there are
2048 / d heads.
"""

import argparse
import html
import math
import pathlib

TOKENS, HIDDEN = 16384, 2048
PANEL_WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 250, 170, 52, 14, 34, 40
INK, FAINT, GREY = "#222222", "#dddddd", "#999999"
OURS, THEIRS = "#1f5fa8", "#c8641e"


def tables(text):
    """Tables of a page, each as rows by the names of columns; columns without a name are numbered."""
    found, header = [], None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            header = None
        elif header is None:
            header = [cell or f"column {number}" for number, cell in enumerate(cells)]
            found.append([])
        elif not set("".join(cells)) <= set("-: "):
            found[-1].append(dict(zip(header, cells)))
    return found


def with_columns(found, *names):
    """The rows of all tables that have these columns."""
    return [row for rows in found for row in rows if all(name in row for name in names)]


class Drawing:
    def __init__(self, width, height, title):
        self.width, self.height, self.parts = width, height, []
        self.text(16, 24, title, size=15)

    def text(self, x, y, words, anchor="start", size=11, colour=INK):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">'
                          f"{html.escape(words)}</text>")

    def line(self, points, colour, width=1, dashes=""):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"'
                          + (f' stroke-dasharray="{dashes}"' if dashes else "") + "/>")

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def box(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def write(self, path):
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" font-family="sans-serif">\n'
            f'<rect width="{self.width}" height="{self.height}" fill="white"/>\n'
            + "\n".join(self.parts) + "\n</svg>\n")
        print(path)


def milliseconds(row, rate):
    flops = 4 * HIDDEN * TOKENS * int(row["tokens"]) * (0.5 if mask_of(row) == "causal" else 1)
    return flops * (2.5 if row["pass"] == "backward" else 1) / rate / 1e9


def mask_of(row):
    return next(value for name, value in row.items() if name.startswith("column"))


def panel(drawing, left, top, title, lines, ticks, place, scale_text):
    """`lines`: (colour, dashes, [(tokens, value)]); place(value): 0 to 1."""
    lengths = sorted({tokens for _, _, points in lines for tokens, _ in points})
    low, high = math.log2(lengths[0]), math.log2(lengths[-1])
    at_x = lambda tokens: left + PANEL_WIDTH * ((math.log2(tokens) - low) / (high - low) if high > low else 0.5)
    at_y = lambda value: top + PANEL_HEIGHT * (1 - place(value))
    drawing.text(left, top - 10, title)
    for tick in ticks:
        drawing.line([(left, at_y(tick)), (left + PANEL_WIDTH, at_y(tick))], FAINT)
        drawing.text(left - 6, at_y(tick) + 4, scale_text(tick), "end", 10)
    for tokens in lengths:
        words = f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)
        drawing.text(at_x(tokens), top + PANEL_HEIGHT + 15, words, "middle", 10)
    for colour, dashes, points in lines:
        points = [(at_x(tokens), at_y(value)) for tokens, value in sorted(points)]
        if len(points) > 1:
            drawing.line(points, colour, 2, dashes)
        for x, y in points:
            drawing.dot(x, y, colour)


def draw_lengths(title, rows, path):
    dimensions = sorted({row["d"] for row in rows if row["d"].isdigit()}, key=int)
    step_x, step_y = PANEL_WIDTH + LEFT + RIGHT, PANEL_HEIGHT + TOP + BOTTOM
    drawing = Drawing(len(dimensions) * step_x + 10, 4 * step_y + 70, title)
    for number, (words, colour, dashes) in enumerate((("Tilewise", OURS, ""), ("Tilewise, causal", OURS, "5 3"),
                                                      ("cuDNN", THEIRS, ""), ("cuDNN, causal", THEIRS, "5 3"))):
        drawing.line([(16 + 150 * number, 42), (46 + 150 * number, 42)], colour, 2, dashes)
        drawing.text(52 + 150 * number, 46, words)
    highest = 100 * math.ceil(max(float(row[name]) for row in rows for name in ("Tilewise", "cuDNN")) / 100)
    for column, d in enumerate(dimensions):
        for direction, name in enumerate(("forward", "backward")):
            chosen = [row for row in rows if row["d"] == d and row["pass"] == name]
            rates, times = [], []
            for peer, colour in (("cuDNN", THEIRS), ("Tilewise", OURS)):
                for mask, dashes in (("full", ""), ("causal", "5 3")):
                    points = [(int(row["tokens"]), float(row[peer]), row) for row in chosen if mask_of(row) == mask]
                    rates.append((colour, dashes, [(tokens, rate) for tokens, rate, _ in points]))
                    times.append((colour, dashes, [(tokens, milliseconds(row, rate)) for tokens, rate, row in points]))
            left, top = column * step_x + LEFT, 60 + TOP + direction * step_y
            panel(drawing, left, top, f"d {d}, {name}: TFLOP/s", rates, range(0, highest + 1, 200),
                  lambda rate: rate / highest, str)
            panel(drawing, left, top + 2 * step_y, f"d {d}, {name}: milliseconds", times, (0.1, 1, 10),
                  lambda ms: math.log(ms / 0.05) / math.log(20 / 0.05), lambda ms: f"{ms:g}")
    drawing.write(path)


def draw_variants(title, scores, masks, flex, path):
    groups = [(f"{name}, d {d}: TFLOP/s of plain's",
               [(row["variant"], float(row["of plain"]), f"{float(row['of plain']):.2f}") for row in scores
                if row["pass"] == name and row["d"] == d])
              for d in sorted({row["d"] for row in scores}, key=int) for name in ("forward", "backward")]
    groups += [(f"{name}, d 128: kept share of plain's time, over time",
                [(f"{row['mask']}, {int(row['tokens']) // 1024}k", 1 / float(row["ratio"]),
                  f"{1 / float(row['ratio']):.2f}") for row in masks if row["pass"] == name])
               for name in ("forward", "backward")]
    groups += [(f"{name}, d {d}: times as fast as FlexAttention (scale 1 : 4)",
                [(row["beside FlexAttention"], float(row["times as fast"]) / 4, f"{float(row['times as fast']):.2f}")
                 for row in flex if row["pass"] == name and row["d"] == d])
               for d in sorted({row["d"] for row in flex}, key=int) for name in ("forward", "backward")]
    width, bar, step = 330, 16, 430
    of_one = (width - 60) / 1.2
    heights = [30 + 22 * max(len(bars) for _, bars in groups[i:i + 2]) for i in range(0, len(groups), 2)]
    drawing = Drawing(2 * step + 20, 60 + sum(heights) + 20, title + ": beside plain attention")
    top = 60
    for number, (name_of_group, bars) in enumerate(groups):
        left = 100 + number % 2 * step
        drawing.text(left - 84, top, name_of_group, size=12)
        for i, (name, share, words) in enumerate(bars):
            y = top + 10 + 22 * i
            drawing.text(left - 6, y + 12, name, "end")
            drawing.box(left, y, of_one, bar, FAINT)
            drawing.box(left, y, of_one * min(share, 1.2), bar, OURS)
            drawing.text(left + width - 54, y + 12, words)
        if number % 2 == 1:
            top += heights[number // 2]
    drawing.write(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path)
    result = parser.parse_args().result
    text = result.read_text()
    title, found = text.splitlines()[0].lstrip("# "), tables(text)
    lengths = with_columns(found, "pass", "tokens", "Tilewise", "cuDNN")
    scores, masks = with_columns(found, "variant", "of plain", "pass"), with_columns(found, "mask", "ratio", "pass")
    draw_lengths(title, lengths, result.with_name(f"{result.stem}-lengths.svg"))
    flex = with_columns(found, "beside FlexAttention", "times as fast", "pass")
    draw_variants(title, scores, masks, flex, result.with_name(f"{result.stem}-variants.svg"))


if __name__ == "__main__":
    main()
