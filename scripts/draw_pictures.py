#!/usr/bin/env python3
"""Draws SVG from what pointsman-record-pictures has recorded; scripts/pictures.sh calls it.

  draw_pictures.py dashboard DASHBOARD.json RECORDINGS   the dashboard, laid out as Grafana lays it out
  draw_pictures.py terminal FILE                         a terminal's output with its colors
"""
import itertools
import json
import math
import pathlib
import re
import sys
from xml.sax.saxutils import escape

COLUMN, ROW, GAP = 50, 30, 8  # Grafana's grid has 24 columns
PALETTE = ["#73BF69", "#5794F2", "#FF9830", "#B877D9", "#F2495C", "#37872D", "#8AB8FF", "#FADE2A", "#C0D8FF", "#FF7383"]
NAMED = {"red": "#F2495C", "orange": "#FF9830", "blue": "#5794F2", "green": "#73BF69"}
INK, FAINT, GRID = "#24292e", "#6e7680", "#e4e7eb"


def number(value):
    return f"{value:.1f}".rstrip("0").rstrip(".")


def text(x, y, words, size=11, color=INK, anchor="start", weight=""):
    extra = (f' text-anchor="{anchor}"' if anchor != "start" else "") + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{number(x)}" y="{number(y)}" font-size="{size}" fill="{color}"{extra}>{escape(words)}</text>'


def rect(x, y, w, h, fill, extra=""):
    return f'<rect x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}" fill="{fill}"{extra}/>'


def shown(value, unit):
    """A value as Grafana writes it."""
    if unit == "percentunit":
        return f"{value * 100:.0f}%"
    if unit == "bytes":
        for name, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.0f} B"
    if unit == "s" and value:
        for name, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
            if value >= size:
                return f"{value / size:.3g} {name}"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


class Series:
    def __init__(self, name, values):
        self.name = name
        self.points = [(float(t), float(v)) for t, v in values if v != "NaN"]


class Panel:
    def __init__(self, panel, recordings):
        self.title, self.type, self.grid = panel["title"], panel["type"], panel["gridPos"]
        self.defaults = panel["fieldConfig"]["defaults"]
        self.unit = self.defaults.get("unit", panel.get("options", {}).get("yAxis", {}).get("unit", "short"))
        self.series = []
        for target in panel["targets"]:
            for found in json.loads((recordings / f"{panel['id']}-{target['refId']}.json").read_text()):
                name = re.sub(r"{{(\w+)}}", lambda label: found["metric"].get(label[1], ""), target["legendFormat"])
                self.series.append(Series(name or target["expr"], found["values"]))
        self.series = [series for series in self.series if series.points]
        self.colors = {}
        for override in panel["fieldConfig"]["overrides"]:
            for setting in override["properties"]:
                if setting["id"] == "color":
                    self.colors[override["matcher"]["options"]] = setting["value"]["fixedColor"]
        self.mappings = {}
        for mapping in self.defaults.get("mappings", []):
            self.mappings.update(mapping["options"])

    def color(self, i):
        """As the dashboard says, else the next one of the palette that it does not use."""
        fixed = [NAMED.get(color, color) for color in self.colors.values()]
        free = [color for color in PALETTE if color not in fixed] or PALETTE
        before = sum(series.name not in self.colors for series in self.series[:i])
        color = self.colors.get(self.series[i].name, free[before % len(free)])
        return NAMED.get(color, color)

    def draw(self, x, y, begin, end):
        w, h = self.grid["w"] * COLUMN - GAP, self.grid["h"] * ROW - GAP
        out = [rect(x, y, w, h, "#ffffff", ' stroke="#d8dce1" rx="2"'), text(x + 10, y + 19, self.title, 12, weight="600")]
        if not self.series:
            out.append(text(x + w / 2, y + h / 2, "no data", 12, FAINT, "middle"))
            return out
        box = (x + 10, y + 30, w - 20, h - 40)
        draw = {"timeseries": self.lines, "state-timeline": self.states, "heatmap": self.heat, "gauge": self.gauge,
                "bargauge": self.bars}[self.type]
        return out + draw(*box, begin, end)

    def times(self, x, y, w, h, begin, end):
        """The time axis below, in minutes since the recording began."""
        out = []
        step = next(s for s in (15, 30, 60, 120, 300) if (end - begin) / s <= max(w / 60, 2))
        for second in range(0, int(end - begin) + 1, step):
            at = x + w * second / (end - begin)
            out.append(f'<path d="M{number(at)} {number(y)}v{number(h)}" stroke="{GRID}"/>')
            out.append(text(at, y + h + 12, f"{second // 60}:{second % 60:02}", 9, FAINT, "middle"))
        return out

    def legend(self, x, y, w):
        """Names that fit; the room that they take is at the bottom."""
        out, at, line = [], x, 0
        for i, series in enumerate(self.series):
            width = 16 + 5.6 * len(series.name)
            if at + width > x + w and at > x:
                at, line = x, line + 1
            out.append(rect(at, y - 7 + line * 13, 10, 4, self.color(i)))
            out.append(text(at + 14, y - 2 + line * 13, series.name, 9, FAINT))
            at += width
        return out, (line + 1) * 13

    def lines(self, x, y, w, h, begin, end):
        _, room = self.legend(0, 0, w)
        legend, _ = self.legend(x, y + h - room + 13, w)
        h -= room + 18
        x, w = x + 42, w - 48
        stacked = self.defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
        sums = {}
        stack = []
        for series in self.series:
            line = []
            for t, v in series.points:
                low = sums.get(t, 0) if stacked else 0
                sums[t] = low + v
                line.append((t, low, low + v))
            stack.append(line)
        top = max((high for line in stack for _, _, high in line), default=0) or 1
        step = 10 ** math.floor(math.log10(top))
        step = next(s * step for s in (0.2, 0.5, 1, 2) if top / (s * step) <= 5)
        top = math.ceil(top / step - 1e-9) * step
        out = self.times(x, y, w, h, begin, end)
        for i in range(int(round(top / step)) + 1):
            at = y + h - h * i * step / top
            out.append(f'<path d="M{number(x)} {number(at)}h{number(w)}" stroke="{GRID}"/>')
            out.append(text(x - 5, at + 3, shown(i * step, self.unit), 9, FAINT, "end"))
        for i, line in enumerate(stack):
            for piece in pieces(line):
                spots = [(x + w * (t - begin) / (end - begin), y + h - h * low / top, y + h - h * high / top) for t, low, high in piece]
                upper = path([(a, c) for a, _, c in spots])
                if stacked:
                    lower = path([(a, b) for a, b, _ in reversed(spots)]).replace("M", "L", 1)
                    out.append(f'<path d="{upper}{lower}z" fill="{self.color(i)}" fill-opacity=".4"/>')
                out.append(f'<path d="{upper}" fill="none" stroke="{self.color(i)}" stroke-width="1.5"/>')
        return out + legend

    def states(self, x, y, w, h, begin, end):
        label = max(5.8 * len(series.name) for series in self.series) + 10
        x, w, h = x + label, w - label - 6, h - 18
        out = self.times(x, y, w, h, begin, end)
        row = h / len(self.series)
        for i, series in enumerate(sorted(self.series, key=lambda s: (s.points[0][0], s.name))):
            top, height = y + i * row + row * 0.12, row * 0.76
            out.append(text(x - 6, top + height / 2 + 4, series.name, 10, INK, "end"))
            for start, stop, value in spans(series.points):
                mapped = self.mappings.get(f"{value:g}", {})
                left = x + w * (start - begin) / (end - begin)
                width = w * (stop - start) / (end - begin)
                out.append(rect(left, top, width, height, mapped.get("color", PALETTE[i % len(PALETTE)])))
                words = mapped.get("text", f"{value:g}").strip()
                if width > 7 * len(words) + 8:
                    out.append(text(left + 5, top + height / 2 + 4, words, 10, "#ffffff"))
        return out

    def heat(self, x, y, w, h, begin, end):
        buckets = sorted(((float(s.name.replace("+Inf", "inf")), dict(s.points)) for s in self.series), key=lambda b: b[0])
        width = max(1, math.ceil((end - begin) / (w / 7)))
        cells, before = [], {}
        for bound, points in buckets:
            cells.append((bound, {}))
            for t, value in points.items():
                column = int((t - begin) // width)
                cells[-1][1][column] = max(cells[-1][1].get(column, 0), value - before.get(t, 0))
            before = points
        used = [i for i, (_, columns) in enumerate(cells) if max(columns.values(), default=0) > 0.5]
        if not used:
            return [text(x + w / 2, y + h / 2, "no changes", 12, FAINT, "middle")]
        cells = cells[max(used[0] - 1, 0):used[-1] + 2]
        most = max(value for _, columns in cells for value in columns.values())
        x, w, h = x + 52, w - 58, h - 18
        row = h / len(cells)
        out = self.times(x, y, w, h, begin, end)
        for i, (bound, columns) in enumerate(cells):
            top = y + h - (i + 1) * row
            out.append(text(x - 5, top + row / 2 + 3, "more" if bound == math.inf else "≤ " + shown(bound, "s"), 9, FAINT, "end"))
            for column, value in sorted(columns.items()):
                share = value / most
                if share < 0.01:
                    continue
                r, g, b = (int(round(light + (dark - light) * math.sqrt(share))) for light, dark in ((222, 8), (235, 48), (247, 107)))
                left = w * column * width / (end - begin)
                out.append(rect(x + left, top, min(w * width / (end - begin), w - left) - 0.6, row - 0.8, f"#{r:02x}{g:02x}{b:02x}"))
        return out

    def gauge(self, x, y, w, h, begin, end):
        value = self.series[0].points[-1][1]
        radius, cx, cy = min(w * 0.42, h * 0.6), x + w / 2, y + h * 0.75
        out = []
        for share, color in ((1, GRID), (value / self.defaults.get("max", 1), "#73BF69")):
            angle = math.pi * (1 - min(max(share, 0), 1))
            out.append(f'<path d="M{number(cx - radius)} {number(cy)}A{number(radius)} {number(radius)} 0 0 1 '
                       f'{number(cx + radius * math.cos(angle))} {number(cy - radius * math.sin(angle))}" '
                       f'fill="none" stroke="{color}" stroke-width="14"/>')
        return out + [text(cx, cy - 4, shown(value, self.unit), 22, INK, "middle"), text(cx, cy + 18, self.series[0].name, 10, FAINT, "middle")]

    def bars(self, x, y, w, h, begin, end):
        values = [(s.name, max(v for _, v in s.points) if self.title.startswith("Neighbours") else s.points[-1][1]) for s in self.series]
        top = max(v for _, v in values) or 1
        row = min(h / len(values), 34)
        out = []
        for i, (name, value) in enumerate(values):
            at = y + i * row
            out.append(text(x, at + 9, name, 10, FAINT))
            out.append(rect(x, at + 13, max((w - 30) * value / top, 1), row - 19, "#FF9830" if self.title.startswith("Neighbours") else self.color(i)))
            out.append(text(x + w, at + row - 7, shown(value, self.unit), 11, INK, "end"))
        return out


def pieces(points):
    """`points` ([time, …], …), cut where nothing was scraped for more than 5 seconds."""
    found = []
    for point in points:
        if not found or point[0] - found[-1][-1][0] > 5:
            found.append([])
        found[-1].append(point)
    return found


def path(spots):
    """A line through them, without those that change nothing."""
    kept = []
    for i, (a, b) in enumerate(spots):
        flat = 0 < i < len(spots) - 1 and abs(spots[i - 1][1] - b) < 0.05 and abs(spots[i + 1][1] - b) < 0.05
        if not flat:
            kept.append(f"{number(a)} {number(b)}")
    return "M" + "L".join(kept)


def spans(points):
    """(from, to, value), where it stayed the same and was not away for more than 5 seconds."""
    found = []
    for t, value in points:
        if found and found[-1][2] == value and t - found[-1][1] <= 5:
            found[-1][1] = t
        else:
            if found and t - found[-1][1] <= 5:
                found[-1][1] = t
            found.append([t, t + 1, value])
    return found


def svg(width, height, background, body, family):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="{family}">\n{rect(0, 0, width, height, background)}\n' + "\n".join(body) + "\n</svg>\n")


def dashboard(definition, recordings):
    panels = [Panel(panel, recordings) for panel in json.loads(definition.read_text())["panels"]]
    times = [t for panel in panels for series in panel.series for t, _ in series.points]
    begin, end = min(times), max(times)
    # Rows of which nothing was recorded, or zeros alone (what did not run), are left out.
    rows = {}
    for panel in panels:
        rows.setdefault(panel.grid["y"], []).append(panel)
    body, y = [], GAP
    for _, row in sorted(rows.items()):
        if not any(value for panel in row for series in panel.series for _, value in series.points):
            continue
        for panel in row:
            body += panel.draw(GAP + panel.grid["x"] * COLUMN, y, begin, end)
        y += row[0].grid["h"] * ROW
    return svg(24 * COLUMN + GAP, y, "#f4f5f5", body, "Inter, Helvetica, Arial, sans-serif")


def terminal(recorded, columns=120):
    colors = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "1": "#ffffff"}
    rows, color = [], ""
    for line in re.sub(r"\x1b\[\?7[lh]", "", recorded.read_text()).rstrip("\n").split("\n"):
        rows.append([])
        for piece in re.split(r"(\x1b\[[0-9;]*m)", line):
            if piece.startswith("\x1b"):
                color = colors.get(piece[2:-1], "")
                continue
            for character in piece:
                if len(rows[-1]) == columns:  # as a terminal breaks it
                    rows.append([])
                rows[-1].append((character, color))
    body = []
    for i, row in enumerate(rows):
        words = "".join(f'<tspan fill="{of}">{part}</tspan>' if of else part for of, part in runs(row))
        body.append(f'<text x="14" y="{26 + i * 18}" xml:space="preserve">{words}</text>')
    group = ['<g fill="#d1d5da" font-size="13">', *body, "</g>"]
    width = 28 + math.ceil(max(map(len, rows)) * 7.85)
    return svg(width, 26 + len(rows) * 18, "#1b1f24", group, "DejaVu Sans Mono, Menlo, Consolas, monospace")


def runs(row):
    """(color, text) of neighbours of one color."""
    for color, cells in itertools.groupby(row, key=lambda cell: cell[1]):
        yield color, escape("".join(character for character, _ in cells))


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "dashboard":
        sys.stdout.write(dashboard(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])))
    elif len(sys.argv) == 3 and sys.argv[1] == "terminal":
        sys.stdout.write(terminal(pathlib.Path(sys.argv[2])))
    else:
        sys.exit(__doc__)
