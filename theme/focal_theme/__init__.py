"""The site's one Sphinx extension; each of its modules says what it does."""

from typing import Any

from sphinx.application import Sphinx

from focal_theme import (
    addresses,
    citing,
    explorer,
    finding,
    folds,
    fonts,
    formulas,
    fulltext,
    library,
    pages,
    policy,
    printed,
    results,
    teaching,
    wheel,
)


def setup(app: Sphinx) -> dict[str, Any]:
    for module in (
        addresses,
        formulas,
        fonts,
        folds,
        library,
        results,
        explorer,
        pages,
        wheel,
        citing,
        teaching,
        finding,
        fulltext,
        printed,
        policy,
    ):
        module.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
