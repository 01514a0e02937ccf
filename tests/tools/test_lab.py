"""`make lab`: its JupyterLab as a browser meets it, and what it writes when a notebook is saved.

It serves a copy of the chapters. A kernel of the same name, which does not start, is where the
user's kernels are and on the JUPYTER_PATH: that of .venv must be taken."""

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests
from book import CHAPTERS, ROOT, chapter_names

from focal_notes.exercises import INVITATION

if not all(map(find_spec, ("jupyterlab", "jupyterlab_myst"))):
    advice = "JupyterLab is not installed: `make lab` installs it"
    if os.environ.get("CI"):
        pytest.fail(advice + ", and so does `make .venv/.lab`", pytrace=False)
    pytest.skip(advice, allow_module_level=True)

from websocket import create_connection  # which JupyterLab brings

LIGHT = "cross_entropy"
DECOY = {"argv": ["false"], "display_name": "Python 3 of the user", "language": "python"}


@dataclass
class Lab:
    """A running JupyterLab."""

    folder: Path
    page: str  # the address that it prints
    said: list[str]

    def url(self, path: str) -> str:
        server, token = re.fullmatch(r"(http://[^/]+/).*(\?token=\w+)", self.page).groups()
        return f"{server}{path}{token}"

    def ask(self, path: str, method: str = "GET", content: dict[str, Any] | None = None) -> Any:
        answer = requests.request(method, self.url(path), json=content, timeout=60)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(page: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            requests.get(page, timeout=seconds)
            return
        except requests.ConnectionError:
            assert time.monotonic() < end, f"nothing answers at {page}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder, home = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("home")
    for name in ("Makefile", "_toc.yml", "intro.md"):
        shutil.copy(ROOT / name, folder)
    for name in ("chapters", "tools/lab"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    for kernels in (home / ".local/share/jupyter/kernels", home / "other/kernels"):
        (kernels / "python3").mkdir(parents=True)
        (kernels / "python3/kernel.json").write_text(json.dumps(DECOY), "utf-8")
    outside = ("JUPYTER", "MAKE", "PYTEST", "XDG")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(outside)}
    environment |= {"HOME": str(home), "JUPYTER_PATH": str(home / "other")}
    arguments = f"--no-browser --port={free_port()} --ServerApp.port_retries=0"
    command = ["make", "--old-file=.venv/.lab", "lab", f"NAME={LIGHT}", f"ARGS={arguments}"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        stop = functools.partial(os.killpg, process.pid, signal.SIGTERM)
        limit = threading.Timer(60, stop)
        limit.start()
        said: list[str] = []
        found = None
        while found is None and (line := process.stdout.readline()):
            said.append(line)
            found = re.search(r"http://127\.\S+", line)
        limit.cancel()
        assert found, "make lab: " + "".join(said)
        try:
            wait_for(found[0])  # it is printed a moment before it is served
            yield Lab(folder, found[0], said)
        finally:
            stop()
            said.extend(process.stdout)


def test_it_prints_the_address_of_the_chapter(lab: Lab) -> None:
    assert re.fullmatch(
        rf"http://127\.0\.0\.1:\d+/lab/tree/chapters/{LIGHT}\.ipynb\?token=\w{{32,}}", lab.page
    )
    assert len(lab.said) < 10, "and little else"
    assert "JupyterLab" in requests.get(lab.page, timeout=60).text
    bare = lab.url("api/contents").split("?")[0]
    assert requests.get(bare, timeout=60).status_code == 403, "without the token"


def test_a_chapter_that_is_not_there_is_named() -> None:
    command = ["make", "--old-file=.venv/.lab", "lab", "NAME=fokal_loss", "ARGS=--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode
    assert "NAME=fokal_loss: there is no chapters/fokal_loss.ipynb" in done.stderr


def test_the_extensions_for_myst_and_jupytext_are_on(lab: Lab) -> None:
    page = requests.get(lab.url("lab"), timeout=60).text
    [config] = re.findall(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)
    known = json.loads(config)
    names = {extension["name"] for extension in known["federated_extensions"]}
    assert {"jupyterlab-myst", "jupyterlab-jupytext"} <= names
    assert not [
        name for name in known["disabledExtensions"] if "myst" in name or "jupytext" in name
    ]


def test_it_asks_no_other_host_and_shows_pages_as_pages(lab: Lab) -> None:
    settings = {
        plugin: lab.ask(f"lab/api/settings/@jupyterlab/{plugin}")["schema"]["properties"]
        for plugin in ("apputils-extension:notification", "docmanager-extension:plugin")
    }
    notification, documents = settings.values()
    assert notification["fetchNews"]["default"] == "false"
    assert notification["checkForUpdates"]["default"] is False
    assert documents["defaultViewers"]["default"] == {"markdown": "Markdown Preview"}


# A notebook


def cells_of(lab: Lab, path: str) -> list[dict[str, Any]]:
    model = lab.ask(f"api/contents/{path}")
    assert model["type"] == "notebook"
    return list(model["content"]["cells"])


def test_the_source_opens_as_a_notebook(lab: Lab) -> None:
    """With the cells of the other, but for the one that installs: neither is made of both."""
    source, notebook = (cells_of(lab, f"chapters/{LIGHT}.{kind}") for kind in ("md", "ipynb"))
    [first] = [cell["source"] for cell in notebook if cell["id"] == "install"]
    texts = [cell["source"] for cell in source]
    assert first not in texts
    assert texts == [cell["source"] for cell in notebook if cell["id"] != "install"]


@pytest.fixture(scope="module")
def kernel(lab: Lab) -> Iterator["Kernel"]:
    path = f"chapters/{LIGHT}.ipynb"
    asked = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}}
    session = lab.ask("api/sessions", "POST", asked)
    kernel = Kernel(lab, session["kernel"]["id"])
    yield kernel
    kernel.socket.close()
    lab.ask(f"api/sessions/{session['id']}", "DELETE")


class Kernel:
    """What a notebook's page says to its kernel, and hears."""

    def __init__(self, lab: Lab, name: str) -> None:
        address = lab.url(f"api/kernels/{name}/channels").replace("http", "ws", 1)
        self.socket = create_connection(address, timeout=30)

    def ask(self, kind: str, **content: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The reply, and what was heard until the kernel was idle again."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "username": "", "session": "s"}
        header |= {"version": "5.3", "date": ""}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.socket.send(json.dumps(message | {"channel": "shell", "buffers": []}))
        reply, heard, idle = None, [], False
        while reply is None or not idle:
            got = json.loads(self.socket.recv())
            if got["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if got["channel"] == "shell":
                reply = got["content"]
            elif got["msg_type"] == "status":
                idle = got["content"]["execution_state"] == "idle"
            else:
                heard.append(got)
        return reply, heard

    def run(self, code: str) -> str:
        """What a cell prints."""
        reply, heard = self.ask("execute_request", code=code, silent=False, allow_stdin=False)
        assert reply["status"] == "ok", reply
        return "".join(got["content"].get("text", "") for got in heard)


def test_the_cells_run_in_the_environment_of_the_book(lab: Lab, kernel: Kernel) -> None:
    """Those of a chapter up to its first output, which is the stored one; nothing is installed."""
    for cell in cells_of(lab, f"chapters/{LIGHT}.ipynb"):
        if cell["cell_type"] == "code":
            printed = kernel.run(cell["source"])
            stored = "".join(output["text"] for output in cell["outputs"])
            assert printed == stored
            if stored:
                break
    assert stored
    where = f"{Path(sys.prefix).resolve()} []\n"
    assert kernel.run("print(Path(sys.prefix).resolve(), missing)") == where


def test_an_exercise_is_answered(lab: Lab, kernel: Kernel) -> None:
    label = "ex-fit-bias"
    [cell] = [
        cell["source"]
        for cell in cells_of(lab, f"chapters/{LIGHT}.ipynb")
        if cell["metadata"].get("tags") == ["exercise", label]
    ]
    kernel.run(
        "from focal_notes import check_answer\nfrom focal_notes.exercises import all_answers"
    )
    assert kernel.run(cell).strip() == INVITATION
    for answer, verdict in (("1e6", "Not yet"), (f"all_answers()[{label!r}].expected()", "Right")):
        assert kernel.run(cell.replace("answer = ...", f"answer = {answer}")).startswith(verdict)


@pytest.mark.parametrize("kind", ["ipynb", "md"])
def test_a_save_changes_nothing_that_was_not_edited(lab: Lab, kernel: Kernel, kind: str) -> None:
    """JupyterLab writes into each notebook that it opens what its kernel says of itself."""
    named = lab.ask("api/kernelspecs")["kernelspecs"]["python3"]["spec"]
    language, _ = kernel.ask("kernel_info_request")
    for name in chapter_names():
        path = f"chapters/{name}.{kind}"
        content = lab.ask(f"api/contents/{path}")["content"]
        content["metadata"] |= {
            "kernelspec": {
                "display_name": named["display_name"],
                "language": named["language"],
                "name": "python3",
            },
            "language_info": language["language_info"],
        }
        lab.ask(f"api/contents/{path}", "PUT", {"type": "notebook", "content": content})
        text = (CHAPTERS / f"{name}.{kind}").read_text("utf-8")
        assert (lab.folder / path).read_text("utf-8") == text, path


def test_an_edit_changes_one_file_where_it_was_made(lab: Lab) -> None:
    files = {kind: lab.folder / f"chapters/{LIGHT}.{kind}" for kind in ("md", "ipynb")}
    before = {kind: file.read_text("utf-8").splitlines() for kind, file in files.items()}
    content = lab.ask(f"api/contents/chapters/{LIGHT}.md")["content"]
    content["cells"][0]["source"] += "\n\nA new paragraph."
    lab.ask(f"api/contents/chapters/{LIGHT}.md", "PUT", {"type": "notebook", "content": content})
    after = {kind: file.read_text("utf-8").splitlines() for kind, file in files.items()}
    assert after["ipynb"] == before["ipynb"]
    at = after["md"].index("A new paragraph.")
    assert before["md"] == after["md"][: at - 1] + after["md"][at + 1 :]
