"""What is true of every page of the built site, in a real browser and by reading its HTML."""

import copy
import functools
import importlib
import inspect
import pkgutil
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from anchors import built_anchors, listed_anchors
from book import SITE, chapter_names, soup_of, toc_files
from browser import (
    CHAPTER,
    CHAPTER_PAGES,
    DESKTOP,
    LOOKS,
    PAGES,
    PHONE,
    SOME_CHAPTERS,
    TOUCH,
    count_bytes,
    each_look,
    faults_by_axe,
    settle,
    watch,
)
from bs4 import BeautifulSoup, Tag
from cases import sampled
from playwright.sync_api import Browser

import focal_lib

if not (SITE / ".built").exists():
    pytest.fail("there is no built site: run `make book`", pytrace=False)

LANDING = "intro.html"
MOST_KILOBYTES = 500
each_page = pytest.mark.parametrize("page_path", PAGES)
each_chapter_page = pytest.mark.parametrize("page_path", CHAPTER_PAGES)


# What reaches beyond the window and cannot be scrolled to inside a box of its own.
OVERFLOWING = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width)
    found.push(`the page is ${document.documentElement.scrollWidth} px wide in ${width}`);
  for (const element of document.querySelectorAll("article *, .bd-article *")) {
    if (element.closest(".katex-mathml, svg, .headerlink, .copybtn")) continue;
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height || (box.right <= width + 1 && box.left >= -1)) continue;
    let parent = element, scrolls = false;
    while ((parent = parent.parentElement) && !scrolls)
      scrolls = ["auto", "scroll"].includes(getComputedStyle(parent).overflowX);
    if (!scrolls)
      found.push(`${element.tagName}.${element.className} from ${box.left} to ${box.right}: `
        + element.textContent.slice(0, 60));
  }
  return found.slice(0, 5);
}"""

# What a finger cannot move away: a button that is always there and lies on a formula.
COVERED = """() => {
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
    && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const found = [];
  for (const button of document.querySelectorAll("div.math button, div.math .headerlink")) {
    if (!button.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    const box = button.getBoundingClientRect(), formula = button.closest("div.math");
    const signs = [...formula.querySelectorAll(".katex-html :not(:has(*))")]
      .filter((sign) => sign.textContent.trim() && meet(sign.getBoundingClientRect(), box));
    if (signs.length)
      found.push(`${formula.id}: ${button.textContent} lies on ${signs[0].textContent}`);
  }
  return found;
}"""

# What is printed, and cut at the edge of the page or of its box.
CUT = """() => [...document.querySelectorAll(".cell_output pre")]
  .filter(e => [e, e.parentElement].some(box => box.scrollWidth > box.clientWidth + 2))
  .map(e => e.textContent.slice(0, 60))"""

# Signs of an icon font, which the site does not have: one sees an empty box.
ICONS = """() => [...document.querySelectorAll("body *:not(.katex *)")].flatMap((element) =>
  ["::before", "::after"].map((part) => getComputedStyle(element, part).content)
    .filter((content) => /[\\uE000-\\uF8FF]/.test(content))
    .map(() => `${element.tagName}.${element.className}`))"""


@pytest.mark.parametrize("page_path", [*PAGES, "search.html?q=label+smoothing"])
@each_look
def test_page_in_a_browser(browser: Browser, address: str, page_path: str, look: str) -> None:
    """It loads from the site alone and without an error, is small, fits, and axe finds no fault.

    The chapters are made alike: in the dark all rules are asked of one of them, and of the others
    those of colors.
    """
    device, scheme = LOOKS[look]
    with browser.new_context(**device, color_scheme=scheme) as context:
        page = context.new_page()
        problems = watch(page, address)
        transferred = count_bytes(page)
        page.goto(address + page_path)
        if page_path == "index.html":  # which sends on, before its icon has come
            page.wait_for_url(address + LANDING)
        settle(page)
        kilobytes = round(sum(transferred) / 1024)
        assert page.get_attribute("html", "data-theme") == scheme
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate(OVERFLOWING) == []
        assert page.evaluate(ICONS) == []
        if device == TOUCH:
            assert page.evaluate(COVERED) == []
            assert page.evaluate(CUT) == []
        if page_path != "index.html":
            alike = page_path.startswith("chapters/") and page_path != CHAPTER
            rules = ("color-contrast",) if alike and scheme == "dark" else ()
            assert faults_by_axe(page, *rules) == []
        print(f"{page_path}: {kilobytes} KB")
        assert transferred and kilobytes < MOST_KILOBYTES, f"{page_path} transfers {kilobytes} KB"
        if page_path == "index.html":
            problems = [problem for problem in problems if not problem.endswith("favicon.svg")]
        assert not problems


@pytest.mark.parametrize("page_path", SOME_CHAPTERS)
def test_folds_are_closed_and_open_with_a_click(
    browser: Browser, address: str, page_path: str
) -> None:
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.goto(address + page_path)
        folds = page.locator("details.fold")
        assert folds.count() > 0
        content = folds.first.locator(".fold-content")
        assert not content.is_visible()
        folds.first.locator("summary").click()
        assert content.is_visible()


def test_the_color_mode_button_changes_the_mode(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=DESKTOP, color_scheme="light") as context:
        page = context.new_page()
        page.goto(address + CHAPTER_PAGES[0])
        settle(page)
        grounds = set()
        for _ in range(3):  # automatic, light, dark
            page.locator("button.theme-switch-button:visible").first.click()
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2


def test_search_finds_a_term(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        problems = watch(page, address)
        page.goto(address + "search.html?q=entropy")
        page.wait_for_selector("#found-text a")
        assert not problems


# Without JavaScript


HIDDEN = """() => [...document.querySelectorAll(".fold-content, article .katex-display")]
  .filter(element => !element.checkVisibility({visibilityProperty: true, opacityProperty: true})
    || element.getBoundingClientRect().height < 5)
  .map(element => element.textContent.slice(0, 80))"""


# index.html only sends on, and the search is a script.
STILL = sorted({*PAGES} - {"index.html", "search.html"})
OTHERS = [page for page in STILL if not page.startswith("chapters/")]


@pytest.mark.parametrize("page_path", sampled(STILL, CHAPTER, "chapters/boosting.html", *OTHERS))
def test_page_without_javascript(browser: Browser, address: str, page_path: str) -> None:
    formulas = len(soup_of(page_path).select("article annotation"))
    with browser.new_context(
        viewport=PHONE, java_script_enabled=False, color_scheme="dark"
    ) as context:
        page = context.new_page()
        problems = watch(page, address)
        page.goto(address + page_path)
        assert page.locator("article .katex-html").count() == formulas
        assert page.evaluate(HIDDEN) == []
        text = page.evaluate(
            """() => {
              const article = document.querySelector("article").cloneNode(true);
              article.querySelectorAll("pre, code, annotation").forEach(node => node.remove());
              return article.textContent;
            }"""
        )
        assert not re.findall(r"\$\$|\\\(|\\\[|\\[a-z]{3,}|\{(?:eq|ref|numref|doc|cite|prf:)", text)
        assert page.evaluate(OVERFLOWING) == []
        # The scripts are announced to the browser ahead of their use, and refused.
        assert [problem for problem in problems if ".js" not in problem] == []


@each_page
def test_references_are_numbered(page_path: str) -> None:
    soup = soup_of(page_path)
    for link in soup.select("a.reference[href*='#equation-eq-']"):
        assert re.fullmatch(r"\(\d+(\.\d+)?\)", link.get_text()), link
    for number in soup.select(".eqno"):
        assert re.match(r"\(\d+(\.\d+)?\)", number.get_text()), number
    for block in soup.select(".admonition.proof[id], .exercise.admonition, article figure"):
        number = block.select_one(".caption-number, .admonition-title")
        assert number and re.search(r"\w+ \d+(\.\d+)?\b", number.get_text()), block["id"]
    for link in soup.select("a.reference[href*='#fig-'], a.reference[href*='#ex-']"):
        assert link.get_text().strip(), link


# The HTML


@functools.cache
def ids_of(page_path: str) -> set[str]:
    soup = soup_of(page_path)
    return {str(tag["id"]) for tag in soup.find_all(id=True)} | {
        str(tag["name"]) for tag in soup.find_all("a", attrs={"name": True})
    }


def bad_links(page_path: str, soup: BeautifulSoup) -> list[str]:
    """The addresses in a page that lead nowhere in the site, or to an unknown kind of place."""
    bad = []
    for tag, attribute in (("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")):
        for element in soup.find_all(tag, attrs={attribute: True}):
            link = str(element[attribute])
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if tag != "a" and element.get("rel") != ["canonical"]:
                    bad.append(f"{tag} from another host: {link}")
                elif parts.scheme not in ("https", "mailto", "http"):
                    bad.append(f"{tag}: {link}")
                continue
            target = urlsplit(urljoin("/" + page_path, link))
            path = unquote(target.path).lstrip("/") or "index.html"
            if not (SITE / path).is_file():
                bad.append(f"{tag}: no file {path}")
            elif target.fragment and path.endswith(".html"):
                if unquote(target.fragment) not in ids_of(path):
                    bad.append(f"{tag}: no anchor {path}#{target.fragment}")
    return bad


@each_page
def test_links_lead_somewhere(page_path: str) -> None:
    assert bad_links(page_path, soup_of(page_path)) == []


@pytest.mark.parametrize(
    ("html", "bad"),
    [
        ('<a href="intro.html">', 0),
        ('<a href="intro.html#main-content">', 0),
        ('<a href="https://doi.org/x">', 0),
        ('<a href="nowhere.html">', 1),
        ('<a href="intro.html#nowhere">', 1),
        ('<img src="_images/nowhere.svg">', 1),
        ('<script src="https://cdn.example.org/x.js">', 1),
        ('<a href="javascript:void(0)">', 1),
    ],
)
def test_a_bad_link_is_found(html: str, bad: int) -> None:
    assert len(bad_links("intro.html", BeautifulSoup(html, "html.parser"))) == bad


@each_page
def test_no_id_is_used_twice(page_path: str) -> None:
    ids = Counter(str(tag["id"]) for tag in soup_of(page_path).find_all(id=True))
    assert [name for name, count in ids.items() if count > 1] == []


def bad_alt(image: Tag) -> bool:
    alt = str(image.get("alt", "")).strip()
    is_file = re.search(r"\.(?:png|svg|jpe?g|gif)$|^[0-9a-f]{16,}|_images/", alt)
    return not alt or bool(is_file)


@each_page
def test_every_image_has_words(page_path: str) -> None:
    assert [str(image) for image in soup_of(page_path).find_all("img") if bad_alt(image)] == []


@pytest.mark.parametrize("alt", ["", " ", "3f1b5c7d9e0a2b4c6d8e.svg", "_images/a.png", "plot.png"])
def test_a_bad_alt_is_found(alt: str) -> None:
    [image] = BeautifulSoup(f'<img alt="{alt}">', "html.parser").find_all("img")
    assert bad_alt(image)


def test_every_page_of_the_book_is_built_and_described() -> None:
    descriptions = []
    for name in toc_files():
        page = str(Path(name).with_suffix(".html"))
        soup = soup_of(page)
        assert soup.title and len(soup.select("article h1")) == 1, page
        [description] = soup.select("meta[name=description]")
        descriptions.append(str(description["content"]))
        assert 40 <= len(descriptions[-1]) <= 200, page
    assert len(descriptions) == len(set(descriptions))


@each_chapter_page
def test_the_notebook_can_be_downloaded(page_path: str) -> None:
    notebook = "_sources/" + page_path.removesuffix(".html") + ".ipynb"
    assert (SITE / notebook).is_file()
    assert soup_of(page_path).select(f"a[href$='{notebook}']")


def test_no_published_address_is_gone() -> None:
    gone = sorted(listed_anchors() - built_anchors())
    assert not gone, "published addresses that the site no longer has; give the labels back: " + (
        ", ".join(gone)
    )


def test_every_address_is_listed() -> None:
    new = sorted(built_anchors() - listed_anchors())
    assert not new, "not in tests/anchors.txt; `make anchors` adds them: " + ", ".join(new)
    assert listed_anchors(), "the list is empty"


# The index of results


def test_the_index_has_every_result_its_cells_and_its_source() -> None:
    """In the order of the book, with what the chapters' sources say, and links to the cells."""
    rows = soup_of("results.html").select("table.results tbody tr")
    listed, checked = [], set()
    for row in rows:
        result, title, check, source = row.find_all("td")
        [link] = result.find_all("a")
        page, label = str(link["href"]).split("#")
        assert re.fullmatch(r"(Definition|Proposition) \d+\.\d+", link.get_text()), link
        place = soup_of(page).find(id=label)
        assert isinstance(place, Tag)
        heading = place.select_one(".admonition-title")
        assert heading and link.get_text() in heading.get_text()
        assert title.get_text(strip=True)
        assert source.find("a") or "this book" in source.get_text(), f"{label}: no source"
        for cell in check.find_all("a"):
            cell_page, address = str(cell["href"]).split("#")
            anchor = soup_of(cell_page).find(id=address)
            assert isinstance(anchor, Tag) and cell_page == page
            # A second address of a cell is an element in it.
            code = anchor if "tag_check" in anchor.get("class", []) else anchor.parent
            assert isinstance(code, Tag)
            assert {"tag_check", f"tag_{label}"} <= {*code.get_attribute_list("class")}
            checked.add((label, address))
        assert check.find("a") or label.startswith("def-"), f"{label}: no check"
        listed.append((page, label))
    statements = [
        (page, str(tag["id"]))
        for page in (f"chapters/{name}.html" for name in chapter_names())
        for tag in soup_of(page).select("article .proof[id]")
        if str(tag["id"]).startswith(("def-", "prop-"))
    ]
    assert listed == statements
    cells = {
        (str(cell["id"]), name)
        for page in {page for page, _ in statements}
        for cell in soup_of(page).select(".tag_check")
        for name in cell.get_attribute_list("class")
        if name.startswith(("tag_def-", "tag_prop-"))
    }
    assert len(checked) == len(cells)


# The library's reference


LIBRARY = [
    f"focal_lib.{module.name}"
    for module in pkgutil.iter_modules(focal_lib.__path__)
    if not module.name.startswith("_")
]


def public(module_name: str) -> dict[str, Any]:
    """The functions and classes that a module offers."""
    return {
        f"{module_name}.{name}": value
        for name, value in vars(importlib.import_module(module_name)).items()
        if getattr(value, "__module__", "") == module_name and not name.startswith("_")
        if inspect.isfunction(value) or inspect.isclass(value)
    }


def methods(value: Any) -> dict[str, Any]:
    """What is called on the objects of a class: public and documented in its own package."""
    if not inspect.isclass(value):
        return {}
    found: dict[str, Any] = {}
    for base in reversed(value.__mro__):
        if base.__module__ == value.__module__:
            for name, member in vars(base).items():
                if (name == "__call__" or not name.startswith("_")) and inspect.isfunction(member):
                    if member.__doc__:
                        found[name] = member
    return found


@pytest.mark.parametrize("module_name", LIBRARY)
def test_the_reference_has_the_whole_library(module_name: str) -> None:
    offered = public(module_name)
    soup = copy.copy(soup_of("reference.html"))
    entries = soup.select(f"dt.sig[id^='{module_name}.']")
    assert offered and [entry["id"] for entry in entries] == [
        full
        for name, value in offered.items()
        for full in (name, *(f"{name}.{method}" for method in methods(value)))
    ]
    offered |= {
        f"{name}.{method}": function
        for name, value in offered.items()
        for method, function in methods(value).items()
    }
    for entry in entries:
        value = offered[str(entry["id"])]
        names = [parameter.find(class_="n") for parameter in entry.select(".sig-param")]
        parameters = [*inspect.signature(value).parameters]
        if "self" in parameters:
            parameters.remove("self")
        assert [name.get_text() for name in names if name] == parameters

        docstring, description = inspect.getdoc(value), entry.find_next_sibling("dd")
        assert docstring and isinstance(description, Tag)
        for method in description.select("dl.py"):
            method.extract()  # it has an entry of its own
        text = description.get_text()
        assert text.count(">>> ") == docstring.count(">>> ")
        labels = re.findall(r"(?<![\w-])(?:eq|def|prop)-[a-z-]+", docstring)
        links = [str(link["href"]) for link in description.select("a.reference")]
        for label in labels:
            assert label not in text and any(link.endswith(label) for link in links), label
