"""How a place in the book is found: the search, for symbols, terms and results and of the text; the
glossary; what a shared link shows; the map of the site and the page for addresses that lead
nowhere."""

import functools
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
from focal_theme.fulltext import LONGEST_FORMULA, places, typed
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


# What a reader asks, and the places that answer it: one of them is among the first three
QUESTIONS = {
    "should I use focal loss": ("boosting.html#does-it-help", "boosting.html#the-answer"),
    "choose gamma": ("dense_detection.html#focusing", "focal_loss.html#ex-choose-gamma"),
    "initialize bias": ("focal_lib.weights.prior_logit", "cross_entropy.html#ex-fit-bias"),
    "how do I set alpha": ("dense_detection.html#focusing", "#weighting-the-classes"),
    "is the score a probability": (
        "focal_loss.html#what-a-score-means",
        "calibration.html#right-decisions-wrong-probabilities",
    ),
    "NaN loss": ("floating_point.html#how-the-gradient-becomes-nan",),
    "focal loss xgboost": ("chapters/boosting.html", "boosting.html#in-the-three-libraries"),
    "ignore index": ("multiclass.html#def-mean", "torch.softmax_focal_loss"),
    "class imbalance": ("glossary.html#term-imbalance", "chapters/dense_detection.html"),
    "label smoothing": ("relatives.html#label-smoothing-on-top-of-focal-loss",),
    "why is my loss zero": (
        "field_guide.html#the-loss-or-the-logit-for-the-probability",
        "field_guide.html#a-softmax-of-one",
    ),
    "calibraton": ("calibration.html#measuring-calibration", "calibration.html#def-calibrated"),
    "hard negative mining": ("dense_detection.html#what-people-try-instead",),
}

# Words of one family, which find the same
FAMILIES = (
    ("initialize bias", "initialise the biases", "initial bias"),
    ("choose gamma", "choosing γ", "choice of \\gamma", "how do I set gamma?"),
    ("calibrate", "calibration", "Calibrated"),
    ("weighting classes", "weighted class", "weights for a class"),
)


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
    rows = desk.locator("#found li")
    assert str(rows.first.locator("a").first.get_attribute("href")).endswith(place)
    assert desk.get_by_role("heading", name="Symbols, terms and results").is_visible()
    assert desk.locator("#found ol").get_attribute("role") == "list"
    while (more := desk.locator("#found button")).is_visible():
        more.click()
    plural = "symbols, terms or results" if rows.count() > 1 else "symbol, term or result"
    status = desk.get_by_role("status").inner_text()
    assert status.startswith(f"{rows.count()} {plural} ") and f"found for “{query}”" in status
    assert not problems


def addresses(page: Page) -> list[str]:
    """Of the places in the text, in order."""
    links = page.locator("#found-text li > a").all()
    return [str(link.get_attribute("href")) for link in links]


@pytest.mark.parametrize(("question", "answers"), QUESTIONS.items())
def test_a_question_is_answered_on_the_first_screen(
    browser: Browser, address: str, question: str, answers: tuple[str, ...]
) -> None:
    """Of a phone, with words around what is asked for."""
    with browser.new_context(viewport=PHONE, has_touch=True) as context:
        page = context.new_page()
        problems = watch(page, address)
        search(page, address, question)
        rows = page.locator("#found-text li, #found li").all()
        right = [
            r for r in rows if str(r.locator("a").first.get_attribute("href")).endswith(answers)
        ]
        assert right, addresses(page)[:3]
        box = right[0].bounding_box()
        assert box and box["y"] + 60 < PHONE["height"], addresses(page)[:3]
        assert addresses(page)[:3] != [] and not problems
        for row in page.locator("#found-text li").all():
            words = row.locator(".found-body").inner_text()
            assert 20 < len(words) < 230 and "\\" not in words, words
        marked = page.locator("#found-text li:first-child mark").all_inner_texts()
        assert marked and all(len(mark) < 20 for mark in marked)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_words_of_a_family_find_the_same(
    desk: Page, address: str, family: tuple[str, ...]
) -> None:
    found = []
    for query in family:
        search(desk, address, query)
        # A term that is shown by its name above is not repeated below.
        found.append([one for one in addresses(desk) if "glossary" not in one][:10])
    assert len(found[0]) > 2 and all(one == found[0] for one in found)


def test_the_places_stand_around_the_words(desk: Page, address: str) -> None:
    """A phrase leads to its sentence, however far in; the mark is on its words."""
    search(desk, address, "online hard example mining")
    first = desk.locator("#found-text li").first
    assert "online hard example mining" in first.locator(".found-body").inner_text()
    assert first.locator("mark").all_inner_texts()[:4] == ["online", "hard", "example", "mining"]
    assert first.locator(".found-page").inner_text() == "6. Dense detection"
    search(desk, address, "leaves out boxes to regress")
    first = desk.locator("#found-text li").first
    assert re.match(
        "… .*leaves out: boxes to regress, .* …$", first.locator(".found-body").inner_text()
    )
    assert first.locator("mark").all_inner_texts() == ["leaves", "out", "boxes", "regress"]
    first.locator("a").click()
    assert desk.url.endswith("chapters/dense_detection.html#what-carries-over")


def test_a_word_that_is_not_in_the_book_is_said(desk: Page, address: str) -> None:
    search(desk, address, "calibraton xyzzy")
    status = desk.get_by_role("status").inner_text()
    assert "The text does not have “calibraton”, but “calibration”." in status
    assert "The text does not have “xyzzy”." in status and addresses(desk)
    search(desk, address, "calibration")
    assert "does not have" not in desk.get_by_role("status").inner_text()


def test_names_of_objects_are_words(desk: Page, address: str) -> None:
    """Not what every object of JavaScript has."""
    for query in ("constructor", "toString of __proto__"):
        search(desk, address, query)
        assert f"found for “{query}”" in desk.get_by_role("status").inner_text()


def test_more_is_shown_for_a_key(desk: Page, address: str) -> None:
    search(desk, address, "focal loss")
    rows, more = desk.locator("#found-text li"), desk.locator("#found-text button")
    assert rows.count() == 15 and more.inner_text() == "Show 15 more"
    more.focus()
    desk.keyboard.press("Enter")
    assert rows.count() == 30
    assert desk.evaluate(
        "document.activeElement === document.querySelectorAll('#found-text li > a')[15]"
    )
    while more.is_visible():
        more.click()
    assert f"and {rows.count()} places in the text" in desk.get_by_role("status").inner_text()


def test_the_search_works_from_a_folder(desk: Page) -> None:
    desk.goto(f"{(SITE / 'search.html').as_uri()}?q=gamma")
    wait_until(desk, "document.querySelector('.found-count').textContent")
    assert len(addresses(desk)) == 15


def test_a_search_that_does_not_load_is_said(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.route("**/find_places.js", lambda route: route.abort())
        search(page, address, "gamma")
        assert page.get_by_role("status").inner_text() == "The search could not be loaded."


def test_a_number_finds_its_result(desk: Page, address: str) -> None:
    row = soup_of("results.html").select("table.results tbody tr")[20]
    [link] = row.find_all("td")[0].find_all("a")
    search(desk, address, link.get_text().lower())
    first = desk.locator("#found li a").first
    assert first.get_attribute("href") == link["href"]


def test_a_symbol_is_set_and_said_where_it_is_defined(desk: Page, address: str) -> None:
    search(desk, address, "gamma")
    row = desk.locator("#found li").first
    assert row.locator(".found-name .katex-html").is_visible()
    assert row.locator(".found-name math").count() == 1  # for screen readers
    assert "the focusing parameter" in row.locator(".found-body").inner_text()
    link = row.locator(".found-places a")
    assert re.fullmatch(r"Definition \d+\.\d+", link.inner_text())
    link.click()
    assert desk.url.endswith("chapters/focal_loss.html#def-focal-loss")


def test_what_is_nowhere_is_said_so(desk: Page, address: str) -> None:
    for query in ("xyzzy", "???", "how do I", "<img src=x onerror=document.title='bad'>"):
        search(desk, address, query)
        status = desk.get_by_role("status").inner_text()
        assert f"found for “{query}”." in status
        assert not desk.locator("#found-heading").is_visible()
        assert desk.locator("#found li, main img").count() == 0
        assert desk.title() != "bad"
        if "<" not in query:
            assert status.startswith("Nothing") and desk.locator(".found-list > li").count() == 0


def test_a_question_about_a_symbol_finds_it(desk: Page, address: str) -> None:
    search(desk, address, "what is gamma?")
    first = desk.locator("#found li a").first
    assert str(first.get_attribute("href")).endswith("def-focal-loss")


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
            assert page.locator("#found li").count() > 3 or query == "h"
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


@functools.cache
def searched() -> tuple[list[list[str]], list[tuple[int, str, str, str]]]:
    script = (SITE / "_static" / "find_places.js").read_text("utf-8")
    data = json.loads(script.removeprefix("focalPlaces = ").removesuffix(";\n"))
    return data["pages"], data["places"]


def test_the_whole_text_is_searched() -> None:
    pages, found = searched()
    assert {page for page, _ in pages} == {*DOCUMENTS}
    by_page: dict[str, set[str]] = {page: set() for page in DOCUMENTS}
    for number, anchor, heading, text in found:
        page = pages[number][0]
        assert heading and text, (page, anchor)
        assert not anchor or soup_of(page).find(id=anchor), (page, anchor)
        assert not re.search(r"\\[a-z]{2}|import numpy|Link to this|Show code", text), text
        by_page[page].add(anchor)
    for name in chapter_names():
        page = f"chapters/{name}.html"
        labels = {*Chapter(ROOT / "chapters" / f"{name}.ipynb").results}
        labels |= {str(e["id"]) for e in soup_of(page).select(".exercise.admonition[id]")}
        labels |= {
            str(section["id"])
            for section in soup_of(page).select("section[id]")
            if section.select(":scope > p") and section.find("h1", recursive=False) is None
        }
        assert labels <= by_page[page], page
    functions = {str(name["id"]) for name in soup_of("reference.html").select("dt.sig[id]")}
    assert functions <= by_page["reference.html"]
    terms = {str(term["id"]) for term in soup_of("glossary.html").select("dl.glossary > dt")}
    assert terms <= by_page["glossary.html"]


def test_proofs_and_solutions_are_searched_with_what_they_belong_to() -> None:
    text = {anchor: text for _, anchor, _, text in searched()[1]}
    assert "keeps every such comparison, ties included" in text["prop-detection-ranks"]
    assert "At the second hit the best precision" in text["ex-detection-ap"]


def mathml(content: str) -> str:
    return (
        f'<math xmlns="http://www.w3.org/1998/Math/MathML"><semantics><mrow>{content}</mrow>'
        "<annotation>its TeX</annotation></semantics></math>"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<msub><mi>p</mi><mi>t</mi></msub><mo>≥</mo><mn>0.5</mn>", "p_t ≥ 0.5"),
        ("<msup><mi>q</mi><mrow><mi>γ</mi><mo>+</mo><mn>1</mn></mrow></msup>", "q^(γ+1)"),
        ("<mi>log</mi><mo>\u2061</mo><mi>p</mi>", "log p"),
        ("<mfrac><mrow><mi>a</mi><mi>b</mi></mrow><mi>c</mi></mfrac>", "ab/c"),
        ("<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mi>c</mi></mfrac>", "(a+b)/c"),
        ("<mover><mi>y</mi><mo>^</mo></mover>", "y"),
        ("<msubsup><mi>f</mi><mi>γ</mi><mo>′</mo></msubsup>", "f_γ^′"),
        ("<msqrt><mi>n</mi></msqrt>", "√n"),
        ("<mi>x</mi>" * (LONGEST_FORMULA + 1), "…"),
    ],
)
def test_a_formula_is_typed(content: str, text: str) -> None:
    assert typed(mathml(content)) == text


def test_a_page_is_read_by_its_places() -> None:
    formula = (
        '<span class="katex"><span class="katex-mathml">'
        f"{mathml('<mi>p</mi><mo>&lt;</mo><mi>q</mi>')}"
        '</span><span class="katex-html"><span>drawn</span></span></span>'
    )
    page = f"""<nav>Not this</nav><article class="bd-article"><section id="page"><h1>7. Page<a
    class="headerlink">#</a></h1><p>Before.</p><section id="part"><h2>Part</h2><p>If {formula},</p>
    <table><tr><td>one</td><td>two</td></tr></table><pre>code</pre>
    <div class="proof admonition" id="prop-x"><p class="admonition-title">Proposition 1</p>
    <section><p>It holds.</p></section></div><details class="proof"><summary>Proof</summary>
    <p>Plainly.</p></details><div class="warning admonition"><p class="admonition-title">“Wrong”</p>
    <p>It is.</p></div><p>Last.</p></section></section></article>"""
    assert list(places(page, "page")) == [
        ("", "7. Page", "Before."),
        ("part", "Part", "If p < q, one two Last."),
        ("prop-x", "Proposition 1", "It holds. Plainly."),
        ("part", "“Wrong”", "It is."),
    ]


def test_the_search_is_loaded_for_a_query_alone(desk: Page, address: str) -> None:
    """And a query loads no chapters; Sphinx's own search is not in the site."""
    for page_path in sorted({*PAGES} - {"search.html"}):
        assert "_static/find" not in (SITE / page_path).read_text("utf-8"), page_path
    for page_path in PAGES:
        assert "searchtools" not in (SITE / page_path).read_text("utf-8"), page_path
    for name in ("searchindex.js", "_static/searchtools.js", "_static/language_data.js"):
        assert not (SITE / name).exists(), name
    assert (SITE / "_static" / "minisearch" / "LICENSE.txt").read_text("utf-8").startswith("Copy")
    asked: list[str] = []
    desk.goto("about:blank")
    desk.on("request", lambda request: asked.append(request.url))
    desk.goto(address + "search.html", wait_until="networkidle")
    data = ("find_entries.js", "find_places.js", "minisearch.js")
    assert asked and not any(url.endswith(data) for url in asked)
    search(desk, address, "gamma")
    assert all(any(url.endswith(name) for url in asked) for name in data)
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
