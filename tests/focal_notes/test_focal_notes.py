"""The chapters' shared code: the verdicts on answers, the figure style, one version number."""

import json
import re
import tomllib
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

import focal_lib
from focal_notes import NEGATIVE, POSITIVE, check_answer, gamma_style, use_style
from focal_notes.exercises import INVITATION, Answer, _verdict, all_answers

ROOT = Path(__file__).resolve().parents[2]
PALETTE = json.loads((ROOT / "focal_notes" / "palette.json").read_text("utf-8"))

NUMBER = Answer(lambda: 6.58, rtol=0.01, hint="Divide.", near_misses={"upside down": lambda: 0.152})
VECTOR = Answer(lambda: np.array([1.0, 2.0]))
CHOICE = Answer(lambda: "b", hint="Think of the sum.")
FUNCTION = Answer(
    lambda: np.square, points=((1.0,), (3.0,)), near_misses={"doubled": lambda: lambda x: 2 * x}
)


@pytest.mark.parametrize(
    ("right", "given", "verdict"),
    [
        (NUMBER, ..., INVITATION),
        (NUMBER, 6.6, "Right."),
        (NUMBER, np.float32(6.58), "Right."),
        (NUMBER, 7, "Not yet. Divide."),
        (NUMBER, 0.152, "Not yet: upside down."),
        (NUMBER, float("nan"), "Not yet. Divide."),
        (NUMBER, [6.58, 6.58], "Not yet: the answer has the shape (), and this has (2,)."),
        (VECTOR, [1, 2], "Right."),
        (VECTOR, [2, 1], "Not yet."),
        (VECTOR, 1.0, "Not yet: the answer has the shape (2,), and this has ()."),
        (CHOICE, " B ", "Right."),
        (CHOICE, "a", "Not yet. Think of the sum."),
        (CHOICE, 2, "Not yet. Think of the sum."),
        (FUNCTION, lambda x: x * x, "Right."),
        (FUNCTION, lambda x: 2 * x, "Not yet: doubled."),
        (FUNCTION, lambda x: x, "Not yet."),
        (FUNCTION, 9.0, "Not yet: the answer is a function, and this is float."),
    ],
)
def test_verdict(right: Answer, given: object, verdict: str) -> None:
    assert _verdict(right, given) == verdict


@pytest.mark.parametrize("given", ["six", object()])
def test_an_unreadable_answer_is_answered_not_raised(given: object) -> None:
    assert _verdict(NUMBER, given).startswith("Not yet: this could not be checked (")


def test_a_function_that_raises_is_answered() -> None:
    assert "ZeroDivisionError" in _verdict(FUNCTION, lambda x: 1 / 0)


def test_unknown_label_is_named() -> None:
    with pytest.raises(ValueError, match="label: there is no exercise 'ex-nope'"):
        check_answer("ex-nope", 1)


@pytest.mark.parametrize("label", sorted(all_answers()))
def test_every_answer_accepts_itself_and_no_near_miss(
    label: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = all_answers()[label]
    check_answer(label, answer.expected())
    assert capsys.readouterr().out == "Right.\n"
    for what, miss in answer.near_misses.items():
        assert _verdict(answer, miss()) == f"Not yet: {what}."


def luminance(color: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(channels, [0.2126, 0.7152, 0.0722]))


def test_figure_colors_stand_out_on_white_and_differ() -> None:
    styles = [gamma_style(gamma) for gamma in (0, 0.5, 1, 2, 3, 5)]
    colors = [style["color"] for style in styles] + [POSITIVE, NEGATIVE]
    assert len(set(colors)) == len(colors)
    for color in colors:
        assert 1.05 / (luminance(color) + 0.05) >= 3, color
    with pytest.raises(ValueError, match=r"gamma: no style for 4"):
        gamma_style(4)


def test_style_makes_reproducible_figures() -> None:
    with mpl.rc_context():
        use_style()
        assert mpl.rcParams["svg.hashsalt"] and mpl.rcParams["axes.grid"]


DRAWING = ("benchmarks", "chapters", "focal_notes", "theme/focal_theme", "theme/static")


def colors_written_out(text: str) -> set[str]:
    """The colors of the palette that a text has in digits."""
    digits = {color[1:].upper() for color in PALETTE["colors"].values()}
    return digits & {found.upper() for found in re.findall(r"(?<![\w&])#?([\dA-Fa-f]{6})\b", text)}


@pytest.mark.parametrize("folder", DRAWING)
def test_colors_are_in_the_palette_alone(folder: str) -> None:
    kinds = (".py", ".mplstyle", ".css", ".js", ".md")
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    assert files
    for path in files:
        assert not colors_written_out(path.read_text("utf-8")), path
    assert colors_written_out("'0072b2', #D55E00") == {"0072B2", "D55E00"}


def test_one_version_number() -> None:
    version = focal_lib.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    page = (ROOT / "cite.md").read_text()
    assert re.findall(r"\d+\.\d+\.\d+", page) == [version, version]
    year = re.search(r'date-released: "(\d{4})', citation)
    assert year and re.findall(r"\b20\d\d\b", page.split("## One result")[0]).count(year[1]) >= 2
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
