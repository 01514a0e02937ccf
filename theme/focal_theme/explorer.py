"""The directive ``explorer``: curves of the losses that the reader moves.

The page holds a figure of them, drawn here while the site is built, for readers without JavaScript
and for print; explorer.js puts moving curves in its place, drawn by JSXGraph. The script, its style
and JSXGraph are on those pages only that have an explorer.

``make book`` has no NumPy: the formulas are written out below, and the tests compare them, and
those of explorer.js, with focal_lib.
"""

import html
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

THEME = Path(__file__).resolve().parent.parent
JSXGRAPH = THEME / "node_modules" / "jsxgraph"

# The curves of the figure: as focal_notes.style has them (a dash pattern is in the line's widths).
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
COLORS = {0.0: "#000000", 0.5: "#AA3377", 1.0: "#0072B2", 2.0: "#D55E00", 5.0: "#00855F"}
DASHES = {0.5: (1.0, 1.0), 1.0: (5.0, 1.5), 5.0: (6.0, 1.5, 1.0, 1.5)}

# The population of the chapter on focal loss: the margins z = s x of each class are normal.
DEVIATION = 1.5
NEGATIVES, POSITIVES = 4.0, 0.5  # their means
RATIO = 1000  # negatives to a positive, in the figure

Points = list[tuple[float, float]]


# The formulas


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def _sigmoid(z: float) -> float:
    e = math.exp(-abs(z))
    return (1 if z >= 0 else e) / (1 + e)


def loss(p_t: float, gamma: float) -> float:
    return math.exp(gamma * math.log1p(-p_t)) * -math.log(p_t)


def gradient(p_t: float, gamma: float) -> float:
    """The size of the loss's derivative by the logit."""
    factor = math.exp(gamma * math.log1p(-p_t))
    return factor * (1 - p_t - gamma * p_t * math.log(p_t))


def ratio(p_t: float, gamma: float) -> float:
    return math.exp(-gamma * math.log1p(-p_t))


def posterior(score: float, gamma: float) -> float:
    """The probability of class 1 under which a score minimizes the expected focal loss: there the
    two classes pull equally."""
    one, zero = gradient(1 - score, gamma), gradient(score, gamma)
    return one / (one + zero)


# Gauss's rule with four points, on (-1, 1)
_NODES = ((0.3399810435848563, 0.6521451548625461), (0.8611363115940526, 0.3478548451374538))
_STEP = 1 / 16
_LEAST, _LARGEST = -20.0, 24.0  # the margins beyond have no weight


def class_losses(gamma: float, mean: float) -> list[tuple[float, float]]:
    """The expected loss of a class up to each margin: (margin, integral up to it) in order."""

    def density(z: float) -> float:
        distance = (z - mean) / DEVIATION
        u = math.log1p(math.exp(-abs(z))) + max(-z, 0)
        return math.exp(-(distance**2) / 2 - gamma * (u + z)) * u

    total, sums = 0.0, [(_LEAST, 0.0)]
    scale = _STEP / 2 / (DEVIATION * math.sqrt(2 * math.pi))
    for step in range(round((_LARGEST - _LEAST) / _STEP)):
        middle = _LEAST + (step + 0.5) * _STEP
        for node, weight in _NODES:
            offset = node * _STEP / 2
            total += scale * weight * (density(middle - offset) + density(middle + offset))
        sums.append((_LEAST + (step + 1) * _STEP, total))
    return sums


@cache
def population(gamma: float, negatives: float = RATIO) -> Points:
    """(p_t, the share of the total loss that examples up to it own)."""
    rows = zip(class_losses(gamma, NEGATIVES), class_losses(gamma, POSITIVES), strict=True)
    sums = [(z, negatives * easy + hard) for (z, easy), (_, hard) in rows]
    total = sums[-1][1]
    inner = [(_sigmoid(z), part / total) for z, part in sums if abs(z) <= 8]
    return [(0.0, 0.0), *inner, (1.0, 1.0)]


# The parts, and the figure of each


def _graph(function: Callable[[float, float], float], gamma: float) -> Points:
    return [(x, function(x, gamma)) for x in (i / 200 for i in range(1, 200))]


def _scores(gamma: float) -> Points:
    inner = [(posterior(i / 100, gamma), i / 100) for i in range(1, 100)]
    return [(0.0, 0.0), *inner, (1.0, 1.0)]


def _at(function: Callable[[float, float], float], x: float, form: str) -> str:
    values = [format(function(x, gamma), form) for gamma in GAMMAS]
    return ", ".join(values[:-1]) + " and " + values[-1]


def _share_below(x: float, gamma: float) -> float:
    return next(share for p, share in population(gamma) if p >= x)


@dataclass(frozen=True)
class Part:
    title: str  # of the vertical axis; this and the next in HTML
    axis: str  # of the horizontal one
    lowest: float
    highest: float
    ticks: dict[float, str]  # of the vertical axis
    curve: Callable[[float], Points]
    alt: Callable[[], str]


_TARGET = "probability of the target, <i>p</i><sub>t</sub>"
_FIFTHS = {i / 5: f"{i / 5:g}" for i in range(6)}
_GAMMA_LIST = ", ".join(f"{gamma:g}" for gamma in GAMMAS[:-1]) + f" and {GAMMAS[-1]:g}"

PARTS = {
    "loss": Part(
        "Loss (nats)",
        _TARGET,
        0,
        5,
        {float(i): f"{i}" for i in range(6)},
        lambda gamma: _graph(loss, gamma),
        lambda: (
            f"Loss against p_t for gamma {_GAMMA_LIST}: curves that fall to 0 at p_t = 1, lower "
            f"the larger gamma is. At p_t = 0.6 they are {_at(loss, 0.6, '.3f')}."
        ),
    ),
    "gradient": Part(
        "Gradient, |<i>d</i> loss / <i>d</i> logit|",
        _TARGET,
        0,
        1.4,
        {0.2 * i: f"{0.2 * i:.1f}" for i in range(0, 8)},
        lambda gamma: _graph(gradient, gamma),
        lambda: (
            f"Size of the gradient against p_t for gamma {_GAMMA_LIST}: cross entropy's is a line "
            "from 1 to 0; the others rise above 1 first and then fall below it. At p_t = 0.6 they "
            f"are {_at(gradient, 0.6, '.3f')}."
        ),
    ),
    "ratio": Part(
        "CE / FL, times cheaper",
        _TARGET,
        0,
        4,
        {float(i): f"{10**i:,}" for i in range(5)},
        lambda gamma: [(x, math.log10(y)) for x, y in _graph(ratio, gamma)],
        lambda: (
            f"Cross entropy divided by focal loss against p_t for gamma {_GAMMA_LIST}, on a "
            "logarithmic axis: 1 for gamma 0, otherwise rising from 1 to infinity. At p_t = 0.9 "
            f"they are {_at(ratio, 0.9, ',.4g')}."
        ),
    ),
    "population": Part(
        "Share of the total loss up to <i>p</i><sub>t</sub>",
        _TARGET,
        0,
        1,
        _FIFTHS,
        population,
        lambda: (
            f"The share of a population's total loss that examples up to p_t own, for gamma "
            f"{_GAMMA_LIST}, with {RATIO:,} negatives to a positive. The curves rise from 0 to 1, "
            f"sooner the larger gamma is. At p_t = 0.5 they are {_at(_share_below, 0.5, '.2f')}."
        ),
    ),
    "score": Part(
        "Score that the loss asks for",
        "probability of class 1, <i>η</i>",
        0,
        1,
        _FIFTHS,
        _scores,
        lambda: (
            f"The score that minimizes the expected loss against the probability of class 1, for "
            f"gamma {_GAMMA_LIST}: the diagonal for gamma 0; the others cross it at one half and "
            "are flatter there the larger gamma is. The score 0.7 stands for the probabilities "
            f"{_at(posterior, 0.7, '.2f')}."
        ),
    ),
}

WIDTH, HEIGHT = 340, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24  # the margins, also in explorer.js


def clip(points: Iterable[tuple[float, float]], highest: float) -> Points:
    """A curve without what is above the frame; cut where it crosses the frame's edge."""
    kept: Points = []
    previous: tuple[float, float] | None = None
    for x, y in points:
        if previous and (previous[1] > highest) != (y > highest):
            part = (highest - previous[1]) / (y - previous[1])
            kept.append((previous[0] + part * (x - previous[0]), highest))
        if y <= highest:
            kept.append((x, y))
        previous = (x, y)
    return kept


def _path(points: Points, part: Part) -> str:
    scale = (HEIGHT - TOP - BOTTOM) / (part.highest - part.lowest)
    places: list[tuple[float, float]] = []
    for x, y in clip(points, part.highest):
        place = (LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - (y - part.lowest) * scale)
        near = places and math.dist(place, places[-1]) < 2.5
        if not near or (x, y) == points[-1]:
            places.append(place)
    return "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}"


@cache
def figure(name: str) -> str:
    """One part's picture, in SVG: black ink on nothing, as all figures of the book."""
    part = PARTS[name]
    scale = (HEIGHT - TOP - BOTTOM) / (part.highest - part.lowest)
    grid, labels = [], []
    for value, text in part.ticks.items():
        y = HEIGHT - BOTTOM - (value - part.lowest) * scale
        grid.append(_line(LEFT, y, WIDTH - RIGHT, y))
        labels.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in _FIFTHS.items():
        x = LEFT + value * (WIDTH - LEFT - RIGHT)
        grid.append(_line(x, TOP, x, HEIGHT - BOTTOM))
        labels.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text}</text>')
    curves = [
        f'<path d="{_path(part.curve(gamma), part)}" stroke="{COLORS[gamma]}"{_dashes(gamma)}/>'
        for gamma in GAMMAS
    ]
    return (
        f'<svg class="explorer-ink" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{html.escape(part.alt(), quote=True)}">'
        f'<path class="explorer-grid" d="{"".join(grid)}"/>{"".join(labels)}'
        f'<g fill="none" stroke-width="1.8">{"".join(curves)}</g></svg>'
    )


def _dashes(gamma: float) -> str:
    pattern = " ".join(f"{1.8 * length:g}" for length in DASHES.get(gamma, ()))
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def _key(gamma: float) -> str:
    name = "<i>γ</i> = 0 (CE)" if gamma == 0 else f"<i>γ</i> = {gamma:g}"
    return (
        '<span><svg class="explorer-ink" viewBox="0 0 28 6" width="28" height="6"'
        f' aria-hidden="true"><path d="M0,3L28,3" stroke="{COLORS[gamma]}"'
        f' stroke-width="1.8"{_dashes(gamma)}/></svg> {name}</span>'
    )


# The controls, which explorer.js shows


@dataclass(frozen=True)
class Control:
    label: str
    least: float
    largest: float
    step: float
    parts: set[str]  # that it moves


CONTROLS = {
    "gamma": Control("<span>focusing parameter, </span><i>γ</i>", 0, 5, 0.1, {*PARTS}),
    "alpha": Control(
        "<span>weight of class 1, </span><i>α</i>", 0, 0.99, 0.01, {*PARTS} - {"ratio"}
    ),
    "ratio": Control("<span>class </span>imbalance", 0, 4, 0.05, {"population"}),
    "p": Control("<span>probability at the point, </span><i>p</i>", 0.001, 0.999, 0.001, {*PARTS}),
}
START = {"gamma": 2.0, "alpha": 0.0, "ratio": 1000.0, "p": 0.9}
# What a setting may be: an alpha of 0 is none, and the imbalance moves on a logarithmic scale.
RANGES = {"gamma": (0, 5), "alpha": (0, 0.99), "ratio": (1, 10_000), "p": (0.001, 0.999)}


class explorer(nodes.General, nodes.Element):  # noqa: N801 (docutils names nodes so)
    """Curves that the reader moves. Its children are what to see in them."""


def _setting(name: str) -> Callable[[str], float]:
    def convert(argument: str) -> float:
        value, (least, largest) = float(argument), RANGES[name]
        if not least <= value <= largest:
            raise ValueError(f"{name}: takes a number from {least} to {largest}")
        return value

    return convert


def _parts(argument: str) -> list[str]:
    parts = argument.split()
    if not parts or len(set(parts)) < len(parts) or not {*parts} <= {*PARTS}:
        raise ValueError(f"parts: takes some of {' '.join(PARTS)}, each once")
    return parts


class Explorer(SphinxDirective):
    """``explorer``: all parts, or those that the option ``parts`` names, in its order.

    The options ``gamma``, ``alpha`` (0 is none), ``ratio`` and ``p`` set where it starts. The
    content says what to see.
    """

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "parts": _parts,
        "name": directives.unchanged,
        **{name: _setting(name) for name in START},
    }

    def run(self) -> list[nodes.Node]:
        node = explorer(parts=self.options.get("parts", [*PARTS]))
        node["start"] = {name: self.options.get(name, value) for name, value in START.items()}
        self.options.setdefault("name", "explorer")
        self.add_name(node)
        self.set_source_info(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def _controls(identity: str, parts: list[str]) -> str:
    rows = []
    for name, control in CONTROLS.items():
        if control.parts & {*parts}:
            rows.append(
                f'<div class="explorer-control"><label for="{identity}-{name}">{control.label}'
                f'</label><output for="{identity}-{name}"></output><input type="range"'
                f' id="{identity}-{name}" name="{name}" min="{control.least:g}"'
                f' max="{control.largest:g}" step="{control.step:g}" autocomplete="off"/></div>'
            )
    return f'<div class="explorer-controls" hidden="">{"".join(rows)}</div>'


def _panel(identity: str, name: str) -> str:
    part = PARTS[name]
    return (
        f'<div class="explorer-panel" data-part="{name}" role="group"'
        f' aria-labelledby="{identity}-{name}-title">'
        f'<p class="explorer-title" id="{identity}-{name}-title">{part.title}</p>'
        f'<div class="explorer-static">{figure(name)}</div>'
        f'<div class="explorer-board explorer-ink" id="{identity}-{name}-board" hidden=""></div>'
        f'<p class="explorer-axis">{part.axis}</p>'
        '<dl class="explorer-values" hidden=""></dl></div>'
    )


def visit_explorer(self: HTML5Translator, node: explorer) -> None:
    [identity, *_] = node["ids"]
    parts = node["parts"]
    start = {f"data-{name}": f"{value:g}" for name, value in node["start"].items()}
    attributes = {"role": "group", "aria-label": "Explorer of the losses", **start}
    self.body.append(self.starttag(node, "div", CLASS="explorer", **attributes))
    keys = "".join(map(_key, GAMMAS))
    self.body.append(
        _controls(identity, parts)
        + f'<p class="explorer-key explorer-static">{keys}</p>'
        + '<p class="explorer-key explorer-live" hidden=""></p>'
        + f'<div class="explorer-panels">{"".join(_panel(identity, name) for name in parts)}'
        '<div class="explorer-notes"><div class="explorer-actions" hidden="">'
        '<button type="button" name="copy">Copy a link to this setting</button>'
        '<button type="button" name="reset">Start again</button>'
        '<span role="status"></span></div>'
        '<p class="explorer-spoken" aria-live="polite"></p>'
        "<noscript><p>With JavaScript these curves move.</p></noscript>"
    )


def depart_explorer(self: HTML5Translator, node: explorer) -> None:
    self.body.append("</div></div></div>\n")


def name_explorer(self: Any, node: explorer) -> None:
    """Other formats do not move."""
    if self.builder.format == "latex":
        self.body.append("\n\n\\emph{On the book's site these curves can be moved.}\n\n")
    raise nodes.SkipNode


# The files


def add_jsxgraph(app: Sphinx) -> None:
    """Give the site JSXGraph, under its MIT license."""
    if app.builder.format != "html":
        return
    if not JSXGRAPH.is_dir():
        raise ExtensionError("JSXGraph is not installed: run `make book`, which installs it")
    static = Path(app.doctreedir) / "explorer_static"
    shutil.rmtree(static, ignore_errors=True)
    (static / "jsxgraph").mkdir(parents=True)
    for name in ("distrib/jsxgraphcore.js", "distrib/jsxgraphcore.js.LICENSE.txt", "LICENSE.MIT"):
        shutil.copyfile(JSXGRAPH / name, static / "jsxgraph" / Path(name).name)
    app.config.html_static_path.append(str(static))


def add_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """On a page with an explorer; the script asks for JSXGraph when the explorer comes near."""
    if doctree is not None and next(doctree.findall(explorer), None) is not None:
        app.add_js_file("explorer.js", loading_method="defer")
        app.add_css_file("explorer.css", priority=910)


def setup(app: Sphinx) -> None:
    app.add_node(
        explorer,
        html=(visit_explorer, depart_explorer),
        latex=(name_explorer, None),
        text=(name_explorer, None),
    )
    app.add_directive("explorer", Explorer)
    app.connect("builder-inited", add_jsxgraph)
    app.connect("html-page-context", add_script)
