"""What teachers need: the page of all exercises, made from the chapters and exercises.yml, and a
control on each chapter that unfolds its proofs."""

import re
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from focal_theme.book import ROOT, cells, chapters, labelled, markdown, title
from focal_theme.folds import fold
from focal_theme.results import chapter_table

LIST = ROOT / "exercises.yml"
DIFFICULTIES = (1, 2, 3)

ROLES = {"def": "prf:ref", "prop": "prf:ref", "eq": "eq", "fig": "numref"}


def exercises(notebook: Path) -> tuple[str, dict[str, str]]:
    """A chapter's title, and the title of each of its exercises by its label."""
    text = markdown(cells(notebook))
    return title(text), labelled(text, "exercise")


def need(text: str) -> str:
    """What an exercise needs, in MyST: a label is a reference, anything else stands as it is."""
    role = ROLES.get(text.split("-")[0])
    return f"{{{role}}}`{text}`" if role and re.fullmatch(r"[a-z0-9-]+", text) else text


class ExercisesIndex(SphinxDirective):
    """``exercises-index``: each chapter's exercises, as MyST that is parsed."""

    def run(self) -> list[nodes.Node]:
        asked = yaml.safe_load(LIST.read_text("utf-8"))
        self.env.note_dependency(str(LIST))
        sections: list[nodes.Node] = []
        for path in chapters():
            self.env.note_dependency(str(path))
            chapter, titles = exercises(path)
            rows = ["| Exercise | Title | Difficulty | Needs |", "|---|---|---|---|"]
            for label, name in titles.items():
                if label not in asked:
                    raise self.error(f"{LIST.name} has no entry for {label}")
                needs = ", ".join(map(need, asked[label]["needs"]))
                difficulty = asked[label]["difficulty"]
                rows.append(f"| {{numref}}`{label}` | {name} | {difficulty} | {needs} |")
            sections.append(chapter_table(self, "exercises", path, chapter, rows))
        return sections


def add_controls(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A place for the controls of a page's proofs, so that nothing moves when folds.js fills it."""
    proofs = [node for node in doctree.findall(fold) if "proof" in node["classes"]]
    title = next(doctree.findall(nodes.title), None)
    if proofs and title is not None:
        place = nodes.raw("", '<div class="fold-controls pst-js-only"></div>', format="html")
        title.parent.insert(title.parent.index(title) + 1, place)


def add_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """On a page with folds."""
    if doctree is not None and next(doctree.findall(fold), None) is not None:
        app.add_js_file("folds.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    app.add_directive("exercises-index", ExercisesIndex)
    app.connect("doctree-resolved", add_controls, priority=600)  # when the folds are made
    app.connect("html-page-context", add_script)
