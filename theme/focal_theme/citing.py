"""What makes a result citable: a permalink on each definition, proposition and exercise, as on
equations and figures; and the facts that cite.js and reference managers read in a page's head."""

import html
from functools import cache
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx

from focal_theme.book import ROOT


@cache
def facts() -> dict[str, Any]:
    """What CITATION.cff says of the book."""
    return dict(yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8")))


def add_permalinks(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in doctree.findall(nodes.Admonition):
        kinds = {"proof": "result", "exercise": "exercise"}
        for kind in kinds.keys() & {*node["classes"]} if node.get("label") else ():
            title = f"Link to this {kinds[kind]}"
            link = f' <a class="headerlink" href="#{node["ids"][0]}" title="{title}">#</a>'
            node[0] += nodes.raw("", link, format="html")


def add_citation(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Highwire Press tags, which Zotero and search engines for papers read."""
    book = facts()
    tags = {"citation_title": book["title"]}
    if doctree and pagename != app.config.root_doc:
        title = app.env.titles[pagename].astext()
        tags = {"citation_title": title, "citation_inbook_title": book["title"]}
    for author in book["authors"]:
        tags["citation_author"] = author["name"]
    tags |= {
        "citation_publication_date": str(book["date-released"]).replace("-", "/"),
        "citation_language": app.config.language,
        "citation_version": str(book["version"]),
    }
    if app.config.html_baseurl:
        tags["citation_public_url"] = f"{app.config.html_baseurl}{pagename}.html"
    lines = (f'<meta name="{k}" content="{html.escape(v)}" />' for k, v in tags.items())
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])


def add_script(app: Sphinx) -> None:
    app.add_js_file("cite.js", loading_method="defer")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", add_script)
    app.connect("doctree-resolved", add_permalinks)
    app.connect("html-page-context", add_citation)
