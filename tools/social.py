"""Draw theme/static/social.png, which is shown where a link to the book is shared: the formula of
focal loss and its curves. It needs a Chromium, and what `make test` sets up.

    python tools/social.py
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "theme")]

from focal_theme.explorer import COLORS, GAMMAS, figure  # noqa: E402
from focal_theme.finding import PICTURE, PICTURE_SIZE  # noqa: E402
from focal_theme.formulas import set_tex  # noqa: E402
from focal_theme.npm import package  # noqa: E402

from tools.chromium import find  # noqa: E402

STYLE = """
  * { box-sizing: border-box; margin: 0; }
  body { width: 1200px; height: 630px; padding: 56px 64px; background: #fff; color: #14181d;
         font: 30px/1.4 "DejaVu Sans", sans-serif; display: grid;
         grid-template: auto 1fr auto / 1fr 470px; column-gap: 48px; }
  h1 { grid-column: 1 / 3; font-size: 62px; line-height: 1.15; font-weight: 600; }
  .formula { align-self: center; font-size: 34px; white-space: nowrap; }
  .formula p { margin-top: 36px; font-size: 28px; color: #414b57; white-space: normal; }
  .curves { align-self: center; }
  .curves svg { width: 470px; overflow: visible; font: 12px "DejaVu Sans", sans-serif; }
  .explorer-grid { stroke: #d5dae0; fill: none; }
  .keys { grid-column: 1 / 3; font-size: 26px; color: #414b57; display: flex; gap: 36px; }
  .keys b { display: inline-block; width: 40px; height: 6px; margin-right: 10px;
            vertical-align: middle; border-radius: 3px; }
"""


def page() -> str:
    keys = "".join(
        f'<span><b style="background:{COLORS[gamma]}"></b>{set_tex(name, False)}</span>'
        for gamma, name in ((gamma, rf"\gamma = {gamma:g}") for gamma in GAMMAS)
    )
    formula = set_tex(r"\mathrm{FL}(p_t) = -(1 - p_t)^{\gamma} \log p_t", False)
    katex = (package("katex") / "dist" / "katex.min.css").as_uri()
    return f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8" />
<link rel="stylesheet" href="{katex}" /><style>{STYLE}</style></head>
<body><h1>Focal Loss: Executable Notes</h1>
<div class="formula">{formula}<p>Derived, proved, and checked by code that runs</p></div>
<div class="curves">{figure("loss")}</div><div class="keys">{keys}</div></body></html>"""


def main() -> None:
    source = ROOT / "_build" / "social.html"
    source.parent.mkdir(exist_ok=True)
    source.write_text(page(), "utf-8")
    width, height = PICTURE_SIZE
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": width, "height": height})
        view.goto(source.as_uri())
        view.wait_for_function("document.fonts.status === 'loaded'")
        view.screenshot(path=str(ROOT / "theme" / "static" / PICTURE))
        browser.close()
    source.unlink()


if __name__ == "__main__":
    main()
