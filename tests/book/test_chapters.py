"""What is true of every chapter: its two files agree, it was executed, each claim has its proof and
its check, each figure its words, each exercise its answer and solution, each number its cell."""

import os
import re
import subprocess
from functools import cache

import nbformat
import pytest
from book import (
    CHAPTERS,
    ROOT,
    Item,
    chapter_names,
    items_of,
    output_text,
    quoted_numbers,
    toc_files,
    unprinted_numbers,
)
from book import directives as directives_of

from focal_notes.exercises import INVITATION, all_answers
from tools.notebooks import read_source

NAMES = chapter_names()
each_chapter = pytest.mark.parametrize("name", NAMES)


@cache
def notebook(name: str) -> nbformat.NotebookNode:
    return nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)


@cache
def items(name: str) -> list[Item]:
    return items_of(notebook(name))


def labelled(name: str, kind: str) -> list[Item]:
    return [item for item in items(name) if item.kind == kind]


def code_cells(name: str, *tags: str) -> list[nbformat.NotebookNode]:
    return [item.cell for item in items(name) if item.kind == "code" and {*tags} <= {*item.tags}]


# The files


def test_every_chapter_is_in_the_table_of_contents() -> None:
    assert NAMES, "no chapter in _toc.yml"
    assert len(NAMES) == len(set(NAMES))
    for suffix in ("md", "ipynb"):
        assert sorted(path.stem for path in CHAPTERS.glob(f"*.{suffix}")) == sorted(NAMES)
    assert {f"chapters/{name}.ipynb" for name in NAMES} <= set(toc_files())


def test_make_test_runs_every_notebook() -> None:
    printed = subprocess.run(
        ["make", "--dry-run", "test"], cwd=ROOT, env=_plain_environment(),
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    command = printed[printed.index("-m pytest") :].split()
    assert "--nbval" in command and "--nbval-lax" not in command
    assert [word for word in command if word.endswith(".ipynb")] == [
        f"chapters/{name}.ipynb" for name in NAMES
    ]


def _plain_environment() -> dict[str, str]:
    """Without what an outer make says to an inner one."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}


@each_chapter
def test_the_two_files_agree(name: str) -> None:
    """Type, text, tags, figures and ids: run `make notebooks` after every edit of a .md."""
    source = read_source(CHAPTERS / f"{name}.md")

    def facts(cells: list[nbformat.NotebookNode]) -> list[tuple[object, ...]]:
        return [(cell.id, cell.cell_type, cell.source, dict(cell.metadata)) for cell in cells]

    assert facts(notebook(name).cells) == facts(source.cells)
    assert notebook(name).metadata.kernelspec == source.metadata.kernelspec
    assert set(notebook(name).metadata) <= {"kernelspec", "language_info"}


@each_chapter
def test_every_cell_was_executed_in_order(name: str) -> None:
    cells = [cell for cell in code_cells(name) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@each_chapter
def test_no_cell_stores_an_error_or_a_warning(name: str) -> None:
    for cell in code_cells(name):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text


@each_chapter
def test_no_output_names_a_machine(name: str) -> None:
    machine = re.compile(r"/(?:home|root|tmp|work|Users|usr|var|opt)/|site-packages|[A-Z]:\\")
    for cell in code_cells(name):
        found = machine.search(output_text(cell))
        assert not found, f"{found[0]} in the output of:\n{cell.source}"
        assert not re.search(r"<[\w.]+ (?:object )?at 0x[0-9a-f]+>", output_text(cell)), cell.source


@each_chapter
def test_the_header_is_the_house_header(name: str) -> None:
    kernel = "kernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n"
    text = (CHAPTERS / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"---\n{kernel}---\n\n# ")


# Claims


@each_chapter
def test_every_label_is_of_its_kind(name: str) -> None:
    prefixes = {
        "prf:definition": "def-",
        "prf:proposition": "prop-",
        "exercise": "ex-",
        "solution-start": "sol-",
    }
    for kind, prefix in prefixes.items():
        for item in labelled(name, kind):
            assert re.fullmatch(prefix + r"[a-z0-9]+(-[a-z0-9]+)*", item.label), item
    text = (CHAPTERS / f"{name}.md").read_text("utf-8")
    for label in re.findall(r"^ *\$\$ *\(([^)]*)\)", text, re.MULTILINE):
        assert re.fullmatch(r"eq-[a-z0-9]+(-[a-z0-9]+)*", label), f"equation label {label!r}"
    labels = re.findall(r"^ *:label: *(\S+)|^ *\$\$ *\(([^)]*)\)", text, re.MULTILINE)
    flat = [one or two for one, two in labels]
    assert len(flat) == len(set(flat)), "a label is used twice"


def test_no_label_is_in_two_chapters() -> None:
    labels = [item.label for name in NAMES for item in items(name) if item.label]
    assert sorted(labels) == sorted(set(labels))


@each_chapter
def test_every_proposition_is_proved_and_checked(name: str) -> None:
    sequence = items(name)
    propositions = [i for i, item in enumerate(sequence) if item.kind == "prf:proposition"]
    assert propositions, "a chapter claims something"
    for position, following in zip(propositions, [*propositions[1:], len(sequence)], strict=True):
        label = sequence[position].label
        # What comes between a statement and its proof is part of the statement.
        kinds = [item.kind for item in sequence[position + 1 : following]]
        assert "prf:proof" in kinds, f"{label} has no proof before the next proposition"
        checks = [
            item
            for item in sequence[position:]
            if item.kind == "code" and {"check", label} <= {*item.tags}
        ]
        assert checks, f"no cell after {label} has the tags check and {label}"
        for check in checks:
            assert check.cell is not None and "assert" in check.cell.source, (
                f"a check of {label} asserts nothing"
            )


@each_chapter
def test_every_check_cell_checks_a_proposition(name: str) -> None:
    known = {item.label for item in items(name) if item.kind.startswith("prf:")}
    for item in items(name):
        if "check" in item.tags:
            labels = {*item.tags} - {"check", "nbval-ignore-output"}
            assert labels and labels <= known, f"tags {item.tags}: no such label here"


@each_chapter
def test_the_chapter_can_be_read_in_jupyterlab(name: str) -> None:
    r"""No TeX macros (JupyterLab does not know them), no raw align (it prints as text)."""
    text = (CHAPTERS / f"{name}.md").read_text("utf-8")
    for macro in re.findall(r"\\(?:re)?newcommand|\\def\b|\\DeclareMathOperator", text):
        raise AssertionError(f"{macro}: write it out")
    for environment in re.findall(r"\\begin\{((?:align|equation|gather|eqnarray)\*?)\}", text):
        raise AssertionError(f"\\begin{{{environment}}}: use $$ and aligned")


@each_chapter
def test_no_word_of_chapters_that_do_not_exist(name: str) -> None:
    text = (CHAPTERS / f"{name}.md").read_text("utf-8")
    assert not re.search(r"\bPart (?:II|III|IV|two|three)\b", text)
    for number in re.findall(r"\b[Cc]hapter (\d+)", text):
        assert 1 <= int(number) <= len(NAMES)
    for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", text):
        assert target.removeprefix("/chapters/") in NAMES or target.startswith(("/", "..")), target


# Figures


@each_chapter
def test_every_figure_has_name_caption_and_alt(name: str) -> None:
    for cell in code_cells(name):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        settings = cell.metadata.get("mystnb", {})
        figure, image = settings.get("figure", {}), settings.get("image", {})
        if not any(kind.startswith("image/") for kind in kinds):
            assert not figure, f"a figure without a picture: {figure}"
            continue
        assert {"image/svg+xml", "image/png"} <= kinds, "the site takes svg, print takes png"
        assert re.fullmatch(r"fig-[a-z0-9]+(-[a-z0-9]+)*", figure.get("name", "")), cell.source
        assert len(figure.get("caption", "")) > 40, f"{figure['name']}: say what to see"
        alt = image.get("alt", "")
        assert len(alt) > 40 and "$" not in alt and "`" not in alt, f"{figure['name']}: {alt!r}"


def test_no_figure_has_the_name_of_another() -> None:
    names = [
        cell.metadata.mystnb.figure.name
        for name in NAMES
        for cell in code_cells(name)
        if cell.metadata.get("mystnb", {}).get("figure")
    ]
    assert names and sorted(names) == sorted(set(names))


# Exercises


@each_chapter
def test_every_exercise_has_an_answer_cell_and_a_solution(name: str) -> None:
    sequence = items(name)
    exercises = labelled(name, "exercise")
    assert 3 <= len(exercises) <= 6
    for exercise in exercises:
        label = exercise.label
        following = sequence[sequence.index(exercise) + 1 :]
        asked = next(item for item in following if item.kind == "code")
        assert {"exercise", label} <= {*asked.tags}, f"no answer cell follows {label}"
        assert asked.cell is not None
        assert re.search(r"^answer = \.\.\.", asked.cell.source, re.MULTILINE), asked.cell.source
        assert f'check_answer("{label}", answer)' in asked.cell.source
        assert output_text(asked.cell) == INVITATION + "\n"

        [start] = [s for s in labelled(name, "solution-start") if s.argument == label]
        assert start.label == label.replace("ex-", "sol-", 1)
        solved = code_cells(name, "solution", label)
        assert solved, f"no solution cell has the tags solution and {label}"
        last = solved[-1]
        assert f'check_answer("{label}", ' in last.source.split("\n")[-1]
        assert output_text(last).rstrip("\n").split("\n")[-1].startswith("Right"), output_text(last)


def test_exercises_and_answers_are_the_same_set() -> None:
    asked = {item.label for name in NAMES for item in labelled(name, "exercise")}
    assert asked == set(all_answers())


# Numbers


@each_chapter
def test_every_number_in_the_prose_comes_from_a_cell(name: str) -> None:
    cells = code_cells(name)
    code = "\n".join(cell.source + "\n" + output_text(cell) for cell in cells)
    prose = [cell.source for cell in notebook(name).cells if cell.cell_type == "markdown"]
    prose += [
        cell.metadata.mystnb.figure.caption
        for cell in cells
        if cell.metadata.get("mystnb", {}).get("figure")
    ]
    missing = unprinted_numbers("\n\n".join(prose), code)
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("costs 0.105 and $p_t = 0.9$, 7 times", ["0.105", "0.9"]),
        ("a share of 99.8%, or $99.8\\%$, or 3 %", ["99.8%", "99.8%", "3%"]),
        ("`0.5` and {eq}`eq-1.5` and [x](a0.7.html) and https://x.org/2.5", []),
        ("said to be 0.968 {cite}`lin2017focal`", []),
        ("```python\nx = 0.5\n```\nthen 0.25", ["0.25"]),
        (":::{prf:proposition} At 0.5\n:label: prop-0.7\nIs 0.25.\n:::", ["0.5", "0.25"]),
        ("```{prf:definition} A\nIs 0.25.\n```", ["0.25"]),
        ("version 1.2.3 of p0.5", []),
    ],
)
def test_quoted_numbers(text: str, numbers: list[str]) -> None:
    found = [f"{value}{'%' if percent else ''}" for value, percent, _ in quoted_numbers(text)]
    assert found == numbers


@pytest.mark.parametrize(
    ("text", "code", "missing"),
    [
        ("0.105", "CE = 0.105", 0),
        ("0.105", "CE = 0.1054", 1),
        ("0.5", "x = .5", 0),
        ("0.50", "x = 0.5", 0),
        ("1.5 times ten to the minus eight", "1.5e-08", 0),
        ("99.8%", "99.8% of the loss", 0),
        ("99.8%", "a share of 0.998", 0),
        ("99.8%", "a share of 99.8", 1),
        ("99.8%", "a share of 0.98", 1),
    ],
)
def test_unprinted_numbers(text: str, code: str, missing: int) -> None:
    assert len(unprinted_numbers(text, code)) == missing


def test_directives_are_read_in_order() -> None:
    text = (
        ":::{prf:proposition} The discount\n:label: prop-a\nText\n\n"
        "```{note}\n:name: n\n```\n:::\n\n````{prf:proof}\n:class: dropdown\n````"
    )
    assert [(item.kind, item.label) for item in directives_of(text)] == [
        ("prf:proposition", "prop-a"),
        ("note", "n"),
        ("prf:proof", ""),
    ]
