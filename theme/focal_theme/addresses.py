"""Where the book and its source are: BOOK_URL, the site's address, and REPO_URL, the repository's.

Both may be set where the site is built; the repository's is otherwise `repository-code` of
CITATION.cff. With it the site links to the source, and, where the host is known to have them, to
each chapter's file, to an issue form and to hosted notebooks. What a page cannot say without an
address, it says is missing."""

import os
import re
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError
from sphinx.util.docutils import SphinxDirective

from focal_theme.citing import facts

BRANCH = "main"
# The hosts that open notebooks: the theme's setting, and the address. Nothing is loaded from them.
SERVICES = {
    "Binder": ("binderhub_url", "https://mybinder.org"),
    "Colab": ("colab_url", "https://colab.research.google.com"),
}


def read_address(name: str, value: str) -> str:
    """An address without a slash at its end; "" if there is none."""
    address = value.strip().rstrip("/")
    if address and not re.fullmatch(r"https?://[\w.-]+(?::\d+)?(?:/[\w.~%+-]+)*", address):
        raise ConfigError(f"{name} must be an address such as https://example.org/notes: {value!r}")
    return address


def read_repository(name: str, value: str) -> str:
    """The address of a repository's page, which has no ".git" as git's own has."""
    address = read_address(name, value).removesuffix(".git")
    if address and not re.fullmatch(r"https://[^/]+(?:/[^/]+){2,}", address):
        raise ConfigError(f"{name} must be like https://github.com/OWNER/NAME: {value!r}")
    return address


def kind_of(repository: str) -> str:
    """What runs on the repository's host: github, gitlab, or "" where that is not known."""
    parts = repository.split("/")[2].split(".")
    return next((kind for kind in ("github", "gitlab") if kind in parts), "")


def issue_form(repository: str) -> str:
    """Where an issue is written; "" where that is not known."""
    forms = {"github": f"{repository}/issues/new", "gitlab": f"{repository}/-/issues/new"}
    return forms.get(kind_of(repository), "")


def services(repository: str) -> list[str]:
    """The hosts that open its notebooks. Colab knows GitHub alone, and the theme would send it the
    owner and name of any host: they may be another's there."""
    host, *path = repository.split("/")[2:]
    known = {"github.com": ["Binder", "Colab"], "gitlab.com": ["Binder"]}
    return known.get(host, []) if len(path) == 2 else []


def theme_options(repository: str) -> dict[str, Any]:
    kind = kind_of(repository)
    return {
        "repository_url": repository,
        "repository_branch": BRANCH,
        "repository_provider": kind or "github",  # without a kind it is but the icon's name
        "use_repository_button": True,
        "use_issues_button": bool(kind),
        "use_source_button": bool(kind),
        "launch_buttons": {"notebook_interface": "jupyterlab"}
        | dict(SERVICES[name] for name in services(repository)),
    }


def set_addresses(app: Sphinx, config: Config) -> None:
    book = read_address("BOOK_URL", os.environ.get("BOOK_URL", ""))
    if book:
        config.html_baseurl = book + "/"
    name, asked = "REPO_URL", os.environ.get("REPO_URL", "").strip()
    if not asked:
        name, asked = "repository-code of CITATION.cff", facts().get("repository-code", "")
    config.focal_repository = read_repository(name, asked)
    if config.focal_repository:
        config.html_theme_options |= theme_options(config.focal_repository)


def mend_buttons(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """A chapter's source is its .md. Hosted notebooks are other hosts', which no test tries."""
    for menu in context.get("header_buttons", ()):
        for button in menu.get("buttons", ()):
            if button.get("label") == "source-file-button":
                button["url"] = button["url"].replace(".ipynb", ".md")
            elif menu.get("label") == "launch-buttons":
                button["tooltip"] = f"Open this notebook on {button['text']}, another host"
                button["text"] += " (untried)"
                button["icon"] = "fas fa-rocket"  # a logo has the text for its name, once more


def known(names: list[str], repository: str) -> str:
    """What a page says of the repository that is known, in Markdown; "" where none is."""
    said = []
    if "REPO_URL" in names and repository:
        # Not the address alone, before which the theme puts an icon of a font that is not here.
        said.append(f"The source of these notes is at [{repository[8:]}]({repository}).")
        if form := issue_form(repository):
            said.append(f"To report an error, [open an issue]({form}) there.")
    if "HOSTED" in names and repository and (hosts := services(repository)):
        said.append(
            f"At its head each chapter links to its notebook on {' and '.join(hosts)}. Those are "
            "other hosts, and what they make of it is untried."
        )
        if "Colab" in hosts:
            said.append("On Colab the first cell asks for the wheel of the download button.")
    return " ".join(said)


def missing(names: list[str], repository: str, book: str) -> str:
    """What a page says of the addresses that are not known, in Markdown; "" where all are."""
    without = {}
    if "BOOK_URL" in names and not book:
        without["BOOK_URL"] = (
            "its own address (`BOOK_URL`), so its citations give paths on the site and its "
            "notebooks cannot install from it"
        )
    if "REPO_URL" in names and not repository:
        without["REPO_URL"] = (
            "the address of its repository (`REPO_URL`), so it has no link to its source"
        )
    if not without:
        return ""
    command = " ".join([*(f"{name}=https://..." for name in without), "make book"])
    return (
        f"This copy of the site was built without {'; and without '.join(without.values())}. "
        f"To build it with {'them' if len(without) > 1 else 'it'}: `{command}`."
    )


class Addresses(SphinxDirective):
    """``addresses``: what the site knows of those that are named, REPO_URL, BOOK_URL and HOSTED
    notebooks, and what is missing; of that nothing with `:known:`."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"known": directives.flag}

    def run(self) -> list[nodes.Node]:
        names, repository = self.arguments[0].split(), self.config.focal_repository
        said = [known(names, repository)]
        if "known" not in self.options:
            said.append(missing(names, repository, self.config.html_baseurl))
        shown = addnodes.only(expr="html")
        for paragraph in filter(None, said):
            shown += self.parse_text_to_nodes(paragraph)
        return [shown] if shown.children else []


def setup(app: Sphinx) -> None:
    app.add_config_value("focal_repository", "", "env", [str])
    app.add_directive("addresses", Addresses)
    app.connect("config-inited", set_addresses)
    app.connect("html-page-context", mend_buttons, priority=810)  # after the theme's own
