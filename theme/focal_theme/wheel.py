"""What the site offers for notebooks that run without a checkout: a wheel with `focal_lib` and all
that the chapters read, and notebooks whose first cell knows the wheel's hash, and its address.

The wheel is pure: it leaves the compiled kernels out, so that one file is for every system.
focal_lib does without them, more slowly, and in float32 with some more rounding."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from focal_theme.book import ROOT
from focal_theme.folds import fold, fold_line

# What a notebook's first cell has for the wheel's address and its hash, as JSON has it.
NO_ADDRESS, NO_HASH = r"WHEEL = \"\"", r"SHA256 = \"\""

# Make a wheel of the folder that they are run in, as `pip wheel` does but for the compiled kernels.
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
SETUP = """\
from setuptools import Distribution, setup


class Pure(Distribution):
    def parse_config_files(self, *arguments, **named):
        super().parse_config_files(*arguments, **named)
        self.ext_modules = None


setup(distclass=Pure)
"""


@cache
def wheel_name() -> str:
    """The wheel's file name."""
    found = re.search(
        r'^__version__ = "([^"]+)"$', (ROOT / "focal_lib/__init__.py").read_text("utf-8"), re.M
    )
    if not found:
        raise ExtensionError("focal_lib/__init__.py: there is no line __version__ = ...")
    return f"focal_notes-{found[1]}-py3-none-any.whl"


def package_files() -> list[Path]:
    """The files of the packages that pyproject.toml names, and what it is built from."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    settings = project["tool"]["setuptools"]
    files = [ROOT / name for name in ("pyproject.toml", project["project"]["readme"])]
    files += [ROOT / name for name in project["project"]["license-files"]]
    for package in settings["packages"]:
        folder = ROOT / settings["package-dir"].get(package, package.replace(".", "/"))
        for pattern in ("*.py", *settings["package-data"].get(package, ())):
            files += sorted(folder.glob(pattern))
    return files


def build_wheel(to: Path) -> Path:
    """Build the wheel into a folder. The same files give the same wheel, byte for byte."""
    with tempfile.TemporaryDirectory() as folder:
        for file in package_files():
            copy = Path(folder, file.relative_to(ROOT))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
            copy.chmod(0o644)
        Path(folder, "setup.py").write_text(SETUP, "utf-8")
        built = subprocess.run(
            [sys.executable, "-c", BUILD, to.resolve()],
            cwd=folder,
            # The wheel has its files' times and modes: the earliest time that it can have, here.
            env=os.environ | {"SOURCE_DATE_EPOCH": "315532800"},
            umask=0o022,
            capture_output=True,
            text=True,
            check=False,
        )
    wheel = to / wheel_name()
    if built.returncode or not wheel.is_file():
        raise ExtensionError(f"{wheel.name} was not built:\n{built.stdout}{built.stderr}")
    wheel.chmod(0o644)
    return wheel


def with_wheel(notebook: str, site: str, sha256: str) -> str:
    """A notebook's text in which the first cell has the hash of the site's wheel, and its address
    where the site knows its own."""
    if notebook.count(NO_ADDRESS) != 1 or notebook.count(NO_HASH) != 1:
        raise ExtensionError("a notebook's first cell has no place for the wheel's hash")
    address = site and site + wheel_name()
    notebook = notebook.replace(NO_ADDRESS, rf"WHEEL = \"{address}\"")
    return notebook.replace(NO_HASH, rf"SHA256 = \"{sha256}\"")


def finish_site(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    sha256 = hashlib.sha256(build_wheel(Path(app.outdir)).read_bytes()).hexdigest()
    for path in sorted(Path(app.outdir, "_sources", "chapters").glob("*.ipynb")):
        text = Path(app.srcdir, "chapters", path.name).read_text("utf-8")
        text = with_wheel(text, app.config.html_baseurl, sha256)
        path.write_text(text, "utf-8", newline="\n")


def fold_the_cell(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A reader of the page needs no more than a line of the cell that installs."""
    if app.builder.format != "html":
        return
    for cell in doctree.findall(nodes.container):
        if "setup-install" in cell.get("cell_metadata", {}).get("tags", []):
            folded = fold(classes=["install"])
            folded += fold_line("", "What this notebook installs where it is missing")
            folded += cell.children
            cell.children = []
            cell += folded


def add_button(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """The wheel in each chapter's menu of downloads, below the notebook that needs it."""
    if not pagename.startswith("chapters/"):
        return
    for menu in context.get("header_buttons", ()):
        if menu.get("label") == "download-buttons":
            menu["buttons"].insert(
                1,
                {
                    "type": "link",
                    "url": context["pathto"](wheel_name(), 1),
                    "text": ".whl for the notebook",
                    "icon": "fas fa-cube",
                    "tooltip": "Download what the notebook runs on, to lie beside it",
                    "label": "download-wheel-button",
                },
            )


class LibraryWheel(SphinxDirective):
    """``library-wheel``: how to install without a checkout, with a link to the wheel."""

    def run(self) -> list[nodes.Node]:
        site, name = self.config.html_baseurl, wheel_name()
        line = nodes.paragraph("", "Without a checkout: ")
        if site:
            line += nodes.literal("", f"pip install {site}{name}")
            line += nodes.Text(", or download ")
        else:
            line += nodes.Text("download ")
        up = "../" * self.env.docname.count("/")
        line += nodes.reference("", name, refuri=f"{up}{name}", internal=True)
        line += nodes.Text(" and give its name to ")
        line += nodes.literal("", "pip install")
        line += nodes.Text(
            ". It is for every system, without the CPU's kernels, and has what the notebooks need. "
            "The first cell of each downloaded notebook installs it, from beside the notebook"
        )
        line += nodes.Text(" or from the site." if site else ".")
        shown = addnodes.only(expr="html")
        shown += line
        return [shown]


def setup(app: Sphinx) -> None:
    app.add_directive("library-wheel", LibraryWheel)
    app.connect("doctree-resolved", fold_the_cell)
    app.connect("html-page-context", add_button, priority=800)  # after the theme's own
    app.connect("build-finished", finish_site)
