"""The printed book: the PDF that `make pdf` makes has all that the site has, with its numbers.

Where there is none the tests of it are skipped, and say why; with CI_PDF set they fail."""

import bisect
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from types import ModuleType
from typing import Any

import pytest
from book import ROOT, SITE, soup_of
from bs4 import BeautifulSoup
from cases import exhaustive

pytestmark = exhaustive  # `make audit` makes the PDF
PDF = ROOT / "_build" / "pdf" / "focal-notes.pdf"


def why_not() -> str:
    """Why the PDF cannot be tested, or nothing."""
    if not PDF.exists():
        return "there is no PDF: `make pdf` makes it, with LaTeX"
    command = ["make", "--question", str(PDF.relative_to(ROOT))]
    if subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode:
        return "the PDF is older than the book: `make pdf`"
    if shutil.which("pdftotext") is None:
        return "no pdftotext (Debian, Ubuntu: apt-get install poppler-utils)"
    return ""


@pytest.fixture(scope="module")
def reader() -> Any:
    reason = why_not()
    if reason and os.environ.get("CI_PDF"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    from pypdf import PdfReader  # which only these tests need

    return PdfReader(PDF)


def poppler(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# Without the running heads and the numbers of pages
BODY = ("-x", "0", "-y", "65", "-W", "596", "-H", "716")


def pages_by(*options: str) -> list[str]:
    return poppler("pdftotext", *BODY, *options, str(PDF), "-").split("\f")[:-1]


@pytest.fixture(scope="module")
def pages(reader: Any) -> list[str]:
    """The text of each page, its lines as they are seen."""
    return pages_by("-layout")


def squeezed(text: str) -> str:
    """A text without what a line's end changes: spaces and hyphens."""
    return re.sub(r"[\s\u00ad\u200b\u2010-]+", "", unicodedata.normalize("NFKC", text))


@pytest.fixture(scope="module")
def text_as_set(reader: Any) -> str:
    """All of it in the order in which it was set."""
    return "\n".join(pages_by("-raw"))


@pytest.fixture(scope="module")
def text(text_as_set: str) -> str:
    return squeezed(text_as_set)


def site_pages() -> list[str]:
    """The pages of the table of contents, in its order."""
    links = soup_of("intro.html").select("nav.bd-links a.reference.internal")
    return [str(link["href"]) for link in links if not str(link["href"]).startswith("#")]


def words_of(element: Any) -> str:
    """What an element of the site says, without links to itself and formulas."""
    copy = BeautifulSoup(str(element), "html.parser")
    for gone in copy.select(".headerlink, .section-number, .katex, button"):
        gone.replace_with("\0")
    return copy.get_text()


def longest_run(words: str) -> str:
    """The longest part of a text that no formula interrupts."""
    return max(words.split("\0"), key=len)


def is_in(run: str, text: str) -> bool:
    """Whether words stand in a text: in one piece, or in two that a page's end has parted, where a
    footnote or a figure may come between them."""
    known = bisect.bisect_left(range(1, len(run) + 1), True, key=lambda n: run[:n] not in text)
    return run[known:] in text


# What is in it


def test_the_pdf_is_made_for_reading(reader: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert reader.metadata.title == "Focal Loss: Executable Notes"
    assert reader.metadata.author == "The Focal Notes authors"
    assert reader.trailer["/Root"]["/Lang"] == "en"
    for page in reader.pages:
        assert [round(float(side)) for side in page.mediabox[2:]] == [595, 842]  # A4
    with capsys.disabled():
        print(f"\nthe PDF: {len(reader.pages)} pages, {PDF.stat().st_size / 1e6:.1f} MB")


def test_every_page_of_the_site_is_a_chapter(reader: Any, text: str) -> None:
    def titles(entries: list[Any]) -> list[str]:
        return [
            title
            for entry in entries
            for title in (titles(entry) if isinstance(entry, list) else [entry.title])
        ]

    bookmarks = [squeezed(title) for title in titles(reader.outline)]
    for page in site_pages():
        heading = soup_of(page).select_one("article h1")
        title = squeezed(longest_run(words_of(heading)))
        assert any(title in bookmark for bookmark in bookmarks), page
        assert title in text, page
    for caption in soup_of("intro.html").select("nav.bd-links .caption-text"):
        assert any(entry.endswith(squeezed(caption.get_text())) for entry in bookmarks)


def test_every_result_and_exercise_has_the_number_of_the_site(text: str) -> None:
    count = 0
    for page in site_pages():
        for box in soup_of(page).select("div.proof.admonition[id], div.exercise.admonition[id]"):
            title = box.select_one(".admonition-title")
            words = words_of(title).split("\0")[0]
            assert re.match(r"\s*(Definition|Proposition|Exercise) \d+\.\d+\s*\(", words), words
            assert squeezed(words) in text, words
            count += 1
    assert count > 100


def test_references_have_the_numbers_of_the_site(text_as_set: str) -> None:
    """Each number is named as often as on the site, or oftener: in print cells say what they check,
    and each part of the book has its list of contents."""
    named = re.compile(r"(Definition|Proposition|Exercise|Figure)\s+(\d+\.\d+)")
    printed = Counter(named.findall(text_as_set))
    on_site = Counter(
        name
        for page in site_pages()
        for name in named.findall(soup_of(page).select_one("article").get_text())
    )
    assert {name: count for name, count in on_site.items() if printed[name] < count} == {}


# The cell that installs is for notebooks, and is not printed.
FOLDS = "details.fold:not(.install)"


def test_proofs_and_solutions_are_unfolded(text: str) -> None:
    folds = [fold for page in site_pages() for fold in soup_of(page).select(FOLDS)]
    proofs = [fold for fold in folds if "proof" in fold["class"]]
    assert text.count("Proof.") >= len(proofs) > 50
    missing = []
    for fold in folds:
        paragraphs = [words_of(p) for p in fold.select(".fold-content > p, section > p")]
        run = squeezed(max(map(longest_run, paragraphs), key=len)) if paragraphs else ""
        if not is_in(run, text):
            missing.append(run)
    assert missing == []


def test_every_equation_has_the_number_of_the_site(pages: list[str]) -> None:
    printed = re.findall(r"\((\d+\.\d+)\) *$", "\n".join(pages), re.MULTILINE)
    for page in site_pages():
        for number in soup_of(page).select("span.eqno"):
            [digits] = re.findall(r"\d+\.\d+", number.get_text())
            assert digits in printed, f"{page}: {digits}"


def test_every_figure_is_drawn_above_its_caption(reader: Any, pages: list[str]) -> None:
    on_site = {
        re.sub(r"\s+", " ", caption.get_text()).strip()
        for page in site_pages()
        for caption in soup_of(page).select("figure .caption-number")
    }
    printed = set()
    for number, (page, words) in enumerate(zip(reader.pages, pages, strict=True), 1):
        captions = re.findall(r"^ *(Figure \d+\.\d+)\. ", words, re.MULTILINE)
        drawn = page["/Resources"].get("/XObject", {})
        assert len(drawn) >= len(captions), f"page {number}"
        printed |= {*captions}
    assert printed == on_site and printed


def test_every_table_is_printed(text: str) -> None:
    for page in site_pages():
        for cell in soup_of(page).select("article table td"):
            run = squeezed(longest_run(words_of(cell)))
            if not cell.find("a"):  # in the index links become pages
                assert run in text or len(run) > 20, f"{page}: {run}"


# What must not be in it


def test_no_reference_is_open(pages: list[str]) -> None:
    for number, page in enumerate(pages, 1):
        assert not re.search(r"\?\?|\[\?\]", page), f"page {number}"
        markup = r"\{(?:eq|ref|numref|doc|cite|prf:\w+)\}`|\$\$|`{3}\{|^ *:class:"
        assert not re.search(markup, page, re.MULTILINE), f"page {number}"


def test_no_page_is_blank(reader: Any, pages: list[str]) -> None:
    assert len(pages) == len(reader.pages)
    for number, (page, words) in enumerate(zip(reader.pages, pages, strict=True), 1):
        has_image = len(page["/Resources"].get("/XObject", {})) > 0
        assert has_image or len(squeezed(words)) > 40, f"page {number}"


def test_nothing_leaves_the_page(reader: Any) -> None:
    """Nor its margins: code and tables as wide as the text at most."""
    boxes = poppler("pdftotext", "-bbox", str(PDF), "-")
    word = r'<word xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)">(.*)</word>'
    wide = []
    for number, page in enumerate(boxes.split("<page ")[1:], 1):
        for left, top, right, bottom, text in re.findall(word, page):
            if float(left) < 70 or float(right) > 595.3 - 70:
                wide.append(f"page {number}: {text} from {left} to {right}")
            if float(top) < 20 or float(bottom) > 842 - 20:
                wide.append(f"page {number}: {text} from {top} to {bottom} of the height")
    assert wide == []


def test_links_lead_somewhere(reader: Any) -> None:
    places, inside = {*reader.named_destinations}, 0
    bad = []
    for number, page in enumerate(reader.pages, 1):
        for annotation in page.get("/Annots", ()):
            link = annotation.get_object()
            action = link.get("/A", {})
            if "/URI" in action:
                if not re.match(r"https://\w", str(action["/URI"])):
                    bad.append(f"page {number}: {action['/URI']}")
                continue
            place = link.get("/Dest") or action.get("/D")
            inside += 1
            if str(place) not in places:
                bad.append(f"page {number}: {place}")
    assert bad == [] and inside > 1000


# On the site


def test_the_site_links_to_the_pdf_if_it_has_it() -> None:
    there = (SITE / PDF.name).exists()
    for page in ["intro.html", "cite.html", *site_pages()]:
        links = soup_of(page).select(f"a[href$='{PDF.name}']")
        assert bool(links) == there, page
        assert not there or (SITE / page).parent.joinpath(str(links[0]["href"])).resolve() == (
            SITE / PDF.name
        ), page
    if there and not why_not():
        assert (SITE / PDF.name).read_bytes() == PDF.read_bytes()


# How it is made


@functools.cache
def pdf_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pdf_tool", ROOT / "tools" / "pdf.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("LaTeX Warning: Reference `eq' on page 3 undefined on input line 7.", 1),
        (
            "LaTeX Warning: Hyper reference `x:prop-y' on page 3 undefined on input line 7.",
            1,
        ),
        ("LaTeX Warning: Citation `x' on page 3 undefined on input line 7.", 1),
        ("LaTeX Warning: Label `x' multiply defined.", 1),
        ("Missing character: There is no → in font DejaVuSans!", 1),
        (r"Overfull \hbox (4.1pt too wide) in paragraph at lines 1--2", 1),
        (r"Overfull \hbox (3.9pt too wide) in paragraph at lines 1--2", 0),
        (r"Underfull \hbox (badness 10000) in paragraph at lines 1--2", 0),
    ],
)
def test_faults_in_latexs_log_are_found(line: str, found: int) -> None:
    assert len(pdf_tool().faults(f"before\n{line}\nafter\n")) == found


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert {"latexmk", "texlive-xetex", "librsvg2-bin"} <= {*pdf_tool().missing_packages()}
