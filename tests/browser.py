"""The built site in a browser: its pages, servers, what goes wrong on a page, and what axe says."""

import functools
import gzip
import http.server
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from book import ROOT, SITE
from cases import sampled
from playwright.sync_api import Browser, Page, sync_playwright

from tools import chromium

PAGES = sorted(
    page.relative_to(SITE).as_posix()
    for page in SITE.rglob("*.html")
    if "_static" not in page.parts and "_sources" not in page.parts
)
CHAPTER_PAGES = [page for page in PAGES if page.startswith("chapters/")]
CHAPTER = "chapters/focal_loss.html"
# Chapters are made alike: two of them stand for what the same script or style does to each.
SOME_CHAPTERS = sampled(CHAPTER_PAGES, CHAPTER, "chapters/boosting.html")

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
TOUCH = {"viewport": PHONE, "is_mobile": True, "has_touch": True}
MOUSE = {"viewport": DESKTOP}
LOOKS = {
    "phone-dark": (TOUCH, "dark"),
    "desktop-light": (MOUSE, "light"),
    "phone-light": (TOUCH, "light"),
    "desktop-dark": (MOUSE, "dark"),
}
each_look = pytest.mark.parametrize("look", sampled(LOOKS, "phone-dark", "desktop-light"))
BROWSER_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


# The browser, and a server of the site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(chromium.ADVICE, pytrace=False)
        pytest.skip(chromium.ADVICE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        yield browser
        browser.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a browser that leaves a page
            super().handle_error(request, client_address)


class CompressingHandler(QuietHandler):
    """Serves as static hosts do: what is text is compressed."""

    kinds = (".html", ".css", ".js", ".svg", ".json")

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if file.suffix not in self.kinds or not file.is_file():
            super().do_GET()
            return
        content = compressed(file)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(file)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@functools.cache
def compressed(file: Path) -> bytes:
    return gzip.compress(file.read_bytes(), 6)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    handler = functools.partial(CompressingHandler, directory=str(SITE))
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def watch(page: Page, address: str) -> list[str]:
    """What goes wrong on a page from now on: other hosts, failed requests, errors."""
    problems: list[str] = []

    def on_request(url: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            problems.append(f"request to another host: {url}")

    def on_status(status: int, url: str) -> None:
        if status >= 400:
            problems.append(f"{status}: {url}")

    def on_message(kind: str, text: str) -> None:
        if kind == "error":
            problems.append(f"console: {text}")

    page.on("request", lambda request: on_request(request.url))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on("response", lambda response: on_status(response.status, response.url))
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    page.on("console", lambda message: on_message(message.type, message.text))
    return problems


def wait_until(page: Page, expression: str, argument: Any = None, seconds: float = 30) -> None:
    """As the page's wait_for_function, which calls eval() in it: the site's policy forbids that."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"not so after {seconds} s: {expression}"
        page.wait_for_timeout(20)


SETTLED = """() => document.readyState === "complete" && document.fonts.status === "loaded"
  && [...document.images].every((image) => image.complete)
  && (!new URLSearchParams(location.search).get("q")
    || document.querySelector(".found-count").textContent !== "")"""


def settle(page: Page) -> None:
    """Wait until all has come that a page asks for of itself: scripts, fonts, figures, an answer.

    It is sooner than "networkidle", which waits for half a second in which nothing is asked for.
    """
    wait_until(page, SETTLED)


def count_bytes(page: Page) -> list[float]:
    """What the page transfers from now on, headers included."""
    transferred: list[float] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda e: transferred.append(e["encodedDataLength"]))
    return transferred


AUDIT = ROOT / "tools" / "audit"


@functools.cache
def axe_source() -> str:
    file = AUDIT / "node_modules" / "axe-core" / "axe.min.js"
    assert file.is_file(), "axe is not installed: run `make test`, which installs it"
    return file.read_text("utf-8")


def faults_by_axe(page: Page, *rules: str) -> list[str]:
    """What axe finds in the whole page: also in folds and far from the window, figures loaded."""
    page.evaluate(f"({(AUDIT / 'prepare.js').read_text('utf-8')})()")
    page.evaluate(axe_source())
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found = page.evaluate(
        "async options => (await axe.run(options)).violations.flatMap("
        "({id, nodes}) => nodes.map((node) => `${id}: ${node.target.join(' ')}`))",
        options,
    )
    return list(found)
