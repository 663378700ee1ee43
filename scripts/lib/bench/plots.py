"""Plots as SVG: plain text files that need no script, and are read on light and on dark paper.

Leaves out: everything a figure can say better in a table.
"""

import math
from xml.sax.saxutils import escape

WIDTH = 760
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 14px; font-weight: 600 }
.faint { fill: #57606a }
.grid { stroke: #d0d7de; stroke-width: 1 }
.bar { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 5 3 }
.s0 { stroke: #0969da; fill: #0969da } .s1 { stroke: #bc4c00; fill: #bc4c00 }
.s2 { stroke: #1a7f37; fill: #1a7f37 } .s3 { stroke: #8250df; fill: #8250df }
.line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #9198a1 } .grid { stroke: #3d444d } .bar { stroke: #ff7b72 }
  .s0 { stroke: #58a6ff; fill: #58a6ff } .s1 { stroke: #ffa657; fill: #ffa657 }
  .s2 { stroke: #56d364; fill: #56d364 } .s3 { stroke: #d2a8ff; fill: #d2a8ff }
  .line { fill: none }
}
</style>"""


def document(height, title, parts):
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">'
    )
    return "\n".join([head, STYLE, text(10, 20, title, "title"), *parts, "</svg>", ""])


def text(x, y, said, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(said)}</text>'


def stroke(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def dot(x, y, series, radius=4.0, hollow=False):
    fill = ' style="fill: none"' if hollow else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="s{series}"{fill}/>'


def legend(names, y):
    parts, x = [], 10
    for series, name in enumerate(names):
        parts += [dot(x + 5, y - 4, series), text(x + 15, y, name)]
        x += 35 + 7 * len(name)
    return parts


def steps(most, count=5):
    """Round numbers from 0 to a little over `most`."""
    most = most if most > 0 else 1.0
    rough = most / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    return [step * index for index in range(math.ceil(most / step - 1e-9) + 1)]


def number(value):
    if value >= 10_000:
        return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k"
    return f"{value:.3g}"


def against(title, note, rows, names):
    """Figures as shares of their bars. `rows`: (label, series, shares of the rounds, their median)."""
    left, right, line, top = 320, WIDTH - 30, 22, 66
    ticks = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    bottom = top + line * len(rows)

    def x(share):
        # A figure can be below its floor, and one that is far off needs no scale.
        return left + (right - left) * min(max(share, 0.0), ticks[-1]) / ticks[-1]

    parts = legend(names, 42)
    for tick in ticks:
        parts.append(stroke(x(tick), top - 8, x(tick), bottom, "grid"))
        parts.append(text(x(tick), bottom + 16, number(tick), "faint", "middle"))
    parts += [stroke(x(1), top - 8, x(1), bottom, "bar"), text(x(1), top - 12, "bar", "faint", "middle")]
    for index, (label, series, shares, median) in enumerate(rows):
        y = top + line * index + line / 2
        parts.append(text(left - 10, y + 4, label, "", "end"))
        parts += [dot(x(share), y, series, 2.5, hollow=True) for share in shares]
        if median is not None:
            parts.append(dot(x(median), y, series, 4.5))
            if median > ticks[-1]:
                parts.append(text(right - 10, y + 4, f"{number(median)} x", "faint", "end"))
    parts.append(text(10, bottom + 36, note, "faint"))
    return document(bottom + 48, title, parts)


def curves(title, x_name, y_name, series, logarithmic=False):
    """`series`: (name, points). With `logarithmic`, x goes by powers of two or ten, as the points do."""
    left, right, top, bottom = 70, WIDTH - 30, 74, 330
    points = [point for _, line in series for point in line]
    y_ticks = steps(max(y for _, y in points) * 1.05)
    xs = sorted({x for x, _ in points})
    if logarithmic:
        low, high = math.log(xs[0]), math.log(xs[-1])
        x_ticks = xs if len(xs) <= 9 else xs[:: math.ceil(len(xs) / 9)]
    else:
        x_ticks = steps(xs[-1])
        low, high = 0.0, x_ticks[-1]

    def at_x(value):
        share = ((math.log(value) if logarithmic else value) - low) / ((high - low) or 1.0)
        return left + (right - left) * share

    def at_y(value):
        return bottom - (bottom - top) * value / y_ticks[-1]

    parts = [*legend([name for name, _ in series], 44), text(10, 64, y_name, "faint")]
    for tick in y_ticks:
        parts.append(stroke(left, at_y(tick), right, at_y(tick), "grid"))
        parts.append(text(left - 8, at_y(tick) + 4, number(tick), "faint", "end"))
    for tick in x_ticks:
        parts.append(text(at_x(tick), bottom + 18, number(tick), "faint", "middle"))
    parts.append(text((left + right) / 2, bottom + 38, x_name, "faint", "middle"))
    for index, (_, line) in enumerate(series):
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" class="s{index} line"/>')
        parts += [dot(at_x(x), at_y(y), index, 3.5) for x, y in line]
    return document(bottom + 50, title, parts)
