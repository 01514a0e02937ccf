"""How a place in the book is found: the search for symbols, terms and results; the glossary; what a
shared link shows; the map of the site and the page for addresses that lead nowhere."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from book import ROOT, SITE, chapter_names, soup_of, toc_files
from browser import DESKTOP, PAGES, PHONE, wait_until, watch
from bs4 import BeautifulSoup, Tag
from focal_theme.finding import NO_DOCUMENTS, PICTURE, PICTURE_SIZE, absolute, site_map
from focal_theme.results import Chapter
from playwright.sync_api import Browser, Page

DOCUMENTS = [str(Path(name).with_suffix(".html")) for name in toc_files()]

# What is asked for, and the place that must come first
QUERIES = {
    "γ": "def-focal-loss",
    "gamma": "def-focal-loss",
    "\\gamma": "def-focal-loss",
    "𝛾": "def-focal-loss",  # a letter of mathematics, as copied from a paper
    "p_t": "def-p-t",
    "pₜ": "def-p-t",
    "pt": "def-p-t",
    "φ": "prop-focal-gradient",
    "ϕ": "prop-focal-gradient",
    "phi": "prop-focal-gradient",
    "\\varphi_\\gamma": "prop-focal-gradient",
    "alpha_t": "def-alpha-t",
    "α_t": "def-alpha-t",
    "π": "prop-base-rate",
    "AP": "def-detection-ap",
    "ECE": "def-ece",
    "N": "prop-inverse-frequency",  # the number of examples, and not n
    "average precision": "glossary.html#term-average-precision",
    "temperature": "glossary.html#term-temperature-scaling",
    "The family of powers": "prop-power-family",
    "prop-ratio": "prop-ratio",
}


def search(page: Page, address: str, query: str) -> None:
    page.goto(f"{address}search.html?q={quote(query)}")
    wait_until(page, "document.querySelector('.found-count').textContent")


@pytest.fixture(scope="module")
def desk(browser: Browser) -> Page:
    with browser.new_context(viewport=DESKTOP) as context:
        yield context.new_page()


# The search


@pytest.mark.parametrize(("query", "place"), QUERIES.items())
def test_a_query_finds_its_place_first(desk: Page, address: str, query: str, place: str) -> None:
    desk.goto("about:blank")
    problems = watch(desk, address)
    search(desk, address, query)
    first = desk.locator(".found-list > li").first
    assert str(first.locator("a").first.get_attribute("href")).endswith(place)
    assert desk.get_by_role("heading", name="Symbols, terms and results").is_visible()
    count = desk.locator(".found-list > li").count()
    assert re.match(
        rf"{count} found|The first {count} of \d+", desk.get_by_role("status").inner_text()
    )
    assert not problems


@pytest.mark.parametrize(("letter", "name"), [("γ", "gamma"), ("φ", "phi"), ("Δ", "delta")])
def test_sphinx_is_asked_for_the_name_of_a_letter(
    desk: Page, address: str, letter: str, name: str
) -> None:
    """Its index has no Greek letters. What stands in the field stays what was typed."""
    found = []
    for query in (letter, name):
        search(desk, address, query)
        wait_until(
            desk, "document.querySelector('.search-summary').textContent.includes('finished')"
        )
        found.append(
            desk.locator("#search-results li > a").evaluate_all("all => all.map(a => a.pathname)")
        )
        assert desk.locator(".bd-search-container input").input_value() == query
    assert found[0] == found[1] and len(found[0]) > 1


def test_a_number_finds_its_result(desk: Page, address: str) -> None:
    row = soup_of("results.html").select("table.results tbody tr")[20]
    [link] = row.find_all("td")[0].find_all("a")
    search(desk, address, link.get_text().lower())
    first = desk.locator(".found-list > li a").first
    assert first.get_attribute("href") == link["href"]


def test_a_symbol_is_set_and_said_where_it_is_defined(desk: Page, address: str) -> None:
    search(desk, address, "gamma")
    row = desk.locator(".found-list > li").first
    assert row.locator(".found-name .katex-html").is_visible()
    assert row.locator(".found-name math").count() == 1  # for screen readers
    assert "the focusing parameter" in row.locator(".found-body").inner_text()
    link = row.locator(".found-places a")
    assert re.fullmatch(r"Definition \d+\.\d+", link.inner_text())
    link.click()
    assert desk.url.endswith("chapters/focal_loss.html#def-focal-loss")


def test_what_is_in_no_list_is_said_so(desk: Page, address: str) -> None:
    for query in ("xyzzy", "???", "<img src=x onerror=document.title='bad'>"):
        search(desk, address, query)
        assert f"called “{query}”" in desk.get_by_role("status").inner_text()
        assert not desk.locator("#found-heading").is_visible()
        assert desk.locator(".found-list > li, #found img").count() == 0
        assert desk.title() != "bad"


def test_without_a_query_the_field_waits(desk: Page, address: str) -> None:
    desk.goto(address + "search.html")
    assert desk.evaluate("document.activeElement.name") == "q"
    assert not desk.locator("#found-heading").is_visible()
    desk.keyboard.type("γ")
    desk.keyboard.press("Enter")
    desk.wait_for_selector(".found-list > li")


def test_the_dialog_of_every_page_leads_to_it(desk: Page, address: str) -> None:
    desk.goto(address + "chapters/focal_loss.html", wait_until="networkidle")
    for _ in range(40):  # the theme's script listens a while after the page has come
        desk.keyboard.press("Control+k")
        desk.wait_for_timeout(250)
        if desk.evaluate("document.querySelector('#pst-search-dialog').open"):
            break
    desk.keyboard.type("p_t")
    desk.keyboard.press("Enter")
    desk.wait_for_selector(".found-list > li")
    assert desk.url.endswith("search.html?q=p_t")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_list_fits_a_phone(browser: Browser, address: str, scheme: str) -> None:
    with browser.new_context(viewport=PHONE, color_scheme=scheme) as context:
        page = context.new_page()
        for query in ("softmax", "h", "gamma"):
            search(page, address, query)
            assert page.locator(".found-list > li").count() > 3 or query == "h"
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        ink, ground = page.evaluate(
            """() => [getComputedStyle(document.querySelector(".found-name")).color,
                      getComputedStyle(document.body).backgroundColor]"""
        )
        light = [sum(map(int, re.findall(r"\d+", color)[:3])) > 383 for color in (ink, ground)]
        assert light == ([True, False] if scheme == "dark" else [False, True])


def test_everything_can_be_found() -> None:
    """All of the notation, the glossary and the chapters' definitions and propositions."""
    script = (SITE / "_static" / "find_entries.js").read_text("utf-8")
    entries = json.loads(script.removeprefix("focalEntries = ").removesuffix(";\n"))
    kinds = {
        kind: [e for e in entries if e["kind"] == kind] for kind in ("symbol", "term", "result")
    }
    assert sum(map(len, kinds.values())) == len(entries)
    rows = (ROOT / "notation.md").read_text("utf-8").split("\n")
    assert len(kinds["symbol"]) == sum(row.startswith("| $") for row in rows)
    assert all(entry["tex"] and entry["body"] and entry["links"] for entry in kinds["symbol"])
    assert len(kinds["term"]) == len(soup_of("glossary.html").select("dl.glossary > dt"))
    chapters = [Chapter(ROOT / "chapters" / f"{name}.ipynb") for name in chapter_names()]
    labels = [label for chapter in chapters for label in chapter.results]
    assert [entry["label"] for entry in kinds["result"]] == labels
    for entry in entries:
        for link, _ in entry["links"]:
            page, _, place = link.partition("#")
            assert soup_of(page).find(id=place), link
    assert len(script.encode()) < 400_000


def test_the_list_is_loaded_for_a_query_alone(desk: Page, address: str) -> None:
    """And a query loads no chapters, as Sphinx does for its summaries."""
    for page_path in sorted({*PAGES} - {"search.html"}):
        assert "find.js" not in (SITE / page_path).read_text("utf-8"), page_path
    asked: list[str] = []
    desk.goto("about:blank")
    desk.on("request", lambda request: asked.append(request.url))
    desk.goto(address + "search.html", wait_until="networkidle")
    assert asked and not any("find_entries" in url for url in asked)
    search(desk, address, "gamma")
    desk.wait_for_load_state("networkidle")
    assert any("find_entries" in url for url in asked)
    assert not any("chapters/" in url for url in asked)


def test_without_javascript_the_search_leads_on(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=PHONE, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address + "search.html")
        assert "needs JavaScript" in page.locator("main").inner_text()
        for name in ("index of results", "notation", "glossary"):
            assert page.locator("main").get_by_role("link", name=name).is_visible()
        assert not page.locator(".bd-search-container input").is_visible()


# The glossary


def test_every_term_has_an_exact_place() -> None:
    terms = soup_of("glossary.html").select("dl.glossary > dt")
    names = [str(term.find(string=True)).strip() for term in terms]
    assert 40 <= len(names) <= 70
    assert names == sorted(names, key=str.casefold) and len(names) == len(set(names))
    for name, term in zip(names, terms, strict=True):
        meaning = term.find_next_sibling("dd")
        assert isinstance(meaning, Tag)
        assert meaning.select("a[href^='chapters/']"), f"{name}: no place"
        sentences = re.findall(r"[.:](?:\s|$)", meaning.get_text())
        assert len(meaning.get_text().split()) < 60 and sentences, name


# What a shared link shows


@pytest.mark.parametrize("page_path", DOCUMENTS)
def test_a_shared_link_shows_the_page(page_path: str) -> None:
    soup = soup_of(page_path)
    tags = {
        str(tag["property"]): str(tag["content"]) for tag in soup.select("meta[property^='og:']")
    }
    [heading] = soup.select("article h1")
    title = str(heading.find_all(string=True, recursive=False)[0]).strip()
    assert tags["og:title"] == title
    [description] = soup.select("meta[name=description]")
    assert tags["og:description"] == description["content"]
    assert "$" not in tags["og:description"] and "\\" not in tags["og:description"]
    assert tags["og:type"] == ("website" if page_path == "intro.html" else "article")
    assert soup.select("meta[name='twitter:card']")


def test_the_picture_has_the_size_that_is_said() -> None:
    picture = (SITE / "_static" / PICTURE).read_bytes()
    assert struct.unpack(">II", picture[16:24]) == PICTURE_SIZE
    assert len(picture) < 150_000


# The page for addresses that lead nowhere


@pytest.mark.parametrize("javascript", [True, False])
def test_who_is_lost_is_led_home(browser: Browser, address: str, javascript: bool) -> None:
    with browser.new_context(viewport=DESKTOP, java_script_enabled=javascript) as context:
        page = context.new_page()
        lost = address + "chapters/old/no-such-page.html"
        body = (SITE / "404.html").read_text("utf-8")
        page.route(
            lost, lambda route: route.fulfill(status=404, body=body, content_type="text/html")
        )
        problems = watch(page, address)
        page.goto(lost, wait_until="networkidle" if javascript else "load")
        assert page.get_by_role("heading", level=1).inner_text() == "There is no such page"
        # Its look came too: the style is the book's.
        width = page.locator(".bd-article-container").evaluate("e => getComputedStyle(e).maxWidth")
        assert width == "832px"
        said = [p for p in problems if lost not in p and "status of 404" not in p]
        assert [p for p in said if javascript or ".js" not in p] == []
        main = page.locator("article")
        links = {a.inner_text(): a.get_attribute("href") for a in main.get_by_role("link").all()}
        assert links == {
            "first page": "/intro.html",
            "index of results": "/results.html",
            "glossary": "/glossary.html",
            "notation": "/notation.html",
            "search": "/search.html",
        }
        main.get_by_role("link", name="first page").click()
        assert page.url == address + "intro.html"


def test_every_address_of_the_lost_page_is_absolute() -> None:
    soup = soup_of("404.html")
    for attribute in ("href", "src", "action", "data-content_root"):
        for tag in soup.find_all(attrs={attribute: True}):
            assert re.match(r"/|#|https?:", str(tag[attribute])), tag


def test_absolute() -> None:
    page = (
        '<a href="a.html#b"><a href="#c"><a href="https://x.org/"><img src="./d.png"><a href="/e">'
    )
    assert absolute(page, "/book/") == (
        '<a href="/book/a.html#b"><a href="#c"><a href="https://x.org/"><img src="/book/d.png">'
        '<a href="/e">'
    )


# With an address


BOOK = "https://example.org/notes/"


@pytest.fixture(scope="module")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of two pages, built as ours is, for an address."""
    folder = tmp_path_factory.mktemp("book")
    shutil.copyfile(ROOT / "_config.yml", folder / "_config.yml")
    shutil.copyfile(ROOT / "references.bib", folder / "references.bib")
    (folder / "theme").symlink_to(ROOT / "theme")
    (folder / "_toc.yml").write_text("format: jb-book\nroot: intro\nchapters:\n- file: notation\n")
    (folder / "intro.md").write_text("# First\n\nText.\n")
    (folder / "notation.md").write_text("# Second\n\nText.\n")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "-q", str(folder)]
    subprocess.run(
        command, check=True, capture_output=True, env=os.environ | {"BOOK_URL": BOOK[:-1]}
    )
    return folder / "_build" / "html"


def test_the_map_has_every_page_and_nothing_that_changes(small_site: Path) -> None:
    root = ElementTree.parse(small_site / "sitemap.xml").getroot()
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    assert root.tag == f"{space}urlset"
    assert [place.text for place in root.iter(f"{space}loc")] == [
        f"{BOOK}intro.html",
        f"{BOOK}notation.html",
    ]
    assert not list(root.iter(f"{space}lastmod"))
    robots = (small_site / "robots.txt").read_text("utf-8")
    assert f"Sitemap: {BOOK}sitemap.xml" in robots and "Disallow" not in robots


def test_pages_name_their_address_and_the_picture(small_site: Path) -> None:
    for name in ("intro", "notation"):
        soup = BeautifulSoup((small_site / f"{name}.html").read_text("utf-8"), "html.parser")
        tags = {str(t["property"]): str(t["content"]) for t in soup.select("meta[property^='og:']")}
        assert tags["og:url"] == f"{BOOK}{name}.html"
        assert tags["og:image"].startswith(BOOK)
        assert (small_site / tags["og:image"].removeprefix(BOOK)).is_file()
        assert (tags["og:image:width"], tags["og:image:height"]) == ("1200", "630")
        [card] = soup.select("meta[name='twitter:card']")
        assert card["content"] == "summary_large_image"
    for name in NO_DOCUMENTS:
        soup = BeautifulSoup((small_site / f"{name}.html").read_text("utf-8"), "html.parser")
        assert soup.select("meta[name=robots][content=noindex]")
        assert not soup.select("link[rel=canonical], meta[property^='og:']")


def test_the_lost_page_begins_at_the_address(small_site: Path) -> None:
    soup = BeautifulSoup((small_site / "404.html").read_text("utf-8"), "html.parser")
    assert soup.select("article a[href='/notes/intro.html']")
    assert soup.html and soup.html["data-content_root"] == "/notes/"


def test_without_an_address_there_is_no_map() -> None:
    if os.environ.get("BOOK_URL"):
        pytest.skip("the site was built for an address")
    assert not (SITE / "sitemap.xml").exists() and not (SITE / "robots.txt").exists()
    assert "og:image" not in (SITE / "intro.html").read_text("utf-8")


def test_an_address_is_escaped_in_the_map() -> None:
    assert "<loc>https://x.org/a&amp;b.html</loc>" in site_map("https://x.org/", ["a&b"])
