"""What a page may do and what it loads: a content security policy that allows the site alone, no
inline script, scripts and figures that wait, and one stylesheet with what is used.

The theme has inline scripts, an icon font of 1.5 MB as a script, and ten stylesheets most of which
no page uses. So the pages are changed once they are written: their heads and what stands around the
article, which is left as it is.
"""

import hashlib
import html
import re
import shutil
from pathlib import Path

import tinycss2
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from tinycss2.ast import Node

# Styles are free: KaTeX and JSXGraph place things by style attributes. Which sites may frame a page
# is said in a header, by the host.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)

# What the theme puts in a page and the site does without, or does in page.js, color_mode.js,
# find.js and icons.css.
DROPPED = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<script>DOCUMENTATION_OPTIONS\.pagename = [^<]*</script>\s*",  # for switching versions
        r"<script>DOCUMENTATION_OPTIONS\.search_as_you_type = false;</script>\s*",
        r'<script data-cfasync="false">[^<]*document\.documentElement\.dataset[^<]*</script>\s*',
        r"<script[^>]*/fontawesome\.js[^>]*></script>\s*",
        # It searches the whole page for notes in margins; page.js does the rest of it.
        r"<script[^>]*/sphinx-book-theme\.js[^>]*></script>\s*",
        r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>\s*',
        r'<link rel="preload" as="script"[^>]*>\s*',
        r'<meta name="docsearch:[^>]*>\s*',
        r'<div id="ethical-ad-placement".*?</div>\s*',
        r'(?<=<button) onclick="window\.print\(\)"',
    )
]
VIEWPORT = re.compile(r'<meta name="viewport"[^>]*>\s*')
SCRIPT = re.compile(r"<script\b([^>]*)>(.*?)</script>\s*", re.DOTALL)
STYLE = re.compile(r'<link\b(?=[^>]*rel="stylesheet")[^>]*href="([^"?]*)[^"]*"[^>]*>\s*')

# Of the theme's scripts: it reads the layout of the whole page to find what scrolls; page.js waits.
SCROLLS = re.compile(
    r',?"complete"===document\.readyState\?(\w+)\(\):window\.addEventListener\("load",\1\)'
)

# What assistive technology is told wrongly: a form that no button submits, a search button whose
# name is not what it says, a link in no landmark, roles that were given up or do not fit what is in
# them.
MENDED = [
    (re.compile(pattern), mended)
    for pattern, mended in (
        (
            r'(?s)(<form class="bd-search(?:(?!</form>).)*)'
            r'<span class="search-button__kbd-shortcut">.*?</span>',
            r'\1<button type="submit">Search</button>',
        ),
        (
            r'(<button class="btn search-button-field[^"]*")\s+title="[^"]*"\s+aria-label="[^"]*"',
            r"\1",
        ),
        (
            r'<div class="sidebar-primary-item">(?=\s*<a class="navbar-brand)',
            '<div class="sidebar-primary-item" role="navigation" aria-label="Title page">',
        ),
        (
            r'(?<=<p) class="caption" role="heading"',
            ' class="caption" role="heading" aria-level="2"',
        ),
        (r' role="doc-biblioentry"', ""),
        (r'(?<=<div) role="list"(?= class="citation-list")', ""),
    )
]

# A signature of several lines, which Sphinx makes a list of descriptions that describe nothing
SIGNATURE = re.compile(r'<dt class="sig .*?</dt>', re.DOTALL)


def lines_of(signature: re.Match[str]) -> str:
    lines = signature[0].replace("<dl>", '<div class="sig-lines">').replace("<dd>", "<div>")
    return re.sub("</d[ld]>", "</div>", lines)


# The styles

_GROUPS = ("media", "supports", "layer", "container")
TEXT = "find_places.js"  # the book's words, no class among them
# Classes that a script puts together of parts
MADE_BY_SCRIPTS = {"bs-tooltip-auto"}


def is_used(selector: list[Node], names: set[str]) -> bool:
    """Whether every class and id that a selector asks for, :not() and its like aside, is there."""
    before = None
    for token in selector:
        is_class = token.type == "ident" and before == "."
        if (is_class or token.type == "hash") and token.value not in names:
            return False
        before = token.value if token.type == "literal" else None
    return True


def used_selectors(prelude: list[Node], names: set[str]) -> list[str]:
    selectors: list[list[Node]] = [[]]
    for token in prelude:
        if token == ",":
            selectors.append([])
        elif token.type != "comment":
            selectors[-1].append(token)
    return [tinycss2.serialize(one).strip() for one in selectors if is_used(one, names)]


def used_rules(css: str | list[Node], names: set[str]) -> str:
    """The rules of a stylesheet that can apply where only these classes and ids are."""
    kept = []
    for rule in tinycss2.parse_rule_list(css, skip_comments=True, skip_whitespace=True):
        if rule.type == "error":
            raise ExtensionError(f"a stylesheet of the site is wrong: {rule.message}")
        content = tinycss2.serialize([one for one in rule.content or () if one.type != "comment"])
        if rule.type == "qualified-rule":
            if selectors := used_selectors(rule.prelude, names):
                kept.append(f"{','.join(selectors)}{{{content}}}")
            continue
        before = f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}".strip()
        if rule.content is None:
            kept.append(f"{before};")
        elif rule.lower_at_keyword not in _GROUPS:
            # The icons are masks: see icons.css.
            kept.append("" if "Font Awesome" in content else f"{before}{{{content}}}")
        elif inner := used_rules(rule.content, names):
            kept.append(f"{before}{{{inner}}}")
    return "\n".join(kept)


def read_style(path: Path, to: Path) -> str:
    """A stylesheet as it reads in another folder, with those that it imports."""
    css = re.sub(r'@charset "[^"]*";', "", path.read_text("utf-8-sig"))

    def imported(found: re.Match[str]) -> str:
        return read_style(path.parent / found[1], to)

    def moved(found: re.Match[str]) -> str:
        address = found[2]
        if re.match(r"[a-z]+:|/|#", address):
            return found[0]
        return f"url({found[1]}{_relative(path.parent / address, to)}{found[1]})"

    css = re.sub(r'@import (?:url\()?"([^"]+)"\)?;', imported, css)
    return re.sub(r"""url\((["']?)([^"')]+)\1\)""", moved, css)


def _relative(file: Path, folder: Path) -> str:
    return file.resolve().relative_to(folder.resolve()).as_posix()


def names_of(site: Path, pages: list[str]) -> set[str]:
    """Every class and id of the pages, and every word of the scripts, which may set one."""
    names = set(MADE_BY_SCRIPTS)
    for page in pages:
        for value in re.findall(r'\s(?:class|id)="([^"]*)"', page):
            names.update(html.unescape(value).split())
    for script in (site / "_static").rglob("*.js"):
        if script.parent.name not in ("jsxgraph", "locales", "minisearch") and script.name != TEXT:
            names.update(re.findall(r"[A-Za-z_][\w-]*", script.read_text("utf-8")))
    return names


# The pages


def tidy(page: str, name: str) -> str:
    """A page without what the site does without, its scripts behind it, its policy before all."""
    start = page.find("<article")
    end = page.rfind("</article>")
    if start < 0 or end < 0:
        start = end = len(page)
    before, article, after = page[:start], page[start:end], page[end:]
    for pattern in DROPPED:
        before, after = pattern.sub("", before), pattern.sub("", after)
    viewport = VIEWPORT.search(before)
    before = VIEWPORT.sub("", before)
    # Deferred scripts keep their order, those that waited already come last.
    scripts: list[tuple[bool, str]] = []

    def taken(found: re.Match[str]) -> str:
        attributes, content = found.groups()
        if 'type="application/ld+json"' in attributes or "color_mode.js" in attributes:
            return found[0]
        if content.strip() or "src=" not in attributes:
            raise ExtensionError(
                f"{name}: a script in the page, which its policy forbids: {found[0]}"
            )
        waits = re.search(r"\sdefer\b", attributes) is not None
        attributes = re.sub(r'\sdefer(?:="[^"]*")?', "", attributes)
        scripts.append((waits, f"<script defer{attributes}></script>\n"))
        return ""

    before, article, after = (SCRIPT.sub(taken, part) for part in (before, article, after))
    scripts.sort(key=lambda script: script[0])
    before = before.replace("</head>", "".join(line for _, line in scripts) + "</head>", 1)
    first = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}" />'
    if viewport:
        first += f"\n    {viewport[0].strip()}"
    before = re.sub(r'(<meta charset="[^"]*" ?/?>)', rf"\1\n    {first}", before, count=1)
    page = before + article + after
    for pattern, mended in MENDED:
        page = pattern.sub(mended, page)
    page = SIGNATURE.sub(lines_of, page)
    if handler := re.search(r"<[a-z][^<>]*\son[a-z]+=\"[^\"]*\"", page):
        raise ExtensionError(f"{name}: a script in an attribute: {handler[0]}")
    return page


IMAGE = re.compile(r"<img\b(?![^>]*\sloading=)([^>]*?)\s*/?>")


def with_sizes(page: str, folder: Path) -> str:
    """A page whose figures come when they are near, and have their room before."""

    def sized(found: re.Match[str]) -> str:
        attributes = found[1]
        source = re.search(r'\ssrc="([^":?#]+\.svg)"', attributes)
        if source and not re.search(r"\s(?:width|height|style)=", attributes):
            start = (folder / source[1]).read_text("utf-8")[:1000]
            size = re.search(r'<svg\b[^>]*\swidth="([\d.]+)pt" height="([\d.]+)pt"', start)
            if size:
                width, height = (round(float(points) * 4 / 3) for points in size.groups())
                attributes += f' width="{width}" height="{height}"'
        return f'<img loading="lazy"{attributes} />'

    return IMAGE.sub(sized, page)


def root_of(page: str) -> str:
    """The way from a page to the site's root, as its addresses begin."""
    root = re.search(r'data-content_root="([^"]*)"', page)
    return root[1] if root else ""


def styles_of(page: str) -> list[str]:
    """The stylesheets of a page, by their place in the site."""
    return [address.removeprefix(root_of(page)) for address in STYLE.findall(page)]


def with_joined(page: str, common: list[str], version: str) -> str:
    """A page that asks for the joined stylesheet where the first of them was."""
    link = f'<link rel="stylesheet" href="{root_of(page)}_static/site.css?v={version}" />\n    '
    lines = [link]

    def joined(found: re.Match[str]) -> str:
        if found[1].removeprefix(root_of(page)) not in common:
            return found[0]
        return lines.pop() if lines else ""

    return STYLE.sub(joined, page)


def join_styles(site: Path, pages: dict[str, str]) -> None:
    """One stylesheet for what every page asks for, in the order of the first; what only some pages
    ask for stays a file of its own."""
    static = site / "_static"
    asked = [styles for styles in map(styles_of, pages.values()) if styles]
    common = [style for style in asked[0] if all(style in styles for styles in asked)]
    names = names_of(site, list(pages.values()))
    css = "".join(used_rules(read_style(site / style, static), names) for style in common)
    css = re.sub(r"\s*\n\s*", "\n", css)
    (static / "site.css").write_text(css, "utf-8")
    version = hashlib.sha256(css.encode()).hexdigest()[:8]
    for name, page in pages.items():
        pages[name] = with_joined(page, common, version)
    for style in common:
        (site / style).unlink()
    (static / "basic.css").unlink(missing_ok=True)  # which another imported


def finish_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    static = site / "_static"
    for unused in (
        *static.rglob("*.map"),
        *static.rglob("*fontawesome.js*"),
        *static.rglob("sphinx-book-theme.js"),
        static / "searchtools.js",  # Sphinx's search
        static / "language_data.js",
    ):
        unused.unlink(missing_ok=True)
    theme = static / "scripts" / "pydata-sphinx-theme.js"
    text, found = SCROLLS.subn("", theme.read_text("utf-8"))
    if found != 1:
        raise ExtensionError("the theme finds what scrolls in another way than policy.py knows")
    theme.write_text(text, "utf-8")
    pages = {
        name: with_sizes(tidy((site / name).read_text("utf-8"), name), (site / name).parent)
        for name in sorted(page.relative_to(site).as_posix() for page in site.rglob("*.html"))
        if not name.startswith(("_static/", "_sources/"))
    }
    join_styles(site, pages)
    for name, page in pages.items():
        (site / name).write_text(page, "utf-8")


def start(app: Sphinx) -> None:
    if app.builder.format == "html":
        # What an earlier build has changed is written anew: the stylesheet depends on all pages.
        shutil.rmtree(Path(app.outdir) / "_static", ignore_errors=True)
        for page in Path(app.outdir).rglob("*.html"):
            page.unlink()
        app.add_js_file("page.js", loading_method="defer")
        app.add_css_file("icons.css", priority=899)


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", start)
    app.connect("build-finished", finish_pages, priority=900)  # when all pages are written
