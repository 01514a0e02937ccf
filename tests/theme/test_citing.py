"""How results are cited: permalinks, the dialog, the tags for reference managers, the release."""

import datetime
import os
import re

import pytest
import yaml
from anchors import listed_anchors
from book import ROOT, SITE, soup_of
from browser import CHAPTER_PAGES, DESKTOP, SOME_CHAPTERS, settle, wait_until, watch
from playwright.sync_api import Browser, Page, expect
from pybtex.database import parse_string

import focal_lib

FACTS = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
PLACES = [
    ("chapters/focal_loss.html", "#prop-ratio", ".admonition-title", "Proposition 3.5"),
    ("chapters/focal_loss.html", "#def-focal-loss", ".admonition-title", "Definition 3.3"),
    ("chapters/focal_loss.html", "#fig-focal-loss", "figcaption", "Figure 3.1"),
    ("chapters/focal_loss.html", "#equation-eq-focal", ".eqno", "Equation (3.1)"),
]


def shown(page: Page, selector: str) -> bool:
    """Whether it can be seen; opacity counts."""
    page.wait_for_timeout(50)
    return float(page.locator(selector).first.evaluate("e => getComputedStyle(e).opacity")) > 0.9


@pytest.mark.parametrize(("page_path", "place", "part", "number"), PLACES)
def test_a_result_is_cited(
    browser: Browser, address: str, page_path: str, place: str, part: str, number: str
) -> None:
    with browser.new_context(viewport=DESKTOP) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        problems = watch(page, address)
        page.goto(address + page_path)
        settle(page)  # nothing moves
        link, button = f"{place} {part} a.headerlink", f"{place} {part} .cite-button"
        if place.startswith("#eq"):
            link, button = f"{place} a.headerlink", f"{place} .cite-button"
        # Hidden until the mouse or the keyboard comes there.
        page.mouse.move(0, 0)
        assert not shown(page, link) and not shown(page, button)
        page.locator(f"{place} {part}").first.hover()
        assert shown(page, link) and shown(page, button)
        page.mouse.move(0, 0)
        page.locator(link).first.focus()
        page.keyboard.press("Tab")  # from the permalink to the button
        page.keyboard.press("Shift+Tab")
        assert shown(page, link)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "cite-button"
        assert shown(page, button)

        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        assert dialog.get_by_role("heading", level=2).inner_text() == f"Cite {number}"
        # Without BOOK_URL the address begins at the site's root, and the dialog says so.
        site = os.environ.get("BOOK_URL", "").strip().rstrip("/")
        url = f"{site}/{page_path}{place}" if site else page_path + place
        assert dialog.get_by_text("was built without its address").is_visible() == (not site)
        assert address not in dialog.inner_text()
        sentence, bibtex, permanent = dialog.locator("pre").all_inner_texts()
        assert permanent == url
        for part in (number, FACTS["title"], FACTS["version"], url):
            assert part in sentence
        [entry] = parse_string(bibtex, "bibtex").entries.values()
        assert entry.fields["url"] == url
        assert entry.fields["title"] == "Focal loss" and entry.fields["version"] == FACTS["version"]
        assert entry.fields["note"].startswith(number)
        [author] = entry.persons["author"]
        assert str(author) == f"{{{FACTS['authors'][0]['name']}}}"  # one name, not to be split
        assert datetime.date.fromisoformat(entry.fields["urldate"])

        for name, text in (("In a sentence", sentence), ("BibTeX", bibtex)):
            dialog.get_by_role("button", name=f"Copy: {name}").click()
            expect(dialog.get_by_role("status")).to_have_text(f"Copied: {name}")
            assert page.evaluate("navigator.clipboard.readText()") == text
        page.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert page.evaluate("document.activeElement.className") == "cite-button"
        assert not problems


@pytest.mark.parametrize("page_path", SOME_CHAPTERS)
def test_every_result_has_a_button_and_a_published_address(
    browser: Browser, address: str, page_path: str
) -> None:
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.goto(address + page_path)
        labels = page.evaluate(
            """() => [...document.querySelectorAll(".cite-button")].map(button =>
                 button.parentElement.querySelector(".headerlink").hash.slice(1))"""
        )
        names = page.locator(".cite-button").evaluate_all("all => all.map(e => e.ariaLabel)")
    expected = re.compile(r"chapters/\w+\.html#(?:(?:def|prop|fig|equation-eq)-)")
    published = {
        anchor.split("#")[1]
        for anchor in listed_anchors()
        if expected.match(anchor) and anchor.startswith(page_path)
    }
    assert labels and set(labels) == published
    assert len(labels) == len(set(labels)) == len(set(names))
    for name in names:
        assert re.fullmatch(
            r"Cite ((Proposition|Definition|Figure) \d+\.\d+|Equation \(\d+\.\d+\))", name
        )


def test_a_site_that_knows_its_address_cites_by_it(browser: Browser, address: str) -> None:
    known = "https://example.org/notes/" + PLACES[0][0]
    page_text = (SITE / PLACES[0][0]).read_text("utf-8")
    tag = f'<meta name="citation_public_url" content="{known}" />'
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        body = page_text.replace("</head>", f"{tag}</head>", 1)
        page.route(address + PLACES[0][0], lambda route: route.fulfill(body=body))
        page.goto(address + PLACES[0][0])
        page.locator("#prop-ratio .cite-button").first.dispatch_event("click")
        dialog = page.get_by_role("dialog")
        assert dialog.locator("pre").all_inner_texts()[2] == known + "#prop-ratio"
        assert not dialog.get_by_text("was built without its address").is_visible()


def test_a_formula_in_a_title_is_cited_as_tex(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.goto(address + PLACES[0][0])
        page.evaluate(  # no title has one now
            """() => {
              const formula = document.querySelector("#prop-ratio section .katex");
              document.querySelector("#prop-ratio .caption-number").after(formula);
            }"""
        )
        page.locator("#prop-ratio .cite-button").first.dispatch_event("click")
        bibtex = page.get_by_role("dialog").locator("pre").nth(1).inner_text()
    assert r"{Proposition 3.5: $\gamma \ge 0$ (The discount" in bibtex


def test_where_the_clipboard_is_closed_the_text_is_selected(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.add_init_script(
            "navigator.clipboard.writeText = () => Promise.reject(new Error('closed'))"
        )
        page.goto(address + PLACES[0][0])
        page.locator("#prop-ratio .cite-button").first.dispatch_event("click")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Copy: Permanent address").click()
        wait_until(page, "getSelection().toString().endsWith('#prop-ratio')")
        assert "keyboard" in dialog.get_by_role("status").inner_text()


def test_a_permalink_needs_no_script(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=DESKTOP, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(address + PLACES[0][0])
        link = page.locator("#prop-ratio .admonition-title a.headerlink")
        assert link.get_attribute("href") == "#prop-ratio"
        link.hover()
        assert page.locator(".cite-button").count() == 0


@pytest.mark.parametrize("page_path", ["intro.html", *CHAPTER_PAGES, "results.html"])
def test_reference_managers_find_the_facts(page_path: str) -> None:
    soup = soup_of(page_path)
    tags = {
        str(tag["name"]): str(tag["content"])
        for tag in soup.find_all("meta", attrs={"name": re.compile("^citation_")})
    }
    heading = soup.select_one("article h1")
    assert heading
    title = heading.find(string=True, recursive=False)
    assert title and tags["citation_title"] == str(title).strip()
    inside = tags.get("citation_inbook_title")
    assert inside == (None if page_path == "intro.html" else FACTS["title"])
    assert tags["citation_author"] == FACTS["authors"][0]["name"]
    date = datetime.datetime.strptime(tags["citation_publication_date"], "%Y/%m/%d").date()
    assert date.isoformat() == str(FACTS["date-released"])


def test_there_is_one_version_number() -> None:
    """focal_lib's; what else says it says the same."""
    version = focal_lib.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert FACTS["version"] == version
    released = str(FACTS["date-released"])
    cite = (ROOT / "cite.md").read_text("utf-8")
    assert f"Version {version}, {released[:4]}." in cite
    assert f"version = {{{version}}}" in cite and f"{{{released[:4]}}}" in cite
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## (\S+), (\S+)$", changes, re.MULTILINE)
    assert newest and newest.groups() == (version, released)
    dates = re.findall(r"^## \S+, (\S+)$", changes, re.MULTILINE)
    assert dates == sorted(dates, reverse=True)
