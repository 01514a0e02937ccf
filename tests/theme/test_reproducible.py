"""Two builds of the same files are the same site, byte for byte."""

import filecmp
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from book import ROOT, SITE
from cases import exhaustive

NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv", "_build", "build", "node_modules", "__pycache__", ".*_cache", ".hypothesis"
)
PDF = SITE / "focal-notes.pdf"

# Python reads it first: files come in another order than in the first build.
SHUFFLED_FILES = """
import os, random

def shuffled(function):
    def listed(*arguments):
        entries = list(function(*arguments))
        random.Random(len(entries)).shuffle(entries)
        return entries
    return listed

class Entries:
    def __init__(self, entries): self.entries = iter(entries)
    def __iter__(self): return self
    def __next__(self): return next(self.entries)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def close(self): pass

os.listdir = shuffled(os.listdir)
os.scandir = lambda *arguments, old=shuffled(os.scandir): Entries(old(*arguments))
"""


def files(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in paths} - {".built"}


def differences(one: Path, other: Path) -> list[str]:
    only = [f"only in one of them: {name}" for name in files(one) ^ files(other)]
    both = files(one) & files(other)
    unlike = [name for name in both if not filecmp.cmp(one / name, other / name, shallow=False)]
    return sorted(only + unlike)


@exhaustive
def test_a_second_build_gives_the_same_site(tmp_path: Path) -> None:
    """In another folder, in another order, with other hashes, in another time zone."""
    copy = tmp_path / "elsewhere" / "book"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCES)
    (copy / "theme" / "node_modules").symlink_to(ROOT / "theme" / "node_modules")
    first = tmp_path / "first"
    first.mkdir()
    (first / "sitecustomize.py").write_text(SHUFFLED_FILES, "utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(first),
        "PYTHONHASHSEED": str(random.SystemRandom().randrange(1, 2**32)),
        "TZ": "Asia/Kathmandu",
        "BOOK_PDF": str(PDF) if PDF.is_file() else "",
    }
    environment.pop("SOURCE_DATE_EPOCH", None)  # as in the Makefile
    command = [
        Path(sys.executable).parent / "jupyter-book",
        *"build -q -W --keep-going -n .".split(),
    ]
    build = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    assert files(SITE), "the site is not built"
    assert differences(SITE, copy / "_build" / "html") == []


@pytest.mark.parametrize("change", ["more", "other", "fewer"])
def test_a_difference_is_found(tmp_path: Path, change: str) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "a.html").write_text("a")
        (folder / ".built").write_text(folder.name)
    assert differences(one, other) == []
    if change == "fewer":
        (one / "deep" / "a.html").unlink()
    else:
        (other / "deep" / {"more": "b.html", "other": "a.html"}[change]).write_text("b")
    assert len(differences(one, other)) == 1


# The oldest versions


def test_the_oldest_versions_are_those_that_are_tested() -> None:
    """A lower bound in pyproject.toml is a pin of oldest.txt, which `make test-oldest` installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    bounds = {*project["dependencies"], *(line for name in extras for line in extras[name])}
    pins = dict(
        line.split("==")
        for line in (ROOT / "requirements" / "oldest.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )
    # The oldest torch asks for a Triton that is older than the kernels allow.
    for bound in bounds - {*extras["peers"], *extras["gpu"]}:
        name, version = bound.split(">=")
        assert pins[name] == version or pins[name].startswith(f"{version}."), bound


# What others publish


def test_workflows_take_actions_by_commit() -> None:
    """With the release beside it, for whoever reads it. A tag can be moved to other code."""
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
    used = [
        line.split("uses:")[1].strip()
        for path in workflows
        for line in path.read_text("utf-8").splitlines()
        if re.match(r" *(- )?uses:", line)
    ]
    assert len(used) >= 4
    pinned = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")
    assert [action for action in used if not pinned.fullmatch(action)] == []
