"""The site's own fonts, so that a page looks the same wherever it is read: Source Sans for text and
Source Code for code, from npm's Fontsource packages, under the SIL Open Font License."""

import re
import shutil

from sphinx.application import Sphinx

from focal_theme.npm import package, static_folder

STYLES = {  # the stylesheets of each package: the upright letters, and the slanted ones
    "source-sans-3": ("wght.css", "wght-italic.css"),
    "source-code-pro": ("wght.css", "wght-italic.css"),
}
# The alphabets of the book. A browser asks for those alone whose letters a page has.
ALPHABETS = ("latin", "latin-ext", "greek")

# What stands in until Source Sans has come, as wide as that, so that the text does not move then.
# The sizes are the ratios of the widths of the book's text in each, as fontTools gives them.
STAND_INS = """
@font-face {
  font-family: "Source Sans stand-in";
  src: local("Roboto"), local("Arial"), local("Liberation Sans");
  size-adjust: 93.9%;
}
@font-face {
  font-family: "Source Sans stand-in, wide";
  src: local("Open Sans Regular"), local("Open Sans");
  size-adjust: 89.5%;
}
"""

FACE = re.compile(r"(@font-face \{[^}]*url\(\./files/([^)]+\.woff2)\)[^}]*\})")


def add_fonts(app: Sphinx) -> None:
    if app.builder.format != "html":
        return
    static = static_folder(app, "fonts") / "fonts"
    static.mkdir()
    faces = []
    for name, styles in STYLES.items():
        font = package(f"@fontsource-variable/{name}")
        wanted = re.compile(rf"{name}-(?:{'|'.join(ALPHABETS)})-wght-\w+\.woff2")
        for style in styles:
            for face, file in FACE.findall((font / style).read_text("utf-8")):
                if wanted.fullmatch(file):
                    faces.append(face.replace("./files/", ""))
                    shutil.copyfile(font / "files" / file, static / file)
        shutil.copyfile(font / "LICENSE", static / f"{name}.LICENSE")
    (static / "fonts.css").write_text("\n".join([*faces, STAND_INS]), "utf-8")
    app.add_css_file("fonts/fonts.css")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", add_fonts)
