"""Make the book's PDF: LaTeX by Sphinx from the stored notebooks, then the PDF by XeLaTeX.

    pdf.py FILE     where the PDF goes; what it is made from stays beside it

It fails where LaTeX does not know a reference or has no letter for a character, and where a line is
wider than the page by more than can be seen."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What has to be there, and Debian's package that brings it
PROGRAMS = {
    "xelatex": "texlive-xetex",
    "latexmk": "latexmk",
    "rsvg-convert": "librsvg2-bin",
    "kpsewhich": "texlive-binaries",
}
TEX_FILES = {
    "tcolorbox.sty": "texlive-latex-extra",
    "texgyrepagella-math.otf": "fonts-texgyre-math",
    "texgyrepagella-regular.otf": "fonts-texgyre",
    "pzdr.tfm": "texlive-fonts-recommended",
}
CODE_FONT = ("DejaVu Sans Mono", "fonts-dejavu-core")

# In points: this much too wide a line is not seen.
OVERFULL = 4.0


def missing_packages() -> list[str]:
    """The Debian packages that are still needed, by what is not there."""
    missing = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if shutil.which("kpsewhich"):
        missing += [
            package
            for name, package in TEX_FILES.items()
            if not output("kpsewhich", name) and not in_fontconfig(name)
        ]
    if not in_fontconfig(CODE_FONT[0]):
        missing.append(CODE_FONT[1])
    return sorted({*missing})


def output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def in_fontconfig(name: str) -> bool:
    return name in output("fc-list")


def date_of_sources() -> str:
    """The time that the PDF bears, in seconds: that of the commit, so that it can be made again."""
    return (
        os.environ.get("SOURCE_DATE_EPOCH")
        or output("git", "-C", str(ROOT), "log", "-1", "--format=%ct")
        or "0"
    )


def faults(log: str) -> list[str]:
    """What LaTeX complained of that a reader would see."""
    found = re.findall(r"^.*(?:Warning: .*undefined|multiply defined).*$", log, re.MULTILINE)
    found += re.findall(r"^Missing character: .*$", log, re.MULTILINE)
    found += [
        line
        for line, points in re.findall(r"^(Overfull \\hbox \(([\d.]+)pt.*)$", log, re.MULTILINE)
        if float(points) > OVERFULL
    ]
    return sorted({*found})


def main() -> None:
    target = Path(sys.argv[1]).resolve()
    if missing := missing_packages():
        sys.exit(
            "The PDF needs LaTeX with a few packages. On Debian and Ubuntu:\n"
            f"  apt-get install --no-install-recommends {' '.join(missing)}"
        )
    shutil.rmtree(target.parent, ignore_errors=True)
    target.parent.mkdir(parents=True)
    os.environ |= {"SOURCE_DATE_EPOCH": date_of_sources(), "FORCE_SOURCE_DATE": "1", "TZ": "UTC"}
    os.environ |= {"max_print_line": "1000"}  # lines of the log are not broken
    book = Path(sys.executable).with_name("jupyter-book")
    build = [book, "build", "-q", "-W", "--keep-going", "-n", "--builder", "latex"]
    build += ["--path-output", target.parent, "."]
    if subprocess.run(build, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode:
        sys.exit("Sphinx warned, so no PDF is made")
    folder = target.parent / "_build" / "latex"
    latexmk = ["latexmk", "-norc", "-xelatex", "-interaction=nonstopmode", "-halt-on-error"]
    made = subprocess.run(
        [*latexmk, f"{target.stem}.tex"],
        cwd=folder,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = (folder / f"{target.stem}.log").read_text("utf-8", "replace")
    if made.returncode:
        sys.exit("LaTeX stopped:\n" + log[-3000:])
    if found := faults(log):
        sys.exit("LaTeX made the PDF, with faults:\n" + "\n".join(found))
    shutil.copyfile(folder / f"{target.stem}.pdf", target)


if __name__ == "__main__":
    main()
