"""Equations are set by KaTeX while the site is built: readers need no script for them, and TeX that
KaTeX refuses is a warning with its place, hence a failed build."""

import atexit
import html
import json
import os
import re
import shutil
import subprocess
from functools import cache

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

from focal_theme.book import THEME
from focal_theme.npm import node, package, static_folder

logger = logging.getLogger(__name__)


class TexError(ValueError):
    """TeX that KaTeX does not take."""


@cache
def _katex(_pid: int) -> subprocess.Popen[str]:
    """The process that sets equations: one for each process of the build."""
    package("katex")
    process = subprocess.Popen(
        [node(), str(THEME / "katex_lines.cjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    atexit.register(process.kill)
    return process


@cache
def set_tex(tex: str, display: bool) -> str:
    """Return the HTML (with MathML for screen readers) of one formula."""
    process = _katex(os.getpid())
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise ExtensionError("the process that runs KaTeX has ended")
    answer = json.loads(line)
    if "error" in answer:
        raise TexError(answer["error"])
    return str(answer["html"])


def _set_node(node: nodes.Element, display: bool) -> str:
    try:
        return set_tex(node.astext().strip(), display)
    except TexError as error:
        logger.warning("TeX: %s", error, location=node, type="tex")
        return f"<code>{html.escape(node.astext())}</code>"


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    formula = _set_node(node, display=False)
    if "unbroken" in getattr(node.parent, "attributes", {}).get("classes", []):
        # A formula may still be broken where KaTeX allows it.
        base = '<span class="katex-base">'
        first, *others = formula.split(base)
        formula = first + base + f"<wbr />{base}".join(others)
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(formula + "</span>")
    raise nodes.SkipNode


def keep_punctuation(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Keep an inline formula on one line with the characters that touch it."""
    for math in list(doctree.findall(nodes.math)):
        parent = math.parent
        # By identity: equal texts, such as two ", ", are equal nodes.
        position = next(i for i, child in enumerate(parent) if child is math)
        before = parent[position - 1] if position else None
        after = parent[position + 1] if position + 1 < len(parent) else None
        opening = re.search(r"[(\[“‘]+$", before) if isinstance(before, nodes.Text) else None
        closing = re.match(r"\S{1,12}(?!\S)", after) if isinstance(after, nodes.Text) else None
        if not opening and not closing:
            continue
        unbroken = nodes.inline("", classes=["unbroken"])
        parent[position] = unbroken
        if opening:
            parent[position - 1] = nodes.Text(before[: opening.start()])
            unbroken += nodes.Text(opening[0])
        unbroken += math
        if closing:
            parent[position + 1] = nodes.Text(after[closing.end() :])
            unbroken += nodes.Text(closing[0])


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    self.body.append(f'<div class="formula">{_set_node(node, display=True)}</div>')
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def add_stylesheet(app: Sphinx) -> None:
    """Give the site KaTeX's stylesheet, with the one font format that every browser reads."""
    if app.builder.format != "html":
        return
    katex, static = package("katex") / "dist", static_folder(app, "focal") / "katex"
    (static / "fonts").mkdir(parents=True)
    for font in (katex / "fonts").glob("*.woff2"):
        shutil.copyfile(font, static / "fonts" / font.name)
    css = (katex / "katex.min.css").read_text("utf-8")
    css = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)', "", css)
    (static / "katex.css").write_text(css, "utf-8")
    app.add_css_file("katex/katex.css")


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", add_stylesheet)
    app.connect("doctree-resolved", keep_punctuation)
