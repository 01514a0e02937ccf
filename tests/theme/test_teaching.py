"""What teachers need: the page of all exercises, the folds and their control, and the page of ready
sequences, whose links, settings and commands must work."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import torch
import yaml
from anchors import listed_anchors
from book import ROOT, chapter_names, soup_of
from browser import CHAPTER_PAGES, DESKTOP, PAGES, PHONE, SOME_CHAPTERS, wait_until, watch
from bs4 import Tag
from focal_theme.teaching import DIFFICULTIES, LIST, exercises, need
from playwright.sync_api import Browser, Page

import focal_lib.torch
from focal_notes.wrong import WRONG, unnamed

ASKED = yaml.safe_load(LIST.read_text("utf-8"))
TEACH = (ROOT / "teach.md").read_text("utf-8")


# The exercises


def test_every_exercise_has_its_difficulty_and_what_it_needs() -> None:
    """In the order of the book, and for no exercise that does not exist."""
    labels = [
        label
        for name in chapter_names()
        for label in exercises(ROOT / "chapters" / f"{name}.ipynb")[1]
    ]
    assert [*ASKED] == labels and len(labels) >= 60
    published = {anchor.split("#")[1].removeprefix("equation-") for anchor in listed_anchors()}
    for label, entry in ASKED.items():
        assert [*entry] == ["difficulty", "needs"], label
        assert entry["difficulty"] in DIFFICULTIES, label
        assert entry["needs"], label
        for text in entry["needs"]:
            if need(text) != text:
                assert text in published, f"{label} needs {text}, which is not there"
    for difficulty in DIFFICULTIES:
        assert sum(entry["difficulty"] == difficulty for entry in ASKED.values()) >= 5


def test_the_page_has_them_all() -> None:
    rows = soup_of("exercises.html").select("table.exercises.table tbody tr")  # the theme's look
    assert len(rows) == len(ASKED)
    for row, (label, entry) in zip(rows, ASKED.items(), strict=True):
        exercise, title, difficulty, needs = row.find_all("td")
        [link] = exercise.find_all("a")
        assert re.fullmatch(r"Exercise \d+\.\d+", link.get_text()), link
        page, place = str(link["href"]).split("#")
        assert place == label
        at = soup_of(page).find(id=label)
        assert isinstance(at, Tag)
        heading = at.select_one(".admonition-title")
        assert heading and link.get_text() in heading.get_text()
        assert title.get_text(strip=True) and title.get_text(strip=True) in heading.get_text()
        assert difficulty.get_text(strip=True) == str(entry["difficulty"])
        labels = [text for text in entry["needs"] if need(text) != text]
        assert [
            str(a["href"]).split("#")[1].removeprefix("equation-") for a in needs.find_all("a")
        ] == labels


# The folds


def opened(page: Page, which: str) -> list[bool]:
    return page.locator(f"details.fold{which}").evaluate_all("all => all.map(e => e.open)")


@pytest.mark.parametrize("page_path", SOME_CHAPTERS)
def test_all_proofs_are_unfolded_and_folded_by_keyboard(
    browser: Browser, address: str, page_path: str
) -> None:
    with browser.new_context(viewport=PHONE) as context:
        page = context.new_page()
        problems = watch(page, address)
        page.goto(address + page_path)
        proofs, others = opened(page, ".proof"), opened(page, ":not(.proof)")
        assert proofs and not any(proofs + others)
        unfold = page.get_by_role("button", name="Unfold all proofs")
        fold = page.get_by_role("button", name="Fold all", exact=True)
        assert unfold.bounding_box()["y"] < PHONE["height"]  # at the top, in sight
        assert unfold.bounding_box()["height"] >= 24
        unfold.focus()
        page.keyboard.press("Enter")
        assert all(opened(page, ".proof")) and not any(opened(page, ":not(.proof)"))
        status = page.locator(".fold-controls").get_by_role("status")
        assert status.inner_text() == f"{len(proofs)} proofs are unfolded"
        page.locator("details.fold:not(.proof) > summary").first.click()
        page.keyboard.press("Tab")
        fold.focus()
        page.keyboard.press("Space")
        assert not any(opened(page, "")) and status.inner_text() == "All is folded"
        assert not problems


SEEN = """() => [...document.querySelectorAll(".fold-content")].filter(e =>
  e.checkVisibility({visibilityProperty: true, opacityProperty: true})
  && e.getBoundingClientRect().height > 5).length"""


@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("page_path", SOME_CHAPTERS)
def test_in_print_all_is_unfolded(
    browser: Browser, address: str, page_path: str, javascript: bool
) -> None:
    with browser.new_context(viewport=DESKTOP, java_script_enabled=javascript) as context:
        page = context.new_page()
        page.goto(address + page_path)
        page.emulate_media(media="print")
        folds = page.locator("details.fold:not(.install)").count()  # which is not printed
        assert folds and page.evaluate(SEEN) == folds
        assert not page.locator(".fold-controls").is_visible()


def test_a_print_unfolds_by_script_and_folds_again(browser: Browser, address: str) -> None:
    """For browsers that cannot by style. What the reader had opened stays open."""
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        page.goto(address + CHAPTER_PAGES[0])
        page.locator("details.fold > summary").nth(1).click()
        before = opened(page, "")
        assert before.count(True) == 1
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert all(opened(page, ""))
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert opened(page, "") == before


def test_the_control_is_where_folds_are() -> None:
    for page_path in PAGES:
        has_folds = bool(soup_of(page_path).select("details.fold"))
        scripts = [str(s["src"]) for s in soup_of(page_path).select("script[src]")]
        assert any("folds.js" in script for script in scripts) == has_folds, page_path


# The sequences


SETTINGS = re.findall(r'<a href="([^"]+)">', TEACH)


@pytest.mark.parametrize("link", SETTINGS)
def test_a_setting_is_what_the_explorer_shows(browser: Browser, address: str, link: str) -> None:
    link = link.replace("&amp;", "&")
    parts = urlsplit(link)
    with browser.new_context(viewport=DESKTOP) as context:
        page = context.new_page()
        problems = watch(page, address)
        page.goto(address + link)
        explorer = page.locator(f"#{parts.fragment}")
        wait_until(
            page,
            "id => document.querySelector(`#${id} .explorer-values`).textContent",
            parts.fragment,
        )
        for name, value in parse_qsl(parts.query):
            slider = explorer.locator(f"input[name={name}]")
            shown = float(slider.input_value())
            assert (10**shown if name == "ratio" else shown) == pytest.approx(float(value)), name
        assert not problems


def test_there_are_settings() -> None:
    assert len(SETTINGS) >= 5


def test_the_discounts_that_the_lecture_names(browser: Browser, address: str) -> None:
    said = re.findall(
        r'gamma=2&amp;p=([\d.]+)#explorer-ratio">[^<]+</a>, where (?:it|the discount) is (\d+)',
        TEACH,
    )
    assert said == [("0.5", "4"), ("0.9", "100")]
    for p, discount in said:
        assert (1 - float(p)) ** -2 == pytest.approx(float(discount))


def test_commands_and_files_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:^|`)make (\S+?)(?=[\s`])", TEACH, re.MULTILINE):
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    notebooks = re.findall(r"`(chapters/\w+\.ipynb)`", TEACH)
    assert notebooks and all((ROOT / name).is_file() for name in notebooks)
    for chapter, heading in (
        ("focal_loss", "On data"),
        ("field_guide", "A key"),
        ("dense_detection", "One run"),
        ("focal_loss", "What people get wrong"),
    ):
        assert f"*{heading}*" in TEACH
        source = (ROOT / "chapters" / f"{chapter}.md").read_text("utf-8")
        assert re.search(rf"^##+ {heading}$", source, re.MULTILINE)


def test_the_numbers_of_explorers_and_of_wrong_losses_are_those_that_are_there() -> None:
    words = {"two": 2, "three": 3}
    [said] = re.findall(r"\{doc\}`chapters/(\w+)` \| [^|]*move its (\w+) explorers", TEACH)
    assert len(soup_of(f"chapters/{said[0]}.html").select(".explorer")) == words[said[1]]
    [most] = re.findall(r"a number from 1 to (\d+)", TEACH)
    assert int(most) == len(WRONG)


def test_an_unnamed_loss_is_one_of_them_and_does_not_tell_which() -> None:
    x, y = torch.linspace(-3, 3, 7), torch.tensor([0.0, 1, 0, 1, 0, 1, 0])

    def values(loss: Any) -> list[float]:
        return [float(loss(x, y, (0.3, 0.7), gamma)) for gamma in (1.0, 2.0)]

    numbers = range(1, len(WRONG) + 1)
    assert sorted(map(values, map(unnamed, numbers))) == sorted(map(values, WRONG.values()))
    assert [*map(values, map(unnamed, numbers))] != [*map(values, WRONG.values())]
    for number in numbers:
        told = f"{unnamed(number)!r} {unnamed(number).__doc__} {unnamed(number).__qualname__}"
        assert not any(name in told for name in WRONG)
    for number in (0, len(WRONG) + 1):
        with pytest.raises(ValueError, match="number: from 1 to"):
            unnamed(number)


def test_the_first_version_is_focal_loss_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """As the lab says; and the library's passes."""
    [code] = re.findall(r"```python\n(.*?)```", TEACH, re.DOTALL)
    space: dict[str, object] = {}
    exec(code, space)
    x, y = torch.linspace(-3, 3, 7), torch.tensor([0.0, 1, 0, 1, 0, 1, 0])
    loss = focal_lib.torch.sigmoid_focal_loss
    assert torch.allclose(space["mine"](x, y, 2.0), loss(x, y, None, 2.0))  # type: ignore[operator]
    report = space["examine_loss"](space["mine"])  # type: ignore[operator]
    assert report.failed and "ordinary value" not in report.failed
    good = space["examine_loss"](lambda x, y, gamma: loss(x, y, None, gamma))  # type: ignore[operator]
    assert not good.failed
