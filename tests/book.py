"""What the tests of the chapters and of the site know about the book: where things are, and how to
read a chapter's source as a sequence of directives and code cells."""

import functools
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import nbformat
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
SITE = ROOT / "_build" / "html"


def toc_files() -> list[str]:
    """Every file of the table of contents, as it is written there."""

    def walk(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node[key] for key in ("root", "file") if key in node]
            return own + [name for value in node.values() for name in walk(value)]
        if isinstance(node, list):
            return [name for item in node for name in walk(item)]
        return []

    return walk(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8")))


def chapter_names() -> list[str]:
    return [Path(name).stem for name in toc_files() if name.startswith("chapters/")]


_BOXES = re.compile(r'<span class="katex-html" aria-hidden="true">')
_SPAN = re.compile(r"<(/?)span\b[^>]*>")
_MATHML = re.compile(r"(<math\b[^>]*>).*?(<annotation\b.*?</annotation>).*?(</math>)", re.DOTALL)
_CODE = re.compile(r"<pre>.*?</pre>", re.DOTALL)


def without_looks(html: str) -> str:
    """A page without the boxes of its formulas, their MathML, and the colors of its code: what is
    left, a quarter, is read in a quarter of the time. Formulas keep their TeX."""
    parts, end = [], 0
    for opening in _BOXES.finditer(html):
        parts.append(html[end : opening.end()])
        depth = 1
        for span in _SPAN.finditer(html, opening.end()):
            depth += -1 if span[1] else 1
            if depth == 0:
                end = span.start()
                break
    html = "".join([*parts, html[end:]])
    html = _MATHML.sub(r"\1\2\3", html)
    return _CODE.sub(lambda code: _SPAN.sub("", code[0]), html)


@functools.cache
def soup_of(page_path: str) -> BeautifulSoup:
    """A page of the site, to be read and not to be changed."""
    html = (SITE / page_path).read_text("utf-8")
    return BeautifulSoup(without_looks(html), "html.parser")


@dataclass
class Item:
    """A directive or a code cell, in the order of the source."""

    kind: str  # the directive's name, or "code"
    argument: str = ""
    label: str = ""
    tags: tuple[str, ...] = ()
    cell: nbformat.NotebookNode | None = field(default=None, repr=False)


_FENCE = re.compile(r"^ *(?:`{3,}|:{3,})\{([\w:-]+)\} *(.*)$")
_OPTION = re.compile(r"^ *:([\w-]+): *(.*)$")


def directives(markdown: str) -> list[Item]:
    """The directives of a text, nested ones after the one they are in."""
    items = []
    lines = markdown.split("\n")
    for number, line in enumerate(lines):
        if opening := _FENCE.match(line):
            item = Item(opening[1], opening[2].strip())
            for following in lines[number + 1 :]:
                option = _OPTION.match(following)
                if not option:
                    break
                if option[1] in ("label", "name"):
                    item.label = option[2].strip()
            items.append(item)
    return items


def items_of(notebook: nbformat.NotebookNode) -> list[Item]:
    items = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            items.append(Item("code", tags=tuple(cell.metadata.get("tags", [])), cell=cell))
        else:
            items += directives(cell.source)
    return items


def output_text(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, and its value as text."""
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        else:
            texts += [
                text if isinstance(text, str) else "".join(text)
                for kind, text in output.get("data", {}).items()
                if kind.startswith("text/")
            ]
    return "".join(texts)


# Numbers in the prose

_NOT_PROSE = [
    re.compile(r"^ *(`{3,}).*?^ *\1`* *$", re.DOTALL | re.MULTILINE),  # code; directives: see below
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"\{[\w:-]+\}`[^`]*`"),  # roles
    re.compile(r"`[^`]*`"),
    re.compile(r"\]\([^)]*\)"),  # the targets of links
    re.compile(r"https?://\S+"),
    re.compile(r"^ *:[\w-]+: .*$", re.MULTILINE),  # the options of directives
    re.compile(r"\\\\\[[^]]*\]"),  # the space between two lines of a formula
]
_NUMBER = re.compile(r"(?<![\w.])(\d+\.\d+|\.\d+|\d+)((?: |\\,|~)?\\?%)?(?!\w|\.\d)")
_TOKEN = re.compile(r"\d+\.\d+|\.\d+|\d+\.?")


def _unfence_directives(markdown: str) -> str:
    """Take the fences of directives away, and leave those of code."""
    lines = []
    open_fences: list[tuple[str, bool]] = []
    for line in markdown.split("\n"):
        fence = re.match(r"^ *(`{3,}|:{3,})(.*)$", line)
        if fence and not fence[2].strip() and open_fences and fence[1] == open_fences[-1][0]:
            _, is_directive = open_fences.pop()
            lines.append("" if is_directive else line)
        elif fence and fence[2].strip():
            is_directive = fence[2].lstrip().startswith("{") or fence[1].startswith(":")
            open_fences.append((fence[1], is_directive))
            lines.append(re.sub(r"^\s*\{[\w:-]+\}", "", fence[2]) if is_directive else line)
        else:
            lines.append(line)
    return "\n".join(lines)


def quoted_numbers(markdown: str) -> list[tuple[Decimal, bool, str]]:
    """The decimal numbers and percentages of a text: value, whether in percent, and paragraph.

    Whole numbers are not among them, nor is what stands in code, or in a paragraph that cites.
    """
    numbers = []
    for paragraph in re.split(r"\n\s*\n", _unfence_directives(markdown)):
        if "{cite" in paragraph:
            continue
        text = paragraph
        for pattern in _NOT_PROSE:
            text = pattern.sub(" ", text)
        for number, percent in _NUMBER.findall(text):
            if percent or "." in number:
                numbers.append((Decimal(number), bool(percent), " ".join(paragraph.split())))
    return numbers


def unprinted_numbers(markdown: str, code: str) -> list[str]:
    """The numbers quoted in a text that occur in no code and no output, with their paragraphs."""
    known = {Decimal(token.rstrip(".") or 0) for token in _TOKEN.findall(code)}
    percents = {Decimal(n) for n in re.findall(r"(\d+\.\d+|\.\d+|\d+) ?%", code)}
    missing = []
    for value, percent, paragraph in quoted_numbers(markdown):
        if value not in percents and value / 100 not in known if percent else value not in known:
            missing.append(f"{value}{'%' if percent else ''} in: {paragraph[:100]}")
    return missing
