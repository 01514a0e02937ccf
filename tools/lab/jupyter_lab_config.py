"""The configuration of `make lab`. Beside it, overrides.json has the defaults of JupyterLab's own
settings: a .md opens as a page to read, and no other host is asked for news or newer versions.

What is opened and saved, edited or not, is written as tools/notebooks.py and the chapters' authors
write it: JupyterLab saves by itself, and would leave a difference in each file that was opened."""

import math
import sys
import warnings
from pathlib import Path
from typing import Any

from jupytext.myst import CompactDumper


def without_python_version(model: dict[str, Any], **_: object) -> None:
    if model["type"] == "notebook":
        model["content"]["metadata"].get("language_info", {}).pop("version", None)


def text_as_written(dumper: CompactDumper, text: str) -> object:
    """Captions of several lines keep their lines, and other text stays on one."""
    dumper.best_width = math.inf
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


c = get_config()  # noqa: F821 (what reads this file provides it)
c.Application.log_level = "WARN"  # little but the address is printed
c.FileContentsManager.pre_save_hook = without_python_version
# JupyterLab reads this file twice, and would say so.
warnings.filterwarnings("ignore", "Overriding existing pre_save_hook")
CompactDumper.add_representer(str, text_as_written)
c.ServerApp.root_dir = str(Path(__file__).resolve().parents[2])
c.ServerApp.allow_root = True  # in a container one is often root; the server is local, with a token
c.LabApp.app_settings_dir = str(Path(__file__).resolve().parent)
# The tabs that are open here are not those of the user's other work.
c.LabApp.workspaces_dir = str(Path(sys.prefix, "share", "jupyter", "lab", "workspaces"))
