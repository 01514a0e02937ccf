"""Where the book and its source are: BOOK_URL, the site's address, and REPO_URL, the repository's.

Both may be set where the site is built; the repository's is otherwise `repository-code` of
CITATION.cff. With it the site links to the source, to each chapter's file, to an issue form and to
hosted notebooks. What a page cannot say without an address, it says is missing."""

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
# Links alone: nothing of these hosts is loaded. Colab opens what is on GitHub.
HOSTED = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}


def read_address(name: str, value: str) -> str:
    """An address without a slash at its end; "" if there is none."""
    address = value.strip().rstrip("/")
    if address and not re.fullmatch(r"https?://[\w.-]+(?::\d+)?(?:/[\w.~%+-]+)*", address):
        raise ConfigError(f"{name} must be an address such as https://example.org/notes: {value!r}")
    return address


def set_addresses(app: Sphinx, config: Config) -> None:
    book = read_address("BOOK_URL", os.environ.get("BOOK_URL", ""))
    if book:
        config.html_baseurl = book + "/"
    asked = os.environ.get("REPO_URL", "").strip() or str(facts().get("repository-code", ""))
    repository = read_address("REPO_URL", asked)
    config.focal_repository = repository
    if repository:
        config.html_theme_options |= {
            "repository_url": repository,
            "repository_branch": BRANCH,
            "repository_provider": "gitlab" if "gitlab" in repository else "github",
            "use_repository_button": True,
            "use_issues_button": True,
            "use_source_button": True,
            "launch_buttons": HOSTED | {"notebook_interface": "jupyterlab"},
        }


def mend_buttons(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """A chapter's source is its .md. Hosted notebooks are other hosts', which no test tries."""
    for menu in context.get("header_buttons", ()):
        for button in menu.get("buttons", ()):
            if button.get("label") == "source-file-button":
                button["url"] = button["url"].replace(".ipynb", ".md")
            elif menu.get("label") == "launch-buttons":
                button["tooltip"] = f"Open on {button['text']}, another host (untried)"


class Addresses(SphinxDirective):
    """``addresses``: what the site knows of BOOK_URL, of REPO_URL, and what is missing without.

    With `:known:` it says nothing of what is missing.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"known": directives.flag}

    def run(self) -> list[nodes.Node]:
        names, said, missing = self.arguments[0].split(), [], []
        if "REPO_URL" in names:
            if repository := self.config.focal_repository:
                said.append(
                    f"The source of these notes is at <{repository}>; errors are reported "
                    f"[there]({repository}/issues/new)."
                )
            else:
                missing.append("of its repository (`REPO_URL`): it links to no source")
        if "BOOK_URL" in names and not self.config.html_baseurl:
            missing.append(
                "of its own (`BOOK_URL`): the addresses on it begin at the site's root, and its "
                "notebooks do not install from it"
            )
        if missing and "known" not in self.options:
            what = "; nor ".join(missing)
            said.append(
                f"This copy of the site was built without the address {what}. They are set where "
                "it is built: `REPO_URL=https://... BOOK_URL=https://... make book`."
            )
        if not said:
            return []
        shown = addnodes.only(expr="html")
        shown += nodes.container("", *self.parse_text_to_nodes(" ".join(said)))
        return [shown]


def setup(app: Sphinx) -> None:
    app.add_config_value("focal_repository", "", "env", [str])
    app.add_directive("addresses", Addresses)
    app.connect("config-inited", set_addresses)
    app.connect("html-page-context", mend_buttons, priority=810)  # after the theme's own
