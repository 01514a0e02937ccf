"""The site is open to all: a policy that lets in the site alone, pages that the keyboard reaches,
and figures that can be read in both color modes.

What was measured is printed: `make test` shows it where a test fails, `pytest -rP` always.
"""

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from book import SITE, soup_of
from browser import CHAPTER, DESKTOP, PAGES, PHONE, faults_by_axe, settle, wait_until, watch
from bs4 import BeautifulSoup
from cases import exhaustive
from PIL import Image
from playwright.sync_api import Browser, Page

if not (SITE / ".built").exists():
    pytest.fail("there is no built site: run `make book`", pytrace=False)


# The policy


def unlike_policy(soup: BeautifulSoup) -> list[str]:
    """What in a page is against the policy, or against there being one before all else."""
    found = []
    policy = soup.select_one("head > meta[http-equiv=Content-Security-Policy]")
    if policy is None:
        return ["no policy"]
    if policy.find_previous(["script", "link", "style", "img"]):
        found.append("something is loaded before the policy")
    said = dict(part.split(None, 1) for part in str(policy["content"]).split("; "))
    if said.get("default-src") != "'self'" or said.get("script-src") != "'self'":
        found.append(f"not the site alone: {said}")
    for name in said.keys() - {"default-src", "script-src", "style-src", "img-src"}:
        if said[name] not in ("'self'", "'none'"):
            found.append(f"not the site alone: {name} {said[name]}")
    for script in soup.find_all("script"):
        if not script.get("src") and script.get("type") != "application/ld+json":
            found.append(f"a script in the page: {script}")
    for tag in soup.find_all(True):
        found += [f"{name} in {tag.name}" for name in tag.attrs if name.startswith("on")]
    return found


@pytest.mark.parametrize("page_path", PAGES)
def test_the_policy_is_the_site_alone(page_path: str) -> None:
    assert unlike_policy(soup_of(page_path)) == []


GOOD = (
    '<head><meta http-equiv="Content-Security-Policy" content="default-src \'self\'; '
    "script-src 'self'; object-src 'none'\"></head><body>{}</body>"
)


@pytest.mark.parametrize(
    ("html", "count"),
    [
        (GOOD.format('<script src="a.js"></script>'), 0),
        (GOOD.format('<script type="application/ld+json">{}</script>'), 0),
        ("<head></head>", 1),
        (GOOD.format("<script>run()</script>"), 1),
        (GOOD.format('<button onclick="run()">'), 1),
        (GOOD.format("").replace("<head>", '<head><script src="a.js"></script>'), 1),
        (GOOD.format("").replace("script-src 'self'", "script-src 'self' 'unsafe-inline'"), 1),
        (GOOD.format("").replace("'none'", "*"), 1),
    ],
)
def test_what_is_against_the_policy_is_found(html: str, count: int) -> None:
    assert len(unlike_policy(BeautifulSoup(html, "html.parser"))) == count


def test_the_policy_is_kept_also_without_a_server(browser: Browser, address: str) -> None:
    """A script that is put into the page does not run; those of the site do, from a file too."""
    for start in (address, (SITE / "x").as_uri()[:-1]):
        with browser.new_context(viewport=DESKTOP, color_scheme="dark") as context:
            page = context.new_page()
            problems = watch(page, start)
            page.goto(start + CHAPTER, wait_until="load")
            assert page.locator(".cite-button").count() > 0 and not problems
            assert page.get_attribute("html", "data-theme") == "dark"
            page.evaluate(
                "document.body.append(Object.assign(document.createElement('script'), "
                "{textContent: 'window.ran = true'}))"
            )
            assert page.evaluate("window.ran") is None
            assert [p for p in problems if "Content Security Policy" in p], start


# What axe says; test_site.py asks it of every page


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ("<button></button>", "button-name"),
        ('<p style="color: #999; background: #fff">Words</p>', "color-contrast"),
        ("<details><p><img src='_static/favicon.svg'></p></details>", "image-alt"),
    ],
)
def test_axe_finds_a_fault(browser: Browser, address: str, html: str, fault: str) -> None:
    """One that is put into a page, also in a fold."""
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.goto(address + "404.html", wait_until="load")
        page.evaluate("html => document.querySelector('article').innerHTML += html", html)
        assert [one.split(":")[0] for one in faults_by_axe(page)] == [fault]


# The keyboard

# What has the focus, where it is, and whether one sees that
FOCUS = """() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  window.stops ??= [];
  if (!window.stops.includes(element)) window.stops.push(element);
  const style = getComputedStyle(element), box = element.getBoundingClientRect();
  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1
    || style.boxShadow !== "none";
  return {
    number: window.stops.indexOf(element),
    is: `${element.tagName.toLowerCase()}#${element.id}.${element.className}`,
    seen: ring && element.checkVisibility({opacityProperty: true, visibilityProperty: true})
      && box.width > 0 && box.bottom > 0 && box.top < innerHeight
      && box.right > 0 && box.left < innerWidth,
  };
}"""


def stops(page: Page, most: int = 1500) -> list[dict[str, Any]]:
    """Where Tab goes, from the start of the page to its end."""
    found: list[dict[str, Any]] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUS)
        if stop is None or stop["number"] < len(found) - 1:
            return found
        assert stop["number"] == len(found), f"the focus is kept by {stop['is']}"
        found.append(stop)
    pytest.fail(f"Tab does not leave the page: {found[-3:]}")


REACHED = """() => {
  const wanted = ".theme-switch-button, .search-button__button, .primary-toggle, "
    + ".secondary-toggle, .dropdown-toggle, details > summary, .cite-button, .headerlink, "
    + ".fold-controls button, .copybtn, article a[href], nav a[href], [tabindex='0']";
  return [...document.querySelectorAll(wanted)]
    .filter((e) => e.checkVisibility({visibilityProperty: true}) && !window.stops.includes(e)
      && e.tabIndex >= 0)
    .map((e) => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 40)}`);
}"""


@pytest.mark.parametrize(
    "size", [pytest.param(PHONE, id="phone"), pytest.param(DESKTOP, id="desktop", marks=exhaustive)]
)
@pytest.mark.parametrize("page_path", ["intro.html", CHAPTER, "search.html?q=gamma"])
def test_tab_reaches_everything_and_is_seen(
    browser: Browser, address: str, page_path: str, size: dict[str, int]
) -> None:
    with browser.new_context(viewport=size, reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(address + page_path)
        settle(page)
        for explorer in page.locator(".explorer").all():  # it moves once it is near the window
            explorer.scroll_into_view_if_needed()
            explorer.locator("[role=slider]").first.wait_for()
        page.evaluate("scrollTo(0, 0)")
        found = stops(page)
        unseen = [stop["is"] for stop in found if not stop["seen"]]
        missed = page.evaluate(REACHED)
        print(f"{page_path}, {size['width']} px: {len(found)} stops, {len(unseen)} unseen")
        assert len(found) > 5
        assert not unseen and not missed


@pytest.fixture
def keyed(browser: Browser, address: str) -> Iterator[Page]:
    """A chapter on a desktop, touched with the keyboard alone."""
    with browser.new_context(viewport=DESKTOP, color_scheme="light") as context:
        page = context.new_page()
        page.goto(address + CHAPTER)
        settle(page)
        yield page


def focused(page: Page, selector: str) -> bool:
    return bool(page.evaluate("s => document.activeElement.matches(s)", selector))


def tab_to(page: Page, selector: str, most: int = 400) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page, selector):
            return
    pytest.fail(f"Tab does not reach {selector}")


def test_the_first_stop_skips_to_the_text(keyed: Page) -> None:
    keyed.keyboard.press("Tab")
    assert focused(keyed, ".skip-link a") and keyed.locator(".skip-link a").is_visible()
    keyed.keyboard.press("Enter")
    keyed.keyboard.press("Tab")
    assert keyed.evaluate("document.activeElement.closest('main') !== null")


def test_the_search_is_operated_by_keys(keyed: Page, address: str) -> None:
    tab_to(keyed, ".search-button__button")
    keyed.keyboard.press("Enter")
    assert focused(keyed, "#pst-search-dialog input")
    keyed.keyboard.press("Escape")
    assert focused(keyed, ".search-button__button"), "the focus does not come back"
    keyed.keyboard.press("Control+k")
    keyed.keyboard.type("gamma")
    keyed.keyboard.press("Enter")
    keyed.wait_for_url(address + "search.html?q=gamma")


def test_the_color_mode_is_changed_by_keys(keyed: Page) -> None:
    tab_to(keyed, ".theme-switch-button")
    modes = []
    for _ in range(3):
        keyed.keyboard.press("Enter")
        modes.append(keyed.get_attribute("html", "data-theme"))
        assert focused(keyed, ".theme-switch-button"), "the focus is lost"
    assert set(modes) == {"light", "dark"}


def test_a_fold_and_a_citation_are_opened_by_keys(keyed: Page) -> None:
    tab_to(keyed, ".cite-button")
    keyed.keyboard.press("Enter")
    assert focused(keyed, ".cite-dialog *")
    keyed.keyboard.press("Escape")
    assert focused(keyed, ".cite-button") and not keyed.locator(".cite-dialog").is_visible()
    tab_to(keyed, "details.fold > summary")
    keyed.keyboard.press("Space")
    assert keyed.evaluate("document.activeElement.parentElement.open")


@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_a_sidebar_is_opened_by_keys_on_a_phone(browser: Browser, address: str, side: str) -> None:
    with browser.new_context(viewport=PHONE) as context:
        page = context.new_page()
        page.goto(address + CHAPTER)
        settle(page)
        tab_to(page, f".{side}-toggle")
        page.keyboard.press("Enter")
        assert page.locator(f"#pst-{side}-sidebar-modal").is_visible()
        tab_to(page, f"#pst-{side}-sidebar-modal a", most=5)
        page.keyboard.press("Escape")
        assert not page.locator(f"#pst-{side}-sidebar-modal").is_visible()
        assert focused(page, f".{side}-toggle"), "the focus does not come back"


def test_what_is_wide_is_scrolled_by_keys(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=PHONE) as context:
        page = context.new_page()
        page.goto(address + CHAPTER)
        settle(page)
        tab_to(page, "pre, .formula, .output, .pst-scrollable-table-container")
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(400)
        assert page.evaluate("document.activeElement.scrollLeft") > 0


# The colors of the figures


def style_of(element: ElementTree.Element) -> dict[str, str]:
    parts = (part.split(":", 1) for part in element.get("style", "").split(";") if ":" in part)
    return {name.strip(): value.strip() for name, value in parts}


def colors_of(figure: str) -> tuple[set[str], set[str]]:
    """The colors of a figure's words and of its lines and marks.

    What is translucent (bands, grids, single runs behind a mean) and what is filled without a line
    (areas, which are told by their edges and their words) is not among them, nor is what stands on
    such an area in white.
    """
    words: set[str] = set()
    lines: set[str] = set()

    def walk(element: ElementTree.Element, in_words: bool) -> None:
        style = style_of(element)
        in_words = in_words or element.get("id", "").startswith("text_")
        translucent = {"opacity", "stroke-opacity"} & style.keys()
        kind = "fill" if in_words else "stroke"
        color = style.get(kind, "none")
        if color.startswith("#") and color != "#ffffff" and not translucent:
            (words if in_words else lines).add(color)
        for child in element:
            walk(child, in_words)

    walk(ElementTree.fromstring(figure), False)
    return words | {"#000000"}, lines


def figures() -> dict[Path, tuple[set[str], set[str]]]:
    return {file: colors_of(file.read_text("utf-8")) for file in (SITE / "_images").glob("*.svg")}


def seen_colors(page: Page, colors: list[str]) -> list[np.ndarray]:
    """How the page shows the colors of a figure: a figure of squares is put into it."""
    side = 16
    squares = "".join(
        f'<rect x="{side * i}" width="{side}" height="{side}" fill="{color}"/>'
        for i, color in enumerate(colors)
    )
    width = side * len(colors)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{side}">{squares}</svg>'
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    page.evaluate(
        """async source => {
          const figure = document.createElement("figure"), image = new Image();
          image.id = "squares";
          image.src = source;
          await image.decode();
          figure.append(image);
          document.querySelector("article h1").after(figure);
        }""",
        source,
    )
    shot = Image.open(io.BytesIO(page.locator("#squares").screenshot())).convert("RGB")
    assert shot.width == width
    return [np.array(shot.getpixel((side * i + side // 2, side // 2))) for i in range(len(colors))]


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """WCAG 2's contrast ratio of two colors of 0 to 255."""

    def luminance(color: np.ndarray) -> float:
        c = color / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_figures_can_be_read(browser: Browser, address: str, scheme: str) -> None:
    """Words 4.5 to 1 on their ground, lines and marks 3 to 1, as the page shows them."""
    found = figures()
    words = set().union(*(one for one, _ in found.values()))
    lines = set().union(*(one for _, one in found.values()))
    colors = ["#ffffff", *sorted(words | lines)]
    with browser.new_context(viewport=DESKTOP, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(address + CHAPTER)
        settle(page)
        ground, *shown = seen_colors(page, colors)
        page_ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert re.findall(r"\d+", page_ground)[:3] == [str(c) for c in ground], "a card, not the page"
    low = []
    for color, shows in zip(colors[1:], shown, strict=True):
        ratio, least = contrast(shows, ground), 4.5 if color in words else 3
        print(f"{scheme}: {color}, {'words' if color in words else 'lines'}: {ratio:.2f}")
        if ratio < least:
            low.append(f"{color} has {ratio:.2f}, at least {least} is asked")
    assert len(found) > 20 and len(lines) > 3
    assert not low


def test_a_printout_has_all_figures(browser: Browser, address: str) -> None:
    """Those far from the window, too, which come after the page."""
    with browser.new_page(viewport=PHONE) as page:
        page.goto(address + CHAPTER, wait_until="load")
        there = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
        wait_until(page, there)
        assert page.evaluate("document.images.length") > 3 and page.evaluate("scrollY") == 0


def test_a_printout_is_light(browser: Browser, address: str) -> None:
    """Also of a page that is dark on the screen, which it is again afterwards."""
    with browser.new_page(color_scheme="dark") as page:
        page.goto(address + CHAPTER, wait_until="load")
        color = "getComputedStyle(document.querySelector('article p')).color"
        on_screen = page.evaluate(color)
        page.evaluate(
            f"() => addEventListener('beforeprint', () => {{ window.printed = {color} }})"
        )
        page.pdf()
        wait_until(page, f"{color} === {on_screen!r}")
        printed = page.evaluate("printed")
    values = [np.array(re.findall(r"\d+", text)[:3], float) for text in (on_screen, printed)]
    assert values[0].min() > 150 and values[1].max() < 80, (on_screen, printed)


def test_contrast_is_that_of_the_guidelines() -> None:
    black, white, gray = (np.full(3, c) for c in (0, 255, 0x77))
    assert contrast(black, white) == pytest.approx(21)
    assert contrast(gray, white) == pytest.approx(4.48, abs=0.01)
    assert colors_of(
        '<svg><g id="text_1"><g style="fill: #999999"/></g><path style="stroke: #0072b2"/>'
        '<path style="stroke: #b8b8b8; stroke-opacity: 0.5"/></svg>'
    ) == ({"#000000", "#999999"}, {"#0072b2"})
