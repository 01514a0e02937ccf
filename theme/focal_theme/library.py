"""The library's reference is made from its docstrings."""

import ast
import json
import math
import re
import textwrap

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config as Napoleon
from sphinx.ext.napoleon import GoogleDocstring
from sphinx.util.docutils import SphinxDirective, switch_source_input

from focal_theme.book import ROOT


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
            quoted = re.compile(r'``[^`]+``|("\w+")')  # a literal stays as it is
            paragraphs[i] = quoted.sub(lambda m: f"``{m[1]}``" if m[1] else m[0], text)
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

        def described(
            node: ast.FunctionDef | ast.ClassDef,
            kind: str,
            called: str,
            call: ast.FunctionDef | None = None,
            indent: str = "",
        ) -> None:
            arguments = (call or node).args
            if kind != "function":
                arguments.args = [a for a in arguments.args if a.arg != "self"]
            returns = getattr(node, "returns", None)
            result = f" -> {ast.unparse(returns)}" if returns else ""
            text = f".. py:{kind}:: {called}({ast.unparse(arguments)}){result}\n"
            add(text, node.lineno, indent)
            text = GoogleDocstring(linked(ast.get_docstring(node) or ""), Napoleon(), what=kind)
            add(f"{text}\n", node.body[0].lineno, indent + "   ")

        add(".. highlight:: none\n", 0)  # a formula is not code
        add(f".. py:module:: {name}\n\n{linked(ast.get_docstring(module) or '')}\n", 0)
        for node in module.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if isinstance(node, ast.FunctionDef):
                described(node, "function", node.name)
                continue
            [init] = (n for n in node.body if getattr(n, "name", "") == "__init__")
            described(node, "class", node.name, init)
            for method in methods(module, node):
                described(method, "method", method.name, indent="   ")
        content = nodes.Element()
        with switch_source_input(self.state, lines):  # a warning names the module's file
            self.state.nested_parse(lines, 0, content)
        for signature in content.findall(addnodes.desc_signature):
            # In the narrow list of contents a method is under its class, and a name may be broken
            # after an underscore.
            name = signature["_toc_name"].rpartition(".")[2]
            signature["_toc_name"] = name.replace("_", "_\N{ZERO WIDTH SPACE}")
        return content.children


def methods(module: ast.Module, node: ast.ClassDef) -> list[ast.FunctionDef]:
    """The methods with a docstring: a class's own, and those of its parents in the module."""
    found: dict[str, ast.FunctionDef] = {}
    for base in node.bases:
        for other in module.body:
            if isinstance(other, ast.ClassDef) and other.name == getattr(base, "id", None):
                found |= {method.name: method for method in methods(module, other)}
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method):
            if method.name == "__call__" or not method.name.startswith("_"):
                found[method.name] = method
    return list(found.values())


CERTIFIED = ROOT / "benchmarks" / "results" / "certified.json"


def certified_table() -> list[str]:
    """What `make certify` stored, in Markdown: for each gamma the worst of both labels."""
    stored = json.loads(CERTIFIED.read_text("utf-8"))
    lines = [
        "| `gamma` | results, $10^9$ | loss, ulp | gradient, ulp | nearest |",
        "|--:|--:|--:|--:|--:|",
    ]
    for gamma, rows in sorted(stored["gammas"].items(), key=lambda item: float(item[0])):
        ulps = []
        for what in ("loss", "gradient"):
            worst = max(row["ulp"] for row in rows if row["of"].startswith(what))
            ulps.append(f"{math.ceil(worst * 1000) / 1000:.3f}")
        results, nearest = sum(r["results"] for r in rows), min(r["nearest"] for r in rows)
        share = f"{math.floor(nearest * 1000) / 10:.1f}%"
        lines.append(
            f"| {float(gamma):g} | {results / 1e9:.2f} | {ulps[0]} | {ulps[1]} | {share} |"
        )
    return lines


class Certified(SphinxDirective):
    """``certified``: how far the compiled binary loss is from the true one, of every logit."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(CERTIFIED))
        content = nodes.Element()
        self.state.nested_parse(StringList(certified_table(), str(CERTIFIED)), 0, content)
        return content.children


def setup(app: Sphinx) -> None:
    app.add_directive("library-module", LibraryModule)
    app.add_directive("certified", Certified)
