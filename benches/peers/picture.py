"""A picture of figures over queue depth: SVG, readable on light and dark ground alike."""

import math

WIDTH, HEIGHT = 880, 356
LEFT, TOP, PANEL_W, PANEL_H, GAP = 62, 64, 340, 240, 82

# Colours that stand out from white and from black; the first is ours.
COLOURS = ["#2f81f7", "#a371f7", "#e36209", "#7d8590"]
DASHES = ["", "6 4", "", "2 4"]
INK = "#7d8590"


def draw(series, depths):
    """`series`: name and, by depth, (operations per second, µs of processor time)."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'role="img" font-family="system-ui, sans-serif" font-size="12">',
        "<title>4 KiB random reads over one Unix socket, by queue depth</title>",
        f"<desc>{describe(series, depths)}</desc>",
    ]
    titles = ("Operations per second", "Client processor time per operation, µs")
    for index, title in enumerate(titles):
        x = LEFT + index * (PANEL_W + GAP)
        parts += panel(x, title, [(name, pick(points, index)) for name, points in series], depths)
    parts += legend([name for name, _ in series])
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def pick(points, index):
    return {depth: values[index] for depth, values in points.items()}


def describe(series, depths):
    last = depths[-1]
    known = ((name, points[last]) for name, points in series if last in points)
    return "; ".join(
        f"{name}: {iops:.0f} operations/s, {cpu:.2f} µs at depth {last}"
        for name, (iops, cpu) in known
    )


def panel(x0, title, series, depths):
    values = [value for _, points in series for value in points.values() if value > 0]
    low, high = bounds(values)
    logs = math.log10(low), math.log10(high)

    def x(depth):
        first, last = math.log2(depths[0]), math.log2(depths[-1])
        return x0 + PANEL_W * (math.log2(depth) - first) / max(last - first, 1e-9)

    def y(value):
        return TOP + PANEL_H * (1 - (math.log10(value) - logs[0]) / (logs[1] - logs[0]))

    out = [text(x0, TOP - 14, title, "start", weight="600")]
    for tick in ticks(low, high):
        out.append(line(x0, y(tick), x0 + PANEL_W, y(tick), INK, opacity=0.3))
        out.append(text(x0 - 8, y(tick) + 4, short(tick), "end"))
    for depth in depths:
        out.append(line(x(depth), TOP + PANEL_H, x(depth), TOP + PANEL_H + 4, INK))
        out.append(text(x(depth), TOP + PANEL_H + 18, str(depth), "middle"))
    out.append(text(x0 + PANEL_W / 2, TOP + PANEL_H + 36, "requests in flight", "middle"))
    # Ours is drawn last, on top.
    for number, (_, points) in reversed(list(enumerate(series))):
        shown = [(x(depth), y(points[depth])) for depth in depths if points.get(depth, 0) > 0]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in shown)
        colour, dash = COLOURS[number % 4], DASHES[number % 4]
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" '
            f'stroke-width="{3 if number == 0 else 2}"{dashes}/>'
        )
        out += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in shown]
    return out


def bounds(values):
    """The least and the greatest tick around all values."""
    steps = [mantissa * 10.0**power for power in range(-3, 9) for mantissa in (1, 2, 5)]
    low = max((step for step in steps if step <= min(values)), default=steps[0])
    high = min((step for step in steps if step >= max(values)), default=steps[-1])
    return low, high if high > low else low * 2


def ticks(low, high):
    for power in range(-3, 9):
        for mantissa in (1, 2, 5):
            value = mantissa * 10.0**power
            if low * 0.999 <= value <= high * 1.001:
                yield value


def short(value):
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def legend(names):
    out, x = [], LEFT
    for number, name in enumerate(names):
        colour, dash = COLOURS[number % 4], DASHES[number % 4]
        out.append(line(x, 20, x + 26, 20, colour, 3 if number == 0 else 2, dash))
        out.append(text(x + 33, 24, name, "start"))
        x += 60 + 7 * len(name)
    return out


def line(x1, y1, x2, y2, colour, width=1, dash="", opacity=1):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}"{dashes}/>'
    )


def text(x, y, content, anchor, weight="400"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{content}</text>'
    )
