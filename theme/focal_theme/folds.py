"""What has the class `dropdown` (proofs, solutions) is folded by HTML alone, so it opens without a
script, and is open in print."""

from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator


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


def setup(app: Sphinx) -> None:
    app.add_node(fold, html=(visit_fold, depart_fold))
    app.add_node(fold_line, html=(visit_fold_line, depart_fold_line))
    app.add_directive_to_domain("prf", "proof", Proof, override=True)
    app.connect("doctree-resolved", fold_dropdowns)
