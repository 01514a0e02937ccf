"""Make the notebooks from their MyST sources: convert each chapters/NAME.md and execute it.

    python tools/notebooks.py             every chapter
    python tools/notebooks.py NAME ...    these chapters

Nothing that differs from run to run is stored (no times, no random cell ids, no Python version),
so running this twice gives the same files.
"""

import argparse
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"


def read_source(path: Path) -> nbformat.NotebookNode:
    """Read a MyST source as a notebook without outputs, its cells named by their position."""
    config = jupytext.config.load_jupytext_configuration_file(str(CHAPTERS / "jupytext.toml"))
    notebook = jupytext.read(path, config=config)
    notebook.metadata.pop("jupytext", None)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
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
