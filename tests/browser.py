"""The built site in a browser: its pages, a server, and what goes wrong on a page."""

import functools
import http.server
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from book import SITE
from playwright.sync_api import Browser, Page, sync_playwright

PAGES = sorted(
    page.relative_to(SITE).as_posix()
    for page in SITE.rglob("*.html")
    if "_static" not in page.parts and "_sources" not in page.parts
)
CHAPTER_PAGES = [page for page in PAGES if page.startswith("chapters/")]

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
BROWSER_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


# The browser, and a server of the site


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    candidates = [os.environ.get("CHROMIUM"), *map(shutil.which, names)]
    return next((path for path in candidates if path and os.access(path, os.X_OK)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        advice = (
            "no Chromium: install it (Debian, Ubuntu: apt-get install chromium) "
            "or set CHROMIUM to the path of one"
        )
        if os.environ.get("CI"):
            pytest.fail(advice, pytrace=False)
        pytest.skip(advice)
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


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(SITE))
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
