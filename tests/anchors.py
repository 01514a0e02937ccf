"""The published addresses: each definition, proposition, equation, figure, exercise and solution,
and each function, class and method of the library.

    python tests/anchors.py    adds the built site's new ones to tests/anchors.txt

A label that was published stays: others link to it. So nothing here removes a line; one that was
never published may be removed by hand.
"""

import re
from pathlib import Path

from book import SITE, soup_of

LIST = Path(__file__).with_name("anchors.txt")
LABEL = re.compile(r"^(?:(?:def|prop|equation-eq|fig|ex|sol)-|focal_lib\.\w+\.\w+(?:\.\w+)?$)")


def built_anchors() -> set[str]:
    """The addresses that the built site has."""
    anchors = set()
    for page in sorted([*SITE.glob("chapters/*.html"), SITE / "reference.html"]):
        page_path = page.relative_to(SITE).as_posix()
        anchors |= {f"{page_path}#{one['id']}" for one in soup_of(page_path).find_all(id=LABEL)}
    return anchors


def listed_anchors() -> set[str]:
    return set(LIST.read_text("utf-8").split()) if LIST.exists() else set()


if __name__ == "__main__":
    new = built_anchors() - listed_anchors()
    LIST.write_text("".join(f"{a}\n" for a in sorted(listed_anchors() | new)), "utf-8")
    print(f"{len(new)} new in tests/anchors.txt")
