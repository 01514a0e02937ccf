"""The directive ``explorer``: curves of the losses that the reader moves.

The page holds a figure of them, drawn here while the site is built, for readers without JavaScript
and for print; explorer.js puts moving curves in its place, drawn by JSXGraph. The numbers of both
are those of curves.js, which node runs here. The scripts, their style and JSXGraph are on those
pages only that have an explorer.
"""

import html
import json
import math
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from focal_theme.book import ROOT, THEME
from focal_theme.npm import node, package, static_folder

PALETTE = json.loads((ROOT / "focal_notes" / "palette.json").read_text("utf-8"))
COLORS = {float(gamma): PALETTE["colors"][s["color"]] for gamma, s in PALETTE["gammas"].items()}
DASHES = {float(gamma): s["dashes"] for gamma, s in PALETTE["gammas"].items()}  # in line widths
GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)  # of the figure


def in_node(expression: str) -> Any:
    """The value of an expression with curves.js's `focalCurves`."""
    script = f"require({json.dumps(str(THEME / 'static' / 'curves.js'))})"
    command = [node(), "-p", f"{script}; JSON.stringify({expression})"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@cache
def curves() -> dict[str, Any]:
    """What can be set, the frame of the axes, and of each part the curves and some numbers."""
    points = {name: part.point for name, part in PARTS.items()}
    return dict(in_node(f"focalCurves.figure({json.dumps(GAMMAS)}, {json.dumps(points)})"))


# The parts, and the figure of each


@dataclass(frozen=True)
class Part:
    title: str  # of the vertical axis; this and the next in HTML
    axis: str  # of the horizontal one
    about: str  # the figure in words; {numbers} are those of each gamma at the point
    point: float
    number: str  # its name in curves.js
    form: str  # its format

    def alt(self, numbers: list[dict[str, float]]) -> str:
        values = (format(row[self.number], self.form) for row in numbers)
        gammas = (f"{gamma:g}" for gamma in GAMMAS)
        return self.about.format(gammas=_listed(*gammas), numbers=_listed(*values))


def _listed(*words: str) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


_TARGET = "probability of the target, <i>p</i><sub>t</sub>"

PARTS = {
    "loss": Part(
        "Loss (nats)",
        _TARGET,
        "Loss against p_t for gamma {gammas}: curves that fall to 0 at p_t = 1, lower the larger "
        "gamma is. At p_t = 0.6 they are {numbers}.",
        0.6,
        "focal",
        ".3f",
    ),
    "gradient": Part(
        "Gradient, |<i>d</i> loss / <i>d</i> logit|",
        _TARGET,
        "Size of the gradient against p_t for gamma {gammas}: cross entropy's is a line from 1 to "
        "0; the others rise above 1 first and then fall below it. At p_t = 0.6 they are {numbers}.",
        0.6,
        "gradient",
        ".3f",
    ),
    "ratio": Part(
        "CE / FL, times cheaper",
        _TARGET,
        "Cross entropy divided by focal loss against p_t for gamma {gammas}, on a logarithmic "
        "axis: 1 for gamma 0, otherwise rising from 1 to infinity. At p_t = 0.9 they are "
        "{numbers}.",
        0.9,
        "ratio",
        ",.4g",
    ),
    "population": Part(
        "Share of the total loss up to <i>p</i><sub>t</sub>",
        _TARGET,
        "The share of a population's total loss that examples up to p_t own, for gamma {gammas}, "
        "with 1,000 negatives to a positive. The curves rise from 0 to 1, sooner the larger gamma "
        "is. At p_t = 0.5 they are {numbers}.",
        0.5,
        "upToFocal",
        ".2f",
    ),
    "score": Part(
        "Score that the loss asks for",
        "probability of class 1, <i>η</i>",
        "The score that minimizes the expected loss against the probability of class 1, for gamma "
        "{gammas}: the diagonal for gamma 0; the others cross it at one half and are flatter there "
        "the larger gamma is. The score 0.7 stands for the probabilities {numbers}.",
        0.7,
        "posterior",
        ".2f",
    ),
}

WIDTH, HEIGHT = 340, 230


@cache
def figure(name: str) -> str:
    """One part's picture, in SVG: black ink on nothing, as all figures of the book."""
    part, frame = curves()["parts"][name], curves()["frame"]
    left, right = frame["left"], WIDTH - frame["right"]
    top, bottom = frame["top"], HEIGHT - frame["bottom"]

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * (right - left), bottom - y * (bottom - top) / part["top"]

    def path(points: list[list[float]]) -> str:
        places: list[tuple[float, float]] = []
        for place in (at(x, y) for x, y in points[:-1]):
            if not places or math.dist(place, places[-1]) >= 2.5:
                places.append(place)
        return "M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in [*places, at(*points[-1])])

    grid, labels = [], []
    for value, text in part["ticks"]:
        _, y = at(0, value)
        grid.append(_line(left, y, right, y))
        labels.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in curves()["fifths"]:
        x, _ = at(value, 0)
        grid.append(_line(x, top, x, bottom))
        labels.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text}</text>')
    lines = [
        f'<path d="{path(points)}" stroke="{COLORS[gamma]}"{_dashes(gamma)}/>'
        for gamma, points in zip(GAMMAS, part["curves"], strict=True)
    ]
    alt = html.escape(PARTS[name].alt(part["numbers"]), quote=True)
    return (
        f'<svg class="explorer-ink" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{alt}">'
        f'<path class="explorer-grid" stroke="{PALETTE["colors"]["grid"]}" d="{"".join(grid)}"/>'
        f'{"".join(labels)}<g fill="none" stroke-width="1.8">{"".join(lines)}</g></svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"M{x1:.1f},{y1:.1f}L{x2:.1f},{y2:.1f}"


def _dashes(gamma: float) -> str:
    pattern = " ".join(f"{1.8 * length:g}" for length in DASHES[gamma])
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
    step: float
    parts: set[str]  # that it moves
    scale: Callable[[float], float] = float  # where a setting is on the slider


CONTROLS = {
    "gamma": Control("<span>focusing parameter, </span><i>γ</i>", 0.1, {*PARTS}),
    "alpha": Control("<span>weight of class 1, </span><i>α</i>", 0.01, {*PARTS} - {"ratio"}),
    "ratio": Control("<span>class </span>imbalance", 0.05, {"population"}, math.log10),
    "p": Control("<span>probability at the point, </span><i>p</i>", 0.001, {*PARTS}),
}


class explorer(nodes.General, nodes.Element):  # noqa: N801 (docutils names nodes so)
    """Curves that the reader moves. Its children are what to see in them."""


def _setting(name: str) -> Callable[[str], float]:
    def convert(argument: str) -> float:
        value, (least, largest) = float(argument), curves()["ranges"][name]
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
        **{name: _setting(name) for name in CONTROLS},
    }

    def run(self) -> list[nodes.Node]:
        node = explorer(parts=self.options.get("parts", [*PARTS]))
        node["start"] = curves()["start"] | {k: v for k, v in self.options.items() if k in CONTROLS}
        self.options.setdefault("name", "explorer")
        self.add_name(node)
        self.set_source_info(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def _controls(identity: str, parts: list[str]) -> str:
    rows = []
    for name, control in CONTROLS.items():
        if control.parts & {*parts}:
            least, largest = map(control.scale, curves()["ranges"][name])
            rows.append(
                f'<div class="explorer-control"><label for="{identity}-{name}">{control.label}'
                f'</label><output for="{identity}-{name}"></output><input type="range"'
                f' id="{identity}-{name}" name="{name}" min="{least:g}"'
                f' max="{largest:g}" step="{control.step:g}" autocomplete="off"/></div>'
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


def _colors() -> dict[str, Any]:
    """What explorer.js draws with."""
    named = PALETTE["colors"]
    roles = {role: named[name] for role, name in PALETTE["classes"].items()}
    return {"ink": named["black"], "grid": named["grid"], "gammas": [*COLORS.items()], **roles}


def visit_explorer(self: HTML5Translator, node: explorer) -> None:
    [identity, *_] = node["ids"]
    parts = node["parts"]
    start = {f"data-{name}": f"{value:g}" for name, value in node["start"].items()}
    attributes = {"role": "group", "aria-label": "Explorer of the losses", **start}
    attributes["data-colors"] = json.dumps(_colors())
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


# The files


def add_jsxgraph(app: Sphinx) -> None:
    """Give the site JSXGraph, under its MIT license."""
    if app.builder.format != "html":
        return
    static = static_folder(app, "explorer") / "jsxgraph"
    static.mkdir()
    for name in ("distrib/jsxgraphcore.js", "distrib/jsxgraphcore.js.LICENSE.txt", "LICENSE.MIT"):
        shutil.copyfile(package("jsxgraph") / name, static / Path(name).name)


def add_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """On a page with an explorer; explorer.js asks for JSXGraph when the explorer comes near."""
    if doctree is not None and next(doctree.findall(explorer), None) is not None:
        app.add_js_file("curves.js", loading_method="defer")
        app.add_js_file("explorer.js", loading_method="defer")
        app.add_css_file("explorer.css", priority=910)


def setup(app: Sphinx) -> None:
    app.add_node(explorer, html=(visit_explorer, depart_explorer))
    app.add_directive("explorer", Explorer)
    app.connect("builder-inited", add_jsxgraph)
    app.connect("html-page-context", add_script)
