"""What the search reads: the text of the book, by its smallest places that have a title: sections,
definitions, propositions with their proofs, exercises with their solutions, terms, functions.

It is read from the built pages. Formulas are in it as one would type them; code is not.
"""

import json
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx

from focal_theme.npm import package, static_folder

LONGEST_FORMULA = 80  # in characters; a longer one is an ellipsis
PLACES = (
    "section[id], .proof.admonition[id], .exercise.admonition[id], .warning.admonition,"
    " dl.glossary > dt[id], dl.py"
)
HEADINGS = "h1, h2, h3, h4, p.admonition-title"
# What is no text, and the tables that repeat the titles of what is found itself
NO_TEXT = (
    ".headerlink, .cite-button, .eqno, button, noscript, script, summary, details.install,"
    " .explorer-controls, .explorer-key, .explorer-panel, .explorer-actions, .fold-controls,"
    " .sig-prename, .sig .descname, .sig > .property, .toctree-wrapper, .backrefs,"
    " table.results, table.exercises"
)
NOTATION = "notation"  # its rows are found as symbols


# Formulas

_BETWEEN = {"msub": "_", "msup": "^", "munder": "_", "mover": "^"}
_APPLIED = "\u2061"  # says, unseen, that a function is applied
_MATH = "{http://www.w3.org/1998/Math/MathML}"


def _grouped(part: str) -> str:
    return part if re.fullmatch(r"[\w.∞′*]*", part) else f"({part})"


def _typed(element: ElementTree.Element) -> str:
    name = element.tag.removeprefix(_MATH)
    if name == "annotation":  # its TeX
        return ""
    parts = [_typed(child) for child in element if child.text != _APPLIED]
    if name in ("mi", "mn", "mo", "mtext"):
        sign = (element.text or "").strip()
        space = sign in {*"=<>≤≥≠≈→∈"} or (len(sign) > 1 and sign.isalpha())
        return f" {sign} " if space else sign
    if name == "mspace":
        return " "
    if name == "msqrt":
        return f"√{_grouped(parts[0].strip())}"
    if name == "mtable":
        return "; ".join(parts)
    if name in ("msubsup", "munderover"):
        base, below, above = map(str.strip, parts)
        return f"{base}_{_grouped(below)}^{_grouped(above)}"
    if name in ("mover", "munder") and element[1].tag == f"{_MATH}mo":  # a hat, a bar
        return parts[0]
    if name == "mfrac":
        one, other = map(str.strip, parts)
        return f" {_grouped(one)}/{_grouped(other)} "
    if name in _BETWEEN:
        one, other = map(str.strip, parts)
        return f"{one}{_BETWEEN[name]}{_grouped(other)}"
    return "".join(parts)


@cache
def typed(mathml: str) -> str:
    """A formula in one line: (1−p_t)^γ."""
    line = " ".join(_typed(ElementTree.fromstring(mathml)).split())
    return line if len(line) <= LONGEST_FORMULA else "…"


_FORMULA = re.compile(
    r'<span class="katex"><span class="katex-mathml">(<math.*?</math>)</span>', re.S
)
_SPAN = re.compile(r"<(/?)span\b")


def without_formulas(page: str) -> str:
    """HTML with text in the place of each formula. Parsed, what KaTeX draws would take seconds."""
    parts, end = [], 0
    while formula := _FORMULA.search(page, end):
        parts += [page[end : formula.start()], typed(formula[1]).replace("<", "&lt;")]
        depth, spans = 1, _SPAN.finditer(page, formula.end())
        while depth:
            span = next(spans)
            depth += -1 if span[1] else 1
        end = span.end() + 1
    return "".join([*parts, page[end:]])


# Places


def text_of(element: Tag) -> str:
    return " ".join(element.get_text().split())


def places(page: str, name: str) -> Iterator[tuple[str, str, str]]:
    """Anchor, heading and text of each place of a page."""
    start, end = page.find("<article"), page.rfind("</article>")
    article = re.sub(r"<pre\b.*?</pre>|<svg\b.*?</svg>", "", page[start:end], flags=re.S)
    soup = BeautifulSoup(without_formulas(article), "html.parser")
    for element in soup.select(NO_TEXT + (", table" if name == NOTATION else "")):
        element.decompose()
    for block in soup.select("p, li, dt, dd, th, td"):
        block.append(" ")  # beside the next, not in one word with it
    for fold in soup.select("details.proof, details.solution"):
        fold.find_previous_sibling(class_="admonition").append(fold)
    found = []
    for place in reversed(soup.select(PLACES)):  # what is inside another comes before it
        anchor, title = place.get("id", ""), ""
        if place.name == "dl":  # of the library
            anchor = place.dt["id"]
            title = anchor.removeprefix("focal_lib.")
        elif place.name == "dt":
            title, place = text_of(place), place.find_next_sibling("dd")
        elif heading := place.select_one(HEADINGS):
            title = text_of(heading.extract())
            if heading.name == "h1":
                anchor = ""
            elif not anchor:
                anchor = place.find_parent("section", id=True)["id"]
        if text := text_of(place.extract()):
            found.append((str(anchor), title, text))
    yield from reversed(found)


def title_of(page: str) -> str:
    """A page's first heading, with its number."""
    start = page.index("<h1>", page.index("<article"))
    heading = BeautifulSoup(page[start : page.index("</h1>", start)], "html.parser")
    for link in heading.select(".headerlink"):
        link.decompose()
    return text_of(heading)


# The files


def add_minisearch(app: Sphinx) -> None:
    """Give the site MiniSearch, under its MIT license, in the place of Sphinx's search."""
    if app.builder.format != "html":
        return
    app.builder.search = False
    static = static_folder(app, "search") / "minisearch"
    static.mkdir()
    for source, name in (("dist/umd/index.js", "minisearch.js"), ("LICENSE.txt", "LICENSE.txt")):
        shutil.copyfile(package("minisearch") / source, static / name)


def search_page(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    yield "search", {}, "search.html"


def add_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    if pagename == "search":
        app.add_js_file("find_text.js", loading_method="defer")
        app.add_js_file("find.js", loading_method="defer")


def write_places(app: Sphinx, exception: Exception | None) -> None:
    """A script, not data to be fetched: so it is found in a folder opened without a server, too."""
    if exception or app.builder.format != "html":
        return
    found: dict[str, list[Any]] = {"pages": [], "places": []}
    for name in sorted(app.env.found_docs):
        page = (Path(app.outdir) / f"{name}.html").read_text("utf-8")
        number = len(found["pages"])
        found["pages"].append([f"{name}.html", title_of(page)])
        found["places"] += [[number, *place] for place in places(page, name)]
    data = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    (Path(app.outdir) / "_static" / "find_places.js").write_text(
        f"focalPlaces = {data};\n", "utf-8"
    )


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", add_minisearch)
    app.connect("html-collect-pages", search_page)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_places)
