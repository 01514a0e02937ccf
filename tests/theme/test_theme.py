"""The site's extension: formulas are set, and TeX that KaTeX does not take is refused."""

import pytest
from docutils import nodes
from docutils.utils import new_document
from focal_theme.formulas import TexError, keep_punctuation, set_tex


def test_a_formula_is_set_for_eyes_and_for_screen_readers() -> None:
    html = set_tex(r"\mathrm{FL}(p_t) = -(1 - p_t)^\gamma \log p_t", True)
    assert 'class="katex-display"' in html
    assert "<math" in html and 'aria-hidden="true"' in html


@pytest.mark.parametrize("tex", [r"\frac{1}", r"\nosuch x", "a_b_c", r"\text{é} é", "{"])
def test_bad_tex_is_refused(tex: str) -> None:
    with pytest.raises(TexError):
        set_tex(tex, True)


def test_the_process_goes_on_after_bad_tex() -> None:
    with pytest.raises(TexError):
        set_tex("}", False)
    assert "katex" in set_tex("x", False)


def test_formulas_and_their_punctuation_keep_their_places() -> None:
    """Also where two texts of a paragraph are equal."""
    paragraph = nodes.paragraph("", "", nodes.emphasis("", "A"), nodes.Text(", "))
    for part in ("$a$", ", ", "(", "$b$", "), and so on"):
        paragraph += nodes.math("", part.strip("$")) if "$" in part else nodes.Text(part)
    document = new_document("")
    document += paragraph
    keep_punctuation(None, document, "")
    assert paragraph.astext() == "A, a, (b), and so on"
    assert [node.astext() for node in paragraph.findall(nodes.inline)] == ["a,", "(b),"]
