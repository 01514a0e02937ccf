"""The book in print: what LaTeX makes of it. Its numbers are those of the site.

Nothing is folded there, and no link is the only way to learn something: the index of results, say,
has pages where the site's has links. How it all looks is in theme/focal.sty."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar, cast

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.builders.latex import LaTeXBuilder
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.transforms.post_transforms.images import ImageConverter
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import clean_astext
from sphinx.writers.latex import LaTeXTranslator

from focal_theme import explorer
from focal_theme.citing import facts
from focal_theme.folds import fold

# What the landing page is called where the title page has the book's title.
PREFACE = "About these notes"

# In characters of a table's text: the width of a page, in its letters and in those for tables of
# more than five columns, and the gap beside a column.
TABLE_WIDTH, SMALL_TABLE_WIDTH, COLUMN_GAP = 104, 117, 3

NO_BREAK = "\N{NO-BREAK SPACE}"

# The font of the text has no Greek letters: that of its formulas has, and so has that of code.
GREEK = re.compile("[α-ωΓΔΘΛΞΠΣΦΨΩ]")

# What has a box of its own; every other admonition is set like a note.
BOXES = {"proposition", "definition", "exercise", "warning"}


def set_up_latex(app: Sphinx, config: Config) -> None:
    config.latex_docclass = {"manual": "book"}
    config.latex_additional_files = ["theme/focal.sty"]
    config.latex_domain_indices = False
    config.latex_show_urls = "footnote"
    config.latex_table_style = ["booktabs"]
    config.latex_elements = {
        "papersize": "a4paper",
        "pointsize": "10pt",
        "extraclassoptions": "oneside,openany",
        "polyglossia": "",
        "babel": r"\usepackage{babel}",
        "fontpkg": "",
        "fncychap": "",
        "fvset": "",
        "figure_align": "!htbp",
        "maketitle": title_page(config),
        "tableofcontents": r"\focalcontents",
        "makeindex": "",
        "printindex": "",
        "preamble": r"\usepackage{focal}",
    }
    # A figure is drawn by its vectors.
    config.nb_mime_priority_overrides = [
        *config.nb_mime_priority_overrides,
        ("latex", "image/svg+xml", 1),
        ("latex", "text/html", 2),  # see CellTables
    ]


def title_page(config: Config) -> str:
    """The title page's LaTeX: under the title what the book is, at the foot its version."""
    what = "Cross entropy, balanced cross entropy, focal loss and its multi-class extension, each "
    what += "derived, proved and checked by code that runs"
    foot = [f"Version {facts()['version']}, {config.copyright}."]
    if config.html_baseurl:
        foot.append(rf"On the web: \url{{{config.html_baseurl}}}.")
    foot.append("Text and figures: CC BY 4.0. Code: BSD 3-Clause.")
    return rf"\focaltitlepage{{{what}}}{{{' '.join(foot)}}}"


def set_up_builder(app: Sphinx) -> None:
    """The translator, and colors of code dark enough for print; the site has the theme's."""
    if isinstance(app.builder, LaTeXBuilder):
        app.set_translator("latex", PrintedTranslator)
        app.config.pygments_style = "vs"


class FigureConverter(ImageConverter):
    """Figures come as SVG, and LaTeX takes PDF."""

    conversion_rules: ClassVar = [("image/svg+xml", "application/pdf")]

    def is_available(self) -> bool:
        if shutil.which("rsvg-convert") is None:
            raise ExtensionError("rsvg-convert is needed (Debian, Ubuntu: librsvg2-bin)")
        return True

    def convert(self, _from: str, _to: str) -> bool:
        as_pdf(Path(_from), Path(_to))
        return True


def as_pdf(svg: Path, pdf: Path) -> None:
    subprocess.run(["rsvg-convert", "--format", "pdf", "--output", pdf, svg], check=True)


class CellTables(SphinxPostTransform):
    """Tables that cells show in HTML are set as tables."""

    default_priority = 380  # before the next
    builders = ("latex",)

    def run(self, **kwargs: Any) -> None:
        for raw in list(self.document.findall(nodes.raw)):
            if raw["format"] == "html":
                table = BeautifulSoup(raw.astext(), "html.parser").table
                if table:
                    raw.replace_self(table_of(table))


def table_of(html: Tag) -> nodes.table:
    rows = html.find_all("tr")
    columns = max(len(row.find_all(["td", "th"])) for row in rows)
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in range(columns)), cols=columns)
    head, body = nodes.thead(), nodes.tbody()
    for row in rows:
        cells = (
            nodes.entry("", nodes.paragraph("", "", *words_of(cell)))
            for cell in row.find_all(["td", "th"])
        )
        part = head if row.find_parent("thead") else body
        part += nodes.row("", *cells)
    group += [part for part in (head, body) if part.children]
    return nodes.table("", group)


def words_of(html: Tag) -> list[nodes.Node]:
    """The text, code and links in a piece of HTML."""
    words: list[nodes.Node] = []
    for child in html.children:
        if not isinstance(child, Tag):
            words.append(nodes.Text(str(child)))
        elif child.name == "code":
            words.append(nodes.literal("", child.get_text()))
        elif child.name == "a":
            words.append(nodes.reference("", "", *words_of(child), refuri=str(child["href"])))
        else:
            words += words_of(child)
    return words


class KeepDois(SphinxPostTransform):
    """An address is told in a footnote, except where the words of the link tell it."""

    default_priority = 390  # before Sphinx adds the footnotes
    builders = ("latex",)

    def run(self, **kwargs: Any) -> None:
        for link in self.document.findall(nodes.reference):
            if link.astext().startswith("doi:"):
                link["doi"] = link.attributes.pop("refuri")


# What the tree has for print alone


class block(nodes.General, nodes.Element):  # noqa: N801 (docutils names nodes so)
    """A statement, proof, exercise, solution or remark; its first child is its heading."""


class block_head(nodes.General, nodes.TextElement):  # noqa: N801
    """The heading of a block; it has its place in the paragraph that follows if `run_in` is set."""


class check_line(nodes.General, nodes.TextElement):  # noqa: N801
    """What a cell checks."""


class panels(nodes.General, nodes.Element):  # noqa: N801
    """The parts of an explorer as they are before they are moved."""


class pages_of(nodes.Inline, nodes.TextElement):  # noqa: N801
    """The pages that targets are on."""


def adopt(node: nodes.Element) -> None:
    """Tell all nodes their parents, which some extensions move them away from."""
    for child in node.children:
        child.parent = node
        if isinstance(child, nodes.Element):
            adopt(child)


def prepare(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Make of the whole book, all pages in one tree, the tree that is printed."""
    if not isinstance(app.builder, LaTeXBuilder):
        return
    adopt(doctree)
    for link in doctree.findall(nodes.reference):
        if "doi" in link:
            link["refuri"] = link.attributes.pop("doi")
    add_parts(app, doctree)
    for link in list(doctree.findall(addnodes.number_reference)):
        keep_number(link)
    for grid in list(doctree.findall(is_grid)):
        grid.replace_self(listed_cards(grid))
    for node in list(doctree.findall(is_boxed)):
        node.replace_self(as_block(app, node))
    for node in list(doctree.findall(explorer.explorer)):
        for part in node["parts"]:
            draw(part, Path(app.builder.outdir))
        said = nodes.paragraph("", "On the site these curves can be moved.")
        node.replace_self([panels(parts=node["parts"]), *node.children, said])
    for cell in list(doctree.findall(is_cell)):
        prepare_cell(app, cast(nodes.Element, cell))
    for table in list(doctree.findall(nodes.table)):
        if "results" in table["classes"]:
            add_pages(table, 0, 2)
        if "exercises" in table["classes"]:
            add_pages(table, 0)
        set_widths(table)


def add_parts(app: Sphinx, doctree: nodes.document) -> None:
    """The parts of the table of contents, and a heading for what the landing page says."""
    [book] = [node for node in doctree.children if isinstance(node, nodes.section)]
    captions = [
        toctree.get("caption")
        for toctree in app.env.get_doctree(app.config.root_doc).findall(addnodes.toctree)
    ]
    wrappers = [n for n in book.findall(nodes.compound) if "toctree-wrapper" in n["classes"]]
    for caption, wrapper in zip(captions, wrappers, strict=True):
        wrapper["part"] = caption or ""
    book.insert(1, nodes.raw("", rf"\focalunnumbered\chapter{{{PREFACE}}}", format="latex"))


def draw(part: str, folder: Path) -> None:
    """One part of an explorer as a PDF, with the letters of the book's figures."""
    style = "text { font: 11px 'DejaVu Sans' } .explorer-grid { stroke: #ccc; stroke-width: .6 }"
    size = f'xmlns="http://www.w3.org/2000/svg" width="{explorer.WIDTH}" height="{explorer.HEIGHT}"'
    tag, rest = explorer.figure(part).split(">", 1)
    svg = folder / f"explorer-{part}.svg"
    svg.write_text(f"{tag.replace('<svg', f'<svg {size}')}><style>{style}</style>{rest}", "utf-8")
    as_pdf(svg, svg.with_suffix(".pdf"))
    svg.unlink()


def is_boxed(node: nodes.Node) -> bool:
    """An admonition or a fold; the description of a function is the one only to docutils."""
    return isinstance(node, nodes.Admonition | fold) and not isinstance(node, addnodes.desc)


def is_grid(node: nodes.Node) -> bool:
    return getattr(node, "attributes", {}).get("design_component") == "grid-container"


def is_cell(node: nodes.Node) -> bool:
    return getattr(node, "attributes", {}).get("nb_element") == "cell_code"


def listed_cards(grid: nodes.Element) -> nodes.Element:
    """The cards of a grid, as a list of terms with their descriptions."""
    listed = nodes.definition_list()
    for body in grid.findall(lambda n: has_component(n, "card-body")):
        term, described = nodes.term(), nodes.definition()
        for child in cast(nodes.Element, body).children:
            if has_component(child, "card-title"):
                term += [part for line in child.children for part in line.children]
            else:
                described += child
        listed += nodes.definition_list_item("", term, described)
    return listed


def has_component(node: nodes.Node, name: str) -> bool:
    return getattr(node, "attributes", {}).get("design_component") == name


def as_block(app: Sphinx, node: nodes.Element) -> block:
    """A block of what the site has as an admonition or behind a fold."""
    classes = node["classes"]
    kind = next((name for name in classes if name in BOXES), "note")
    head, body = node[0], node.children[1:]
    words: list[nodes.Node] = []
    if isinstance(node, fold):
        kind = next((name for name in ("proof", "solution") if name in classes), "note")
        words = head.children
    elif "proof" in classes and "label" in node:
        words = [nodes.strong("", name_of(app, node["label"])), *head.children]
    else:
        words = [nodes.strong("", "", *head.children)]
    made = block(kind=kind, ids=node["ids"], label=node.get("label", ""))
    made += block_head("", "", *words, run_in=kind == "proof")
    # The extensions for proofs and exercises have their content in a section.
    for child in body:
        made += child.children if isinstance(child, nodes.section) else child
    if kind == "proof":
        last = made[-1]
        if not isinstance(last, nodes.paragraph):
            made += (last := nodes.paragraph())
        last += nodes.raw("", r"\focalqed", format="latex")
    return made


def prepare_cell(app: Sphinx, cell: nodes.Element) -> None:
    """Say what a cell checks. What runs, or awaits an answer, in a notebook alone is left out."""
    tags = cell["cell_metadata"].get("tags", [])
    if "setup-install" in tags:
        cell.parent.remove(cell)
    if "exercise" in tags:
        cell.children = [n for n in cell if n.get("nb_element") != "cell_code_output"]
    checked = [label for label in tags if label in app.env.proof_list] if "check" in tags else []
    if checked:
        line = check_line()
        for label in checked:
            if line.children:
                line += nodes.Text(", ")
            page = app.env.proof_list[label]["docname"]
            link = nodes.reference("", "", internal=True, refuri=f"%{page}#{label}")
            link += nodes.Text(name_of(app, label))
            line += link
        cell.insert(0, line)


def name_of(app: Sphinx, label: str) -> str:
    """What sphinx-proof calls a result on the site, as in "Proposition 3.2"."""
    known = app.env.proof_list[label]
    number = app.env.toc_fignumbers[known["docname"]][known["countertype"]][label]
    return f"{known['realtype'].title()} {'.'.join(map(str, number))}"


def keep_number(link: addnodes.number_reference) -> None:
    """Give a reference the number of the site, which its words have: LaTeX counts no exercises."""
    place = {name: link[name] for name in ("refid", "refuri") if name in link}
    link.replace_self(nodes.reference("", link.astext(), internal=True, **place))


def add_pages(table: nodes.table, named: int, *others: int) -> None:
    """In an index: the page of what the first of the columns names, and pages for other links."""
    for row in table.findall(nodes.row):
        for column in (named, *others):
            links = list(row[column].findall(nodes.reference))
            if not links:
                continue
            targets = [link["refuri"].removeprefix("%").replace("#", ":") for link in links]
            if column in others:
                links[0].parent.children = [pages_of(targets=targets)]
                continue
            for words in list(links[0].findall(nodes.Text)):  # kept on one line
                words.parent.replace(words, nodes.Text(words.replace(" ", NO_BREAK)))
            links[0].parent += [nodes.Text(f",{NO_BREAK}"), pages_of(targets=targets)]


def set_widths(table: nodes.table) -> None:
    """Share the page's width among a table's columns by what they hold; long tables are broken."""
    [group] = [node for node in table.children if isinstance(node, nodes.tgroup)]
    for paragraph in list(table.findall(nodes.paragraph)):
        if not paragraph.children:  # an empty line
            paragraph.parent.remove(paragraph)
    rows = list(group.findall(nodes.row))
    columns = list(zip(*(row.children for row in rows), strict=True))
    columns_of_lengths = [[printed_length(entry) for entry in column] for column in columns]
    longest = [max(whole for _, whole in column) + 1 for column in columns_of_lengths]
    small = len(columns) > 5
    line = SMALL_TABLE_WIDTH if small else TABLE_WIDTH
    room = line - COLUMN_GAP * len(columns)
    if sum(longest) <= room:
        spec = "l" * len(columns)
    else:
        spec = "".join(
            rf">{{\raggedright\arraybackslash}}\Y{{{(width + COLUMN_GAP) / line:.3f}}}"
            for width in shared(room, columns_of_lengths)
        )
    place = table.parent.index(table)
    table.parent.insert(place, addnodes.tabular_col_spec(spec=spec))
    if small:
        table.parent.insert(place, nodes.raw("", r"\focalsmalltable", format="latex"))
    if len(rows) > 12:
        table["classes"].append("longtable")


def shared(room: float, columns: list[list[tuple[float, float]]]) -> list[float]:
    """Widths with which the rows, of the lengths in the columns, are about as low as can be."""
    widths = [max(word for word, _ in column) + 2.5 for column in columns]
    if sum(widths) >= room:
        return [width * room / sum(widths) for width in widths]

    def height() -> float:
        return sum(
            max(max(length / width, 1) for (_, length), width in zip(row, widths, strict=True))
            for row in zip(*columns, strict=True)
        )

    def height_with_more(i: int) -> float:
        widths[i] += 1
        try:
            return height()
        finally:
            widths[i] -= 1

    for _ in range(int(room - sum(widths))):
        widths[min(range(len(widths)), key=height_with_more)] += 1
    return widths


def printed_length(entry: nodes.Element) -> tuple[float, float]:
    """About how many characters wide the longest word of a cell is, and the whole cell."""
    text = printed_text(entry)
    return max(len(word) for word in re.split("(?<=-)| |\n", text)), len(text)


def printed_text(node: nodes.Node) -> str:
    """The text of a cell, with about as many characters for its formulas as they are wide."""
    if isinstance(node, nodes.math):
        return re.sub(r"\\[a-zA-Z]+|[{}^_\\ ]", "x", node.astext()).replace("xx", "x")
    if isinstance(node, pages_of):
        return f"p.000,{NO_BREAK}000" if len(node["targets"]) > 1 else "p.000"
    if isinstance(node, nodes.literal):  # may be broken after these
        return re.sub(r"([_.(,])", r"\1 ", node.astext())
    if isinstance(node, nodes.footnote):
        return ""
    if isinstance(node, nodes.Text):
        return str(node)
    return "".join(map(printed_text, node.children))


def dash_pattern(gamma: float) -> str:
    widths = explorer.DASHES.get(gamma, ())
    return " ".join(f"{'off' if i % 2 else 'on'} {1.2 * w:g}pt" for i, w in enumerate(widths))


# What LaTeX is written for it


class PrintedTranslator(LaTeXTranslator):
    """Sphinx's translator, with the numbers of the site and the book's own blocks."""

    def unknown_visit(self, node: nodes.Node) -> None:
        """What only the site knows is printed by what it holds."""

    def unknown_departure(self, node: nodes.Node) -> None:
        pass

    # Parts and chapters

    def visit_compound(self, node: nodes.Element) -> None:
        if node.get("part"):
            files = list(node.findall(addnodes.start_of_file))
            numbered = any(self.number(file["docname"]) for file in files)
            part = "focalpart" if numbered else "focalbackmatter"
            self.body.append(f"\\{part}{{{self.encode(node['part'])}}}\n")
            for file in files:
                self.body.append(self.announcement(file["docname"]))

    def number(self, docname: str) -> str:
        """The number of a chapter on the site, or nothing."""
        return ".".join(map(str, self.builder.env.toc_secnumbers.get(docname, {}).get("", ())))

    def announcement(self, docname: str) -> str:
        """A chapter's line on the page of its part."""
        title = self.encode(clean_astext(self.builder.env.titles[docname]))
        about = " ".join(self.config.focal_descriptions.get(docname, "").split())
        about, target = self.encode(about), self.idescape(f"{docname}::doc")
        return f"\\focalannounce{{{self.number(docname)}}}{{{title}}}{{{about}}}{{{target}}}\n"

    def visit_start_of_file(self, node: nodes.Element) -> None:
        super().visit_start_of_file(node)
        number = self.number(node["docname"])
        self.body.append(rf"\focalnumbered{{{number}}}" if number else r"\focalunnumbered")

    # Blocks

    def visit_block(self, node: nodes.Element) -> None:
        self.body.append(f"\n\\begin{{focal{node['kind']}}}\n")
        self.body += [self.hypertarget(name) for name in node["ids"]]
        if node["kind"] == "exercise":  # where sphinx-exercise's references lead
            self.body.append(self.hypertarget(f"exercise:{node['label']}", withdoc=False))
        self.no_latex_floats += 1

    def depart_block(self, node: nodes.Element) -> None:
        self.no_latex_floats -= 1
        self.body.append(f"\n\\end{{focal{node['kind']}}}\n")

    def visit_block_head(self, node: nodes.Element) -> None:
        self.body.append(r"\focalrunin{" if node["run_in"] else r"\focalhead{")

    def depart_block_head(self, node: nodes.Element) -> None:
        self.body.append("}\n")

    def visit_check_line(self, node: nodes.Element) -> None:
        self.body.append("\n\\focalcheck{")

    def depart_check_line(self, node: nodes.Element) -> None:
        self.body.append("}\n")

    def visit_panels(self, node: nodes.Element) -> None:
        keys = [
            rf"\focalkey{{{explorer.COLORS[gamma][1:]}}}{{{dash_pattern(gamma)}}}{{{gamma:g}}}"
            for gamma in explorer.GAMMAS
        ]
        made = [
            rf"\focalpanel{{explorer-{name}}}{{{self.marked_up(explorer.PARTS[name].title)}}}"
            rf"{{{self.marked_up(explorer.PARTS[name].axis)}}}"
            for name in node["parts"]
        ]
        self.body.append("\n\n" + rf"\focalpanels{{{''.join(keys)}}}{{{' '.join(made)}}}" + "\n\n")
        raise nodes.SkipNode

    def marked_up(self, text: str) -> str:
        """An explorer's little HTML in TeX."""
        tags = {"<i>": r"\textit{", "<sub>": r"\textsubscript{", "</i>": "}", "</sub>": "}"}
        return "".join(tags.get(t) or self.encode(t) for t in re.split("(<[^>]+>)", text) if t)

    def visit_pages_of(self, node: nodes.Element) -> None:
        targets = ",".join(self.idescape(target) for target in node["targets"])
        self.body.append(rf"\focalpages{{{targets}}}")
        raise nodes.SkipNode

    def visit_paragraph(self, node: nodes.Element) -> None:
        before = node.previous_sibling()
        if isinstance(before, block_head) and before["run_in"]:
            return
        super().visit_paragraph(node)

    # Cells

    cell_parts: ClassVar = {"cell_code_source": "focalinput", "cell_code_output": "focaloutput"}

    def visit_container(self, node: nodes.Element) -> None:
        self.body += [self.hypertarget(name) for name in node["ids"]]
        if kind := self.cell_parts.get(node.get("nb_element")):
            self.body.append(f"\n\\begin{{{kind}}}\n")

    def depart_container(self, node: nodes.Element) -> None:
        if kind := self.cell_parts.get(node.get("nb_element")):
            self.body.append(f"\n\\end{{{kind}}}\n")

    # Figures and tables

    def visit_caption(self, node: nodes.Element) -> None:
        super().visit_caption(node)
        if self.body[-1] == r"\caption{":  # there is no list of figures to copy it to
            self.body[-1] = r"\caption[]{"

    def depart_table(self, node: nodes.Element) -> None:
        super().depart_table(node)
        # Tables have no numbers, on the site neither; space tells their rows apart.
        self.body[-2:] = [
            text.replace(r"\tablename\ \thetable{} \textendash{} ", "").replace(
                r"\sphinxhline", r"\addlinespace[2.5pt]"
            )
            for text in self.body[-2:]
        ]

    # Words

    def visit_math(self, node: nodes.Element) -> None:
        if self.in_title:  # in the list of contents beside the pages it is plain text
            plain = re.sub(r"[\\{}$^_ ]", "", node.astext())
            tex = rf"\protect\({node.astext()}\protect\)"
            self.body.append(rf"\texorpdfstring{{{tex}}}{{{plain}}}")
            raise nodes.SkipNode
        super().visit_math(node)

    def visit_inline(self, node: nodes.Element) -> None:
        """Classes are the site's: here they would only upset captions."""

    def depart_inline(self, node: nodes.Element) -> None:
        pass

    def visit_literal(self, node: nodes.Element) -> None:
        super().visit_literal(node)
        self.in_inline_code = True

    def depart_literal(self, node: nodes.Element) -> None:
        super().depart_literal(node)
        self.in_inline_code = False

    in_inline_code = False

    def encode(self, text: str) -> str:
        text = super().encode(text)
        if not self.in_inline_code:
            return GREEK.sub(r"\\texorpdfstring{\\(\g<0>\\)}{\g<0>}", text)
        if self.in_title:
            return text
        return text.replace(r"\_", r"\_\allowbreak{}").replace("(", r"(\allowbreak{}")


# On the site: the PDF that BOOK_PDF names, if it names one, and links to it


def pdf() -> Path | None:
    """The PDF that the site offers. Makefile names it where it was made from the same sources."""
    named = os.environ.get("BOOK_PDF", "").strip()
    return Path(named) if named else None


class PrintedBook(SphinxDirective):
    """``printed-book``: a line with a link to the PDF, on a site that has it."""

    def run(self) -> list[nodes.Node]:
        file = pdf()
        if file is None:
            return []
        up = "../" * self.env.docname.count("/")
        size = file.stat().st_size / 1e6
        line = nodes.paragraph("", "The whole book in print: ", classes=["printed-book"])
        line += nodes.reference("", file.name, refuri=f"{up}{file.name}", internal=True)
        line += nodes.Text(f" ({size:.1f} MB).")
        # In print it would send readers to what they hold.
        shown = addnodes.only(expr="html")
        shown += line
        return [shown]


def add_button(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """The PDF in each page's menu of downloads, beside the theme's way to print the page."""
    file = pdf()
    for menu in context.get("header_buttons", ()):
        if file and menu.get("label") == "download-buttons":
            menu["buttons"].append(
                {
                    "type": "link",
                    "url": context["pathto"](file.name, 1),
                    "text": ".pdf of the book",
                    "icon": "fas fa-file-pdf",
                    "tooltip": "Download the whole book in print",
                    "label": "download-book-button",
                }
            )


def copy_pdf(app: Sphinx, exception: Exception | None) -> None:
    file = pdf()
    if file and not exception and app.builder.format == "html":
        shutil.copyfile(file, Path(app.outdir) / file.name)


def setup(app: Sphinx) -> None:
    for name in (block, block_head, check_line, panels, pages_of):
        app.add_node(name)
    app.add_post_transform(FigureConverter)
    app.add_post_transform(CellTables)
    app.add_post_transform(KeepDois)
    app.connect("config-inited", set_up_latex)
    app.connect("builder-inited", set_up_builder)
    app.connect("doctree-resolved", prepare, priority=900)
    app.add_directive("printed-book", PrintedBook)
    app.connect("html-page-context", add_button, priority=900)  # after the theme's own
    app.connect("build-finished", copy_pdf)
