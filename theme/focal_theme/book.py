"""The book's source, as the site's modules read it: where it is, the chapters of its table of
contents, and the cells of a chapter."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

THEME = Path(__file__).resolve().parent.parent
ROOT = THEME.parent


def chapters() -> list[Path]:
    """The chapters' notebooks, in the order of the table of contents."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [entry["file"] for part in contents["parts"] for entry in part["chapters"]]
    return [ROOT / name for name in files if name.endswith(".ipynb")]


def cells(notebook: Path) -> list[dict[str, Any]]:
    return list(json.loads(notebook.read_text("utf-8"))["cells"])


def markdown(cells: list[dict[str, Any]]) -> str:
    """The text of a chapter."""
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def title(text: str) -> str:
    """The first heading of a text."""
    return re.findall(r"^# (.+)$", text, re.MULTILINE)[0]


def labelled(text: str, kinds: str) -> dict[str, str]:
    """The title of each statement or exercise in a text, by its label."""
    found = re.findall(rf"^[:`]{{3,}}\{{(?:{kinds})\}} *(.*)\n:label: *(\S+)$", text, re.MULTILINE)
    return {label: name for name, label in found}
