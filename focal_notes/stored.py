"""Where the stored results are: those of the long experiments, and those of the benchmarks.

In a checkout they are read where they are made. An installed package has copies of them in its own
folder: see `package-dir` in pyproject.toml.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _where(made: str, copied: str) -> Path:
    is_checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    return PACKAGE.parent / made if is_checkout else PACKAGE / copied


EXPERIMENTS = _where("chapters/data", "data")
BENCHMARKS = _where("benchmarks/results", "measured")
