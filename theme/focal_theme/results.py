"""Definitions and propositions: their addresses, those of the cells that check them, and the index,
which is made from the chapters."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from focal_theme.book import cells, chapters, labelled, markdown, title

# What introduces the list in a chapter's last section, from which the index has the sources.
SOURCES = "Where each result comes from:"


@dataclass
class Result:
    """A definition or a proposition of a chapter, and what the chapter says of it."""

    label: str
    title: str
    checks: int = 0
    source: str = ""


@dataclass
class Chapter:
    """What the index of results takes from a chapter's notebook."""

    path: Path
    title: str = ""
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = cells(self.path)
        text = markdown(found)
        self.title = title(text)
        for label, name in labelled(text, "prf:definition|prf:proposition").items():
            self.results[label] = Result(label, name)
        for cell in found:
            tags = cell["metadata"].get("tags", [])
            for label in tags if "check" in tags else ():
                if label in self.results:
                    self.results[label].checks += 1
        for bullet in re.split(r"\n(?=- )", text.partition(f"\n{SOURCES}\n")[2]):
            labels, _, source = bullet.partition("`: ")
            for label in re.findall(r"\{prf:ref\}`([^`]+)", labels):
                if label in self.results:
                    self.results[label].source = " ".join(source.split("\n\n")[0].split())


def chapter_table(
    directive: SphinxDirective, kind: str, path: Path, title: str, rows: list[str]
) -> nodes.section:
    """A chapter's section of an index: a table of the kind, from its rows in MyST."""
    section = nodes.section(ids=[f"{kind}-{path.stem.replace('_', '-')}"])
    section["names"] = []
    section += nodes.title("", title)
    body = nodes.Element()
    directive.state.nested_parse(StringList(rows, str(path)), 0, body)
    body[0]["classes"].append(kind)
    section += body.children
    return section


class ResultsIndex(SphinxDirective):
    """``results-index``: each chapter's definitions and propositions, as MyST that is parsed."""

    def run(self) -> list[nodes.Node]:
        sections: list[nodes.Node] = []
        for path in chapters():
            self.env.note_dependency(str(path))
            chapter = Chapter(path)
            rows = ["| Result | Title | Check | Source |", "|---|---|---|---|"]
            for result in chapter.results.values():
                links = (
                    f"[cell {n}](#check-{result.label}-{n})" for n in range(1, result.checks + 1)
                )
                checks = ", ".join(links).replace(", [cell ", ", [")
                title, source = (t.replace("|", "\\|") for t in (result.title, result.source))
                rows.append(f"| {{prf:ref}}`{result.label}` | {title} | {checks} | {source} |")
            sections.append(chapter_table(self, "results", path, chapter.title, rows))
        return sections


def know_checks(app: Sphinx, doctree: nodes.document) -> None:
    """Give each check cell an address for each result that it checks."""
    domain, seen = app.env.get_domain("std"), {}
    for node in doctree.findall(nodes.container):
        tags = node.get("cell_metadata", {}).get("tags", [])
        for label in tags if "check" in tags else ():
            if label.startswith(("def-", "prop-")):
                seen[label] = seen.get(label, 0) + 1
                name = f"check-{label}-{seen[label]}"
                node["ids"].append(name)
                domain.anonlabels[name] = (app.env.docname, name)
                domain.labels[name] = (app.env.docname, name, "check")


def know_labels(app: Sphinx, doctree: nodes.document) -> None:
    """Let `[words](#prop-ratio)` link to a proposition, as it does to a section or an equation."""
    domain = app.env.get_domain("std")
    for node in doctree.findall(nodes.Admonition):
        label = node.get("label")
        if label and "proof" in node["classes"]:
            place = (app.env.docname, node["ids"][0])
            domain.anonlabels[label] = place
            domain.labels[label] = (*place, node[0].astext().strip(" ()"))


def setup(app: Sphinx) -> None:
    app.add_directive("results-index", ResultsIndex)
    app.connect("doctree-read", know_labels)
    app.connect("doctree-read", know_checks)
