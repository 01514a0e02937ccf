"""What every page has: the site's static files, its description; and index.html, which
sends on to the landing page."""

import html
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from focal_theme.book import THEME

# Without scripts nothing is folded: a reader who cannot click can read it all.
NO_SCRIPT = """<noscript><style>
  details::details-content { content-visibility: visible; block-size: auto; }
</style></noscript>"""


def add_static_files(app: Sphinx) -> None:
    if app.builder.format != "html":
        return
    app.config.html_static_path.append(str(THEME / "static"))
    # After the theme's and every other extension's.
    app.add_css_file("focal.css", priority=900)


def add_to_head(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    # Before all else that the page loads: it waits for no stylesheet, and no wrong color is drawn.
    color_mode = context["pathto"]("_static/color_mode.js", resource=True)
    head = [context.get("metatags", ""), f'<script src="{color_mode}"></script>', NO_SCRIPT]
    description = app.config.focal_descriptions.get(pagename)
    if description:
        content = html.escape(" ".join(description.split()), quote=True)
        head.append(f'<meta name="description" content="{content}" />')
    context["metatags"] = "\n".join(head)
    if pagename == app.config.root_doc:  # its title is the book's: once is enough
        context["docstitle"] = ""


def finish_site(app: Sphinx, exception: Exception | None) -> None:
    """Send readers of the bare address on to the landing page; leave nothing of this folder."""
    if exception or app.builder.format != "html":
        return
    # A checksum for incremental builds, which differs between folders: builds here are whole.
    (Path(app.outdir) / ".buildinfo").unlink(missing_ok=True)
    page = f"{app.config.root_doc}.html"
    canonical = f'<link rel="canonical" href="{app.config.html_baseurl}{page}" />'
    title = html.escape(app.config.html_title)
    (Path(app.outdir) / "index.html").write_text(
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<title>{title}</title>
<link rel="icon" href="_static/{Path(app.config.html_favicon).name}" />
{canonical if app.config.html_baseurl else ""}
<meta http-equiv="refresh" content="0; url={page}" />
</head>
<body><p><a href="{page}">{title}</a></p></body>
</html>
""",
        "utf-8",
    )


def setup(app: Sphinx) -> None:
    app.add_config_value("focal_descriptions", {}, "html", [dict])
    app.connect("builder-inited", add_static_files)
    app.connect("html-page-context", add_to_head)
    app.connect("build-finished", finish_site)
