"""The explorer: its numbers are focal_lib's, the reader can move it in every way, and where it does
not move there is a figure."""

import functools
import gzip
import itertools
import json
import math
import re
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from book import SITE
from browser import (
    DESKTOP,
    LOOKS,
    PAGES,
    PHONE,
    TOUCH,
    QuietHandler,
    Server,
    each_look,
    settle,
    wait_until,
    watch,
)
from bs4 import BeautifulSoup
from focal_theme import explorer
from playwright.sync_api import Browser, BrowserContext, Locator, Page
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import norm
from test_site import OVERFLOWING

from focal_lib.estimation import sigmoid_posterior, sigmoid_score
from focal_lib.numpy import (
    cross_entropy,
    focal_loss,
    modulating_factor,
    sigmoid_focal_loss,
    sigmoid_focal_loss_gradient,
)
from focal_notes import gamma_style

if not (SITE / ".built").exists():
    pytest.fail("there is no built site: run `make book`", pytrace=False)

LANDING = "intro.html"
HTML = {page: (SITE / page).read_text("utf-8") for page in PAGES}
WITH_EXPLORER = [page for page, text in HTML.items() if 'class="explorer"' in text]
each_with_explorer = pytest.mark.parametrize("page_path", WITH_EXPLORER)

GAMMAS = (0, 0.1, 0.5, 1, 2, 3.7, 5)
ALPHAS = (0, 0.01, 0.25, 0.5, 0.99)  # 0 is no weight
RATIOS = (1, 37, 1000, 10_000)
POPULATION = explorer.in_node("focalCurves.POPULATION")
PROBABILITIES = (1e-12, 0.001, 0.05, 0.3, 0.5, 0.7, 0.9, 0.999, 1 - 1e-9)


# The numbers, by the library and by integration


def class_loss(gamma: float, mean: float, below: float = math.inf) -> float:
    """The expected loss of a class whose margins are normal, over the margins below one."""

    def density(z: float) -> float:
        loss = sigmoid_focal_loss(z, 1, alpha=None, gamma=gamma)
        return float(loss * norm.pdf(z, mean, POPULATION["DEVIATION"]))

    edges = [edge for edge in (-45, -15, -8, -4, -2, 0, 2, 4, 6, 8, 12, 25) if edge < below]
    edges.append(min(below, 45))
    pieces = itertools.pairwise(edges)
    return sum(quad(density, a, b, epsabs=0, epsrel=1e-10, limit=200)[0] for a, b in pieces)


@functools.cache
def known_loss(gamma: float, mean: float, below: float) -> float:
    return class_loss(gamma, mean, below)


def shares(gamma: float, alpha: float, ratio: float, p: float) -> tuple[float, float, float]:
    """Of the total loss: what is up to p, what the negatives own, and the easy ones of them."""
    weights = (ratio * (1 - alpha), alpha) if alpha else (ratio, 1)
    means = (POPULATION["NEGATIVES"], POPULATION["POSITIVES"])
    up_to, half, total = (
        [w * known_loss(gamma, mean, z) for w, mean in zip(weights, means, strict=True)]
        for z in (float(logit(p)), 0.0, math.inf)
    )
    return sum(up_to) / sum(total), total[0] / sum(total), (total[0] - half[0]) / sum(total)


def by_the_library(gamma: float, alpha: float, ratio: float, p: float) -> dict[str, float]:
    weight, x = alpha or None, float(logit(p))
    pull = [
        abs(sigmoid_focal_loss_gradient(z, y, alpha=weight, gamma=gamma))
        for z, y in ((x, 1), (-x, 0))
    ]  # p_t is p for both labels
    bill = [sigmoid_focal_loss(z, y, weight, gamma) for z, y in ((x, 1), (-x, 0))]
    plain, focal = shares(0, 0, ratio, p), shares(gamma, alpha, ratio, p)
    return {
        "crossEntropy": float(cross_entropy(p)),
        "focal": float(focal_loss(p, gamma)),
        "focalPositive": float(bill[0]),
        "focalNegative": float(bill[1]),
        "ratio": float(1 / modulating_factor(p, gamma)),
        "gradientCrossEntropy": float(abs(sigmoid_focal_loss_gradient(x, 1, alpha=None, gamma=0))),
        "gradient": float(abs(sigmoid_focal_loss_gradient(x, 1, alpha=None, gamma=gamma))),
        "gradientPositive": float(pull[0]),
        "gradientNegative": float(pull[1]),
        "score": float(sigmoid_score(p, alpha=weight, gamma=gamma, from_logits=False)),
        "posterior": float(sigmoid_posterior(p, alpha=weight, gamma=gamma, from_logits=False)),
        "upToCrossEntropy": plain[0],
        "negativesCrossEntropy": plain[1],
        "easyNegativesCrossEntropy": plain[2],
        "upToFocal": focal[0],
        "negativesFocal": focal[1],
        "easyNegativesFocal": focal[2],
    }


@pytest.mark.parametrize("gamma", explorer.GAMMAS)
def test_the_figure_is_drawn_from_the_librarys_numbers(gamma: float) -> None:
    def curve(name: str) -> np.ndarray[Any, Any]:
        part = explorer.curves()["parts"][name]
        points = part["curves"][explorer.GAMMAS.index(gamma)]
        return np.array([(x, y) for x, y in points if y < part["top"] or x == 1]).T

    p, loss = curve("loss")
    np.testing.assert_allclose(loss, focal_loss(p, gamma), rtol=1e-10)
    p, pull = curve("gradient")
    expected = abs(sigmoid_focal_loss_gradient(logit(p), 1, alpha=None, gamma=gamma))
    np.testing.assert_allclose(pull, expected, rtol=1e-10)
    p, decades = curve("ratio")
    np.testing.assert_allclose(10**decades, 1 / modulating_factor(p, gamma), rtol=1e-10)
    eta, score = curve("score")
    expected = sigmoid_posterior(score, alpha=None, gamma=gamma, from_logits=False)
    np.testing.assert_allclose(eta, expected, atol=1e-12)
    p, share = curve("population")
    for k in (1, 30, 64, 100, -2):
        expected = shares(gamma, 0, 1000, p[k])[0]
        assert share[k] == pytest.approx(expected, rel=1e-8, abs=1e-12)
    for name, part in explorer.PARTS.items():
        said = explorer.curves()["parts"][name]["numbers"][explorer.GAMMAS.index(gamma)]
        expected = by_the_library(gamma, 0, 1000, part.point)[part.number]
        assert said[part.number] == pytest.approx(expected, rel=1e-6)


def test_a_curve_is_cut_at_the_frame() -> None:
    def clipped(points: list[list[float]]) -> Any:
        return explorer.in_node(f"focalCurves.clip({json.dumps(points)}, 5)")

    assert clipped([[0, 9], [1, 7], [2, 3], [3, 1]]) == [[1.5, 5], [2, 3], [3, 1]]
    assert clipped([[0, 1], [1, 3], [2, 7]]) == [[0, 1], [1, 3], [1.5, 5]]


@pytest.mark.parametrize("argument", ["", "loss nosuch", "loss loss"])
def test_bad_parts_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match="parts"):
        explorer._parts(argument)


# The files


FILES = ["curves.js", "explorer.js", "explorer.css"]


def test_only_pages_with_an_explorer_ask_for_its_files() -> None:
    assert LANDING in WITH_EXPLORER
    for page, text in HTML.items():
        asked = [name for name in FILES if f"_static/{name}" in text]
        assert asked == (FILES if page in WITH_EXPLORER else []), page


def test_the_explorer_weighs_less_than_300_kilobytes(
    record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (*FILES, "jsxgraph/jsxgraphcore.js")
    files = [(SITE / "_static" / name).read_bytes() for name in names]
    raw, compressed = (
        sum(map(len, contents)) for contents in (files, [gzip.compress(file) for file in files])
    )
    record_property("explorer bytes", {"raw": raw, "gzip": compressed})
    print(f"the explorer: {raw:,} bytes, {compressed:,} compressed")
    assert compressed < 300_000
    assert raw < 1_100_000


# In a browser

STATE = {"gamma": 2, "alpha": 0, "ratio": 1000, "p": 0.9}


class StrictHandler(QuietHandler):
    """Sends the site under the policy that scripts come from its files alone."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", "script-src 'self'")
        super().end_headers()


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    handler = functools.partial(StrictHandler, directory=str(SITE))
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport=DESKTOP) as context:
        yield context


def opened(context: BrowserContext, address: str) -> tuple[Page, Locator]:
    """A page whose explorers have been scrolled to, and the first of them."""
    page = context.new_page()
    page.goto(address)
    for found in page.locator(".explorer").all():
        found.scroll_into_view_if_needed()
        found.and_(page.locator(".explorer-moves")).wait_for()
    return page, page.locator(".explorer").first


def number(explorer: Locator, name: str) -> float:
    return float(str(explorer.locator(f"dd[data-name='{name}']").get_attribute("data-value")))


def setting(explorer: Locator, name: str) -> str:
    return explorer.locator(f"[name={name}]").locator("xpath=../output").inner_text()


def handle(explorer: Locator, part: str) -> Locator:
    return explorer.locator(f"[data-part={part}] [role=slider]")


def slide(explorer: Locator, name: str, value: float) -> None:
    explorer.locator(f"input[name={name}]").fill(str(value))


def middle(locator: Locator) -> tuple[float, float]:
    box = locator.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def shows(explorer: Locator, gamma: float, alpha: float, ratio: float, p: float) -> None:
    """Assert that every value shown is the library's at this setting."""
    expected = by_the_library(gamma, alpha, ratio, p)
    shown = explorer.locator("dd").all()
    assert len(shown) >= 11
    for value in shown:
        name, text = value.get_attribute("data-name"), value.inner_text()
        exact = expected[str(name)]
        assert float(str(value.get_attribute("data-value"))) == pytest.approx(exact, rel=1e-6)
        if text.endswith("%"):
            assert abs(float(text[:-1]) - 100 * exact) < 0.051, name
        else:
            read = float(text.replace(",", "").replace(" × 10^", "e"))
            assert read == pytest.approx(exact, rel=6e-3), name
    assert setting(explorer, "gamma") == f"{gamma:g}"
    assert setting(explorer, "p") == f"{p:g}"
    for slider in explorer.locator("[role=slider]").all():
        assert float(str(slider.get_attribute("aria-valuenow"))) == pytest.approx(p)


def test_the_numbers_are_the_librarys(context: BrowserContext, strict: str) -> None:
    page = context.new_page()
    page.goto(strict + LANDING)
    names = ("gamma", "alpha", "ratio", "p")
    grid = list(itertools.product(GAMMAS, ALPHAS, RATIOS, PROBABILITIES))
    computed = page.evaluate(
        "states => states.map(window.focalCurves.values)",
        [dict(zip(names, settings, strict=True)) for settings in grid],
    )
    for settings, numbers in zip(grid, computed, strict=True):
        expected = by_the_library(*settings)
        assert numbers.keys() == expected.keys()
        for name, value in expected.items():
            # Less than nothing of a total: beyond the margins that are integrated.
            slack = 1e-12 if "CrossEntropy" in name or name.endswith("Focal") else 0
            wanted = pytest.approx(value, rel=1e-6, abs=slack)
            assert numbers[name] == wanted, (name, settings)


def test_moving_the_sliders_changes_what_is_read_out(context: BrowserContext, strict: str) -> None:
    page, explorer = opened(context, strict + LANDING)
    shows(explorer, **STATE)
    slide(explorer, "gamma", 3.3)
    shows(explorer, 3.3, 0, 1000, 0.9)
    slide(explorer, "alpha", 0.25)
    slide(explorer, "ratio", 2.5)
    slide(explorer, "p", 0.012)
    assert setting(explorer, "ratio") == "320 to 1"
    shows(explorer, 3.3, 0.25, 320, 0.012)
    explorer.locator("[name=reset]").click()
    shows(explorer, **STATE)
    gamma = explorer.locator("input[name=gamma]")
    gamma.focus()
    page.keyboard.press("ArrowRight")
    shows(explorer, 2.1, 0, 1000, 0.9)
    assert gamma.get_attribute("aria-valuetext") == "2.1"


CURVES = """board => [...board.querySelectorAll("path")].map(path => path.getAttribute("d"))"""


def test_the_point_is_dragged_with_the_mouse(context: BrowserContext, strict: str) -> None:
    page, shown = opened(context, strict + LANDING)
    for part in explorer.PARTS:
        shown.locator("[name=reset]").click()
        board, point = shown.locator(f"[data-part={part}] .explorer-board"), handle(shown, part)
        board.evaluate("board => board.scrollIntoView({block: 'center'})")
        page.wait_for_timeout(300)
        box = board.bounding_box()
        assert box
        width = box["width"] - 56  # of the axis: the margins are 46 and 10 pixels
        x, y = middle(point)
        assert x == pytest.approx(box["x"] + 46 + 0.9 * width, abs=1)
        page.mouse.move(x, y)
        page.mouse.down()
        for step in range(1, 6):
            page.mouse.move(x - step * width / 10, y + 3)
        page.mouse.up()
        p = float(setting(shown, "p"))
        assert p == pytest.approx(0.4, abs=0.01)
        shows(shown, 2, 0, 1000, p)
        page.wait_for_timeout(100)
        x, y = middle(point)
        assert x == pytest.approx(box["x"] + 46 + p * width, abs=1)

        before = board.evaluate(CURVES)
        page.mouse.click(box["x"] + 46 + 0.7 * width, box["y"] + 60)  # beside the point
        assert float(setting(shown, "p")) == pytest.approx(0.7, abs=0.005)
        slide(shown, "gamma", 4)
        page.wait_for_timeout(100)
        assert board.evaluate(CURVES) != before


def test_the_point_is_moved_with_the_keyboard(context: BrowserContext, strict: str) -> None:
    page, shown = opened(context, strict + LANDING)
    shown.locator("input[name=p]").focus()
    for part in explorer.PARTS:
        page.keyboard.press("Tab")
        point = handle(shown, part)
        assert point.evaluate("point => point === document.activeElement")
        assert point.evaluate("point => getComputedStyle(point).outlineStyle") == "solid"
        for key, p in (
            ("Home", 0.001),
            ("ArrowLeft", 0.001),
            ("End", 0.999),
            ("PageDown", 0.899),
            ("ArrowLeft", 0.889),
            ("ArrowDown", 0.879),
            ("ArrowRight", 0.889),
            ("ArrowUp", 0.899),
            ("Shift+ArrowRight", 0.9),
            ("PageUp", 0.999),
            ("PageDown", 0.899),
        ):
            page.keyboard.press(key)
            assert setting(shown, "p") == f"{p:g}"
        page.wait_for_timeout(100)
        shows(shown, 2, 0, 1000, 0.899)


def test_a_finger_moves_the_point_and_scrolls_the_page(browser: Browser, strict: str) -> None:
    with browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True) as context:
        page, explorer = opened(context, strict + LANDING)
        board = explorer.locator("[data-part=ratio] .explorer-board")
        board.evaluate("board => board.scrollIntoView({block: 'center'})")
        page.wait_for_timeout(300)
        box = board.bounding_box()
        assert box
        wire, width = context.new_cdp_session(page), box["width"] - 56

        def swipe(x: float, y: float, dx: float, dy: float) -> None:
            def send(kind: str, *points: dict[str, float]) -> None:
                wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [*points]})

            send("touchStart", {"x": x, "y": y})
            for step in range(1, 11):
                send("touchMove", {"x": x + step * dx / 10, "y": y + step * dy / 10})
                page.wait_for_timeout(20)
            send("touchEnd")
            page.wait_for_timeout(300)

        x, y = middle(handle(explorer, "ratio"))
        swipe(x + 12, y + 12, -0.4 * width, 0)  # the point is smaller than a finger
        p = float(setting(explorer, "p"))
        assert p == pytest.approx(0.5, abs=0.06)

        page.touchscreen.tap(box["x"] + 46 + 0.3 * width, box["y"] + 40)
        assert float(setting(explorer, "p")) == pytest.approx(0.3, abs=0.01)

        top = page.evaluate("scrollY")
        swipe(box["x"] + 46 + 0.8 * width, box["y"] + 150, 0, -120)
        assert page.evaluate("scrollY") > top + 50
        assert float(setting(explorer, "p")) == pytest.approx(0.3, abs=0.01)


# The address


def settings_of(url: str) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(url).query).items()}


def test_the_setting_is_kept_in_the_address(browser: Browser, strict: str) -> None:
    with browser.new_context(viewport=DESKTOP) as context:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page, explorer = opened(context, strict + LANDING + "?other=1")
        length = page.evaluate("history.length")
        slide(explorer, "gamma", 3.5)
        slide(explorer, "alpha", 0.75)
        slide(explorer, "ratio", 2)
        slide(explorer, "p", 0.35)
        wait_until(page, "() => location.search.includes('p=0.35')")
        asked = {"other": "1", "gamma": "3.5", "alpha": "0.75", "ratio": "100", "p": "0.35"}
        assert settings_of(page.url) == asked
        assert page.evaluate("history.length") == length
        explorer.locator("[name=copy]").click()
        explorer.locator("[role=status]", has_text="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.url and copied.endswith("#explorer")

        other, restored = opened(context, copied)
        shows(restored, 3.5, 0.75, 100, 0.35)
        assert restored.locator("input[name=ratio]").input_value() == "2"
        box = restored.bounding_box()
        assert box and 0 <= box["y"] < DESKTOP["height"]  # the link leads to it
        slide(restored, "alpha", 0)
        wait_until(other, "() => !location.search.includes('alpha')")


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("gamma=2&alpha=.25&ratio=1000&p=.9", {"alpha": 0.25}),
        ("gamma=0.37&ratio=512&p=.4321", {"gamma": 0.37, "ratio": 512, "p": 0.4321}),
        ("gamma=7&alpha=1&ratio=1e9&p=2", {"gamma": 5, "alpha": 0.99, "ratio": 1e4, "p": 0.999}),
        ("gamma=-1&alpha=-1&ratio=0&p=0", {"gamma": 0, "alpha": 0, "ratio": 1, "p": 0.001}),
        ("gamma=x&alpha=&ratio=NaN&p=Infinity", {}),
        ("gamma=<b>&p=1e-400", {"p": 0.001}),
    ],
)
def test_an_address_sets_it(
    context: BrowserContext, strict: str, query: str, state: dict[str, float]
) -> None:
    page = context.new_page()
    page.goto(f"{strict}{LANDING}?{query}")
    explorer = page.locator(".explorer")
    wanted = STATE | state
    for name, value in by_the_library(**wanted).items():
        if explorer.locator(f"dd[data-name='{name}']").count():
            assert number(explorer, name) == pytest.approx(value, rel=1e-6)
    assert setting(explorer, "ratio") == f"{wanted['ratio']:,.0f} to 1"


@pytest.mark.parametrize("fragment", ["%E0", "%", "expl%6Frer", "%E0explorer", "none"])
def test_whatever_place_an_address_names_the_explorer_moves(
    context: BrowserContext, strict: str, fragment: str
) -> None:
    """Also a place that is none, in bytes that are no text."""
    page = context.new_page()
    problems = watch(page, strict)
    page.goto(f"{strict}{LANDING}?gamma=3.5#{fragment}")
    explorer = page.locator(".explorer")
    explorer.scroll_into_view_if_needed()
    explorer.and_(page.locator(".explorer-moves")).wait_for(timeout=10_000)
    assert setting(explorer, "gamma") == "3.5" and problems == []


# How it is shown


@each_with_explorer
@each_look
def test_explorers_on_a_page(browser: Browser, address: str, page_path: str, look: str) -> None:
    device, scheme = LOOKS[look]
    with browser.new_context(**device, color_scheme=scheme) as context:
        page = context.new_page()
        problems = watch(page, address)
        page.goto(address + page_path)
        for found in page.locator(".explorer").all():
            found.scroll_into_view_if_needed()
            found.and_(page.locator(".explorer-moves")).wait_for()
        page.wait_for_timeout(300)
        assert not problems
        assert page.evaluate(OVERFLOWING) == []
        for explorer in page.locator(".explorer").all():
            panels = explorer.locator("[data-part]").count()
            assert explorer.locator(".explorer-board svg:visible").count() == panels
            assert explorer.locator(".explorer-static:visible").count() == 0
            for control in explorer.locator("input, button").all():
                box = control.bounding_box()
                assert box and box["height"] >= 44 and box["width"] >= 44
            for control in explorer.locator("input").all():
                label = page.locator(f"label[for='{control.get_attribute('id')}']")
                assert label.inner_text().strip()
            if device == TOUCH:
                lefts = {
                    round(box["x"])
                    for panel in explorer.locator("[data-part]").all()
                    if (box := panel.bounding_box())
                }
                assert len(lefts) == 1  # one column


def test_the_color_mode_changes_while_it_moves(browser: Browser, address: str) -> None:
    with browser.new_context(viewport=DESKTOP, color_scheme="light") as context:
        page, explorer = opened(context, address + LANDING)
        board = explorer.locator(".explorer-board").first

        def brightness_of_ink() -> float:
            """Of the axis labels, after what the style does to them."""
            filtered, ink = board.evaluate(
                """board => [getComputedStyle(board).filter,
                             getComputedStyle(board.querySelector("text")).fill]"""
            )
            level = sum(map(int, re.findall(r"\d+", ink)[:3])) / 765
            return 1 - level if "invert(1)" in filtered else level

        assert brightness_of_ink() < 0.1
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert brightness_of_ink() > 0.9
        slide(explorer, "gamma", 1)
        shows(explorer, 1, 0, 1000, 0.9)


def test_the_colors_are_the_books(context: BrowserContext, strict: str) -> None:
    _, shown = opened(context, strict + LANDING)
    for gamma in (0, 0.5, 1, 2, 3, 5):
        slide(shown, "gamma", gamma)
        key = shown.locator(".explorer-live path").nth(1)
        assert str(key.get_attribute("stroke")).upper() == gamma_style(gamma)["color"].upper()
    for gamma, color in explorer.COLORS.items():
        assert gamma_style(gamma)["color"] == color


def test_a_screen_reader_is_told_once_the_reader_rests(
    context: BrowserContext, strict: str
) -> None:
    page, explorer = opened(context, strict + LANDING)
    spoken = explorer.locator(".explorer-spoken[aria-live=polite]")
    assert spoken.inner_text() == ""
    page.evaluate(
        """() => {
          window.told = [];
          const spoken = document.querySelector(".explorer-spoken");
          new MutationObserver(() => window.told.push(spoken.textContent))
            .observe(spoken, {childList: true, characterData: true, subtree: true});
        }"""
    )
    page.evaluate(  # faster than a test that asks for each could be
        """async () => {
          const input = document.querySelector(".explorer input[name=gamma]");
          for (const gamma of [2.5, 3, 3.5, 4]) {
            input.value = gamma;
            input.dispatchEvent(new Event("input"));
            await new Promise(resolve => setTimeout(resolve, 30));
          }
        }"""
    )
    wait_until(page, "() => window.told.length > 0")
    page.wait_for_timeout(400)  # for what should not come
    [told] = page.evaluate("window.told")
    assert told.startswith("gamma 4, p 0.9: loss: cross entropy 0.1054, focal 1.05 × 10^-5; ")
    assert "10,000 times cheaper" in told


@pytest.mark.parametrize("scheme", ["light", "dark"])
@each_with_explorer
def test_without_javascript_there_is_a_figure(
    browser: Browser, strict: str, page_path: str, scheme: str
) -> None:
    with browser.new_context(
        viewport=PHONE, java_script_enabled=False, color_scheme=scheme
    ) as context:
        page = context.new_page()
        page.goto(strict + page_path)
        for found in page.locator(".explorer").all():
            panels = found.locator("[data-part]").all()
            for panel in panels:
                picture = panel.get_by_role("img")
                assert picture.is_visible()
                assert len(str(picture.get_attribute("aria-label"))) > 100
                assert picture.locator("g path").count() == len(explorer.GAMMAS)
            assert found.locator("input:visible, button:visible, dl:visible").count() == 0
            assert found.locator(".explorer-board:visible, .explorer-live:visible").count() == 0
            assert found.locator("noscript p").is_visible()
        assert page.evaluate(OVERFLOWING) == []


def test_in_print_there_is_the_figure(context: BrowserContext, strict: str) -> None:
    page, explorer = opened(context, strict + LANDING)
    page.emulate_media(media="print")
    assert explorer.get_by_role("img").count() >= 5
    for picture in explorer.locator(".explorer-static > svg").all():
        assert picture.is_visible()
    assert explorer.locator("input:visible, button:visible").count() == 0
    assert explorer.locator(".explorer-board:visible").count() == 0


# How it is loaded


def test_the_library_comes_when_the_explorer_is_near(browser: Browser, strict: str) -> None:
    with browser.new_context(viewport=PHONE) as context:
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(strict + LANDING)
        settle(page)
        assert not [url for url in asked if "jsxgraph" in url]
        page.locator(".explorer").scroll_into_view_if_needed()
        page.locator(".explorer-moves").wait_for()
        assert len([url for url in asked if "jsxgraph" in url]) == 1
        assert all(url.startswith((strict, "data:")) for url in asked)


def test_without_the_library_the_figure_stays(context: BrowserContext, strict: str) -> None:
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route("**/jsxgraphcore.js", lambda route: route.abort())
    page.goto(strict + LANDING)
    explorer = page.locator(".explorer")
    explorer.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    assert explorer.locator(".explorer-static > svg:visible").count() == 5
    slide(explorer, "gamma", 1)
    assert number(explorer, "ratio") == pytest.approx(10, rel=1e-6)
    assert errors == []


def test_it_keeps_a_strict_policy(context: BrowserContext, strict: str) -> None:
    """No evaluated text and no script in the page; what else the page has is not looked at here."""
    page = context.new_page()
    page.add_init_script(
        """window.broken = [];
        document.addEventListener("securitypolicyviolation", event => window.broken.push(
          {blocked: event.blockedURI, by: event.sourceFile, rule: event.effectiveDirective}));"""
    )
    page.goto(strict + LANDING)
    explorer = page.locator(".explorer")
    explorer.scroll_into_view_if_needed()
    page.locator(".explorer-moves").wait_for()
    for name, value in (("gamma", 5), ("alpha", 0.3), ("ratio", 1), ("p", 0.2)):
        slide(explorer, name, value)
    shows(explorer, 5, 0.3, 10, 0.2)
    handle(explorer, "score").press("ArrowRight")
    page.wait_for_timeout(500)
    ours = [
        broken
        for broken in page.evaluate("window.broken")
        if broken["blocked"] == "eval" or re.search("curves|explorer|jsxgraph", broken["by"] or "")
    ]
    assert ours == [], json.dumps(ours)
    soup = BeautifulSoup(HTML[LANDING], "html.parser").select_one(".explorer")
    assert soup and not soup.find("script")
    assert not [tag for tag in soup.find_all(True) if any(a.startswith("on") for a in tag.attrs)]


def test_the_margins_cover_the_population() -> None:
    """What is left out of the integrals is nothing beside their value."""
    for mean in (POPULATION["NEGATIVES"], POPULATION["POSITIVES"]):
        below = class_loss(5, mean, POPULATION["LEAST"])
        assert below < 1e-12 * class_loss(5, mean)
    assert expit(POPULATION["LARGEST"]) == pytest.approx(1)
