"""How a place in the book is found: symbols, terms and results in the search, what a shared link
shows, a map of the site for search engines, and a page for addresses that lead nowhere."""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx
from sphinx.config import Config

from focal_theme.book import THEME

PICTURE = "social.png"  # in theme/static; tools/social.py draws it
PICTURE_SIZE = (1200, 630)
PICTURE_WORDS = (
    "Focal Loss: Executable Notes. The formula of focal loss, and its curves for five gammas."
)

# Pages that are made and are no documents: not to be found by search engines.
NO_DOCUMENTS = ("search", "404")


# The search: what find.js shows above the text that is found (fulltext.py)


def formulas(element: Tag) -> list[str]:
    """The TeX of the formulas in an element."""
    return [tex.get_text().strip() for tex in element.select("annotation")]


def words(element: Tag) -> str:
    """The text of an element, with TeX for its formulas."""
    copy = BeautifulSoup(str(element), "html.parser")
    for formula in copy.select(".katex"):
        [tex] = formulas(formula)
        formula.replace_with(f" {tex} ")
    return " ".join(copy.get_text().split())


def links(element: Tag) -> list[list[str]]:
    """Address and words of each link."""
    return [[str(a["href"]), " ".join(a.get_text().split())] for a in element.select("a[href]")]


def inside(element: Tag) -> str:
    """An element's HTML, formulas included; of its links the words."""
    copy = BeautifulSoup(str(element), "html.parser")
    for link in copy.select("a"):
        link.unwrap()
    outer = copy.find()
    assert isinstance(outer, Tag)
    paragraphs = outer.find_all("p", recursive=False)
    return "".join(p.decode_contents() for p in paragraphs) or outer.decode_contents()


def symbols(page: BeautifulSoup) -> Iterator[dict[str, Any]]:
    """The rows of the notation."""
    for row in page.select("article table tbody tr"):
        symbol, meaning, defined = row.find_all("td")
        section = row.find_parent("section")
        heading = section.find(["h1", "h2"]) if section else None
        yield {
            "kind": "symbol",
            "tex": formulas(symbol),
            "name": inside(symbol),
            "text": words(meaning),
            "body": inside(meaning),
            "subject": str(heading.find(string=True)).strip() if heading else "",
            "links": links(defined),
        }


def terms(page: BeautifulSoup) -> Iterator[dict[str, Any]]:
    """The glossary."""
    for term in page.select("dl.glossary > dt"):
        meaning = term.find_next_sibling("dd")
        assert isinstance(meaning, Tag)
        name = str(term.find(string=True)).strip()
        yield {
            "kind": "term",
            "name": html.escape(name),
            "text": name,
            "body": inside(meaning),
            "links": [[f"glossary.html#{term['id']}", "Glossary"]],
        }


def results(page: BeautifulSoup) -> Iterator[dict[str, Any]]:
    """The index of results: definitions and propositions."""
    for row in page.select("table.results tbody tr"):
        result, title = row.find_all("td")[:2]
        [[address, number]] = links(result)
        yield {
            "kind": "result",
            "name": inside(title),
            "text": words(title),
            "label": address.partition("#")[2],
            "number": number,
            "links": [[address, number]],
        }


def entries(site: Path) -> list[dict[str, Any]]:
    """What can be found, read from the built pages: so it looks and links as they do."""
    found: list[dict[str, Any]] = []
    for name, read in (("notation", symbols), ("glossary", terms), ("results", results)):
        if (site / f"{name}.html").exists():
            page = BeautifulSoup((site / f"{name}.html").read_text("utf-8"), "html.parser")
            found += read(page)
    return found


# What a link to a page shows where it is shared


def add_sharing(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Open Graph's tags. They ask for absolute addresses, so some need the site's."""
    address, book = app.config.html_baseurl, app.config.html_title
    if pagename in NO_DOCUMENTS:
        context["metatags"] = (
            context.get("metatags", "") + '\n<meta name="robots" content="noindex" />'
        )
        context["pageurl"] = None  # no canonical address
        return
    root = pagename == app.config.root_doc
    tags = {
        "og:title": book if root else app.env.titles[pagename].astext(),
        "og:description": " ".join(app.config.focal_descriptions.get(pagename, "").split()),
        "og:type": "website" if root else "article",
        "og:site_name": book,
        "og:locale": "en_US",
    }
    if address:
        width, height = map(str, PICTURE_SIZE)
        tags |= {
            "og:url": f"{address}{pagename}.html",
            "og:image": f"{address}_static/{PICTURE}",
            "og:image:width": width,
            "og:image:height": height,
            "og:image:alt": PICTURE_WORDS,
        }
    lines = [
        f'<meta property="{name}" content="{html.escape(value)}" />'
        for name, value in tags.items()
        if value
    ]
    card = "summary_large_image" if address else "summary"
    lines.append(f'<meta name="twitter:card" content="{card}" />')
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])


# For search engines, and for those who are lost


def lost_page(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    yield "404", {"title": "There is no such page"}, "404.html"


def absolute(page: str, base: str) -> str:
    """A page of the site's root in which every relative address begins at ``base``."""
    start = r'(\s(?:href|src|action|data-content_root)=")(?![a-z]+:|/|#)(?:\./)?'
    return re.sub(start, rf"\g<1>{base}", page)


def site_map(address: str, pages: list[str]) -> str:
    """No dates: they would differ from build to build."""
    places = (html.escape(f"{address}{page}.html") for page in pages)
    rows = "".join(f"<url><loc>{place}</loc></url>\n" for place in places)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{rows}</urlset>\n'
    )


def finish_site(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    site, address = Path(app.outdir), app.config.html_baseurl
    # A script, not data to be fetched: so it is found in a folder opened without a server, too.
    found = json.dumps(entries(site), ensure_ascii=False, separators=(",", ":"))
    (site / "_static" / "find_entries.js").write_text(f"focalEntries = {found};\n", "utf-8")
    lost = site / "404.html"
    lost.write_text(absolute(lost.read_text("utf-8"), urlsplit(address).path or "/"), "utf-8")
    if address:
        (site / "sitemap.xml").write_text(site_map(address, sorted(app.env.found_docs)), "utf-8")
        (site / "robots.txt").write_text(
            f"User-agent: *\nAllow: /\nSitemap: {address}sitemap.xml\n", "utf-8"
        )


def set_templates(app: Sphinx, config: Config) -> None:
    config.templates_path.append(str(THEME / "templates"))


def setup(app: Sphinx) -> None:
    app.connect("config-inited", set_templates)
    app.connect("html-collect-pages", lost_page)
    app.connect("html-page-context", add_sharing)
    app.connect("build-finished", finish_site)
