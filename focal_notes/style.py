"""The one figure style of the book. Its colors are in palette.json, which the site reads, too."""

import json
from importlib.resources import files
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

_PALETTE = json.loads((files("focal_notes") / "palette.json").read_text("utf-8"))
_COLORS: dict[str, str] = _PALETTE["colors"]

#: The colors of class 1 and class 0, in every figure that shows classes.
POSITIVE, NEGATIVE = (_COLORS[_PALETTE["classes"][name]] for name in ("positive", "negative"))

# One color and one dash pattern a gamma. The colors are at least 3:1 on white, stay apart
# under the common color deficiencies, and the dashes carry the distinction into gray print.
_GAMMA_STYLES = {float(gamma): style for gamma, style in _PALETTE["gammas"].items()}


def use_style() -> None:
    """Set the book's figure style for this session. "C0" to "C5" are the colors of its cycle.

    Figures are stored as SVG (for the site) and PNG (for print and other viewers); the SVG
    carries no date and its ids come from a fixed salt, so a notebook run twice gives the same file.
    """
    plt.style.use(str(files("focal_notes") / "focal.mplstyle"))
    cycle = [_COLORS[name] for name in _PALETTE["cycle"]]
    mpl.rcParams["axes.prop_cycle"] = mpl.cycler(color=cycle)
    mpl.rcParams["grid.color"] = _COLORS["grid"]
    mpl.rcParams["svg.hashsalt"] = "focal-notes"
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # plain Python, no notebook: nothing is displayed inline
        return
    set_matplotlib_formats("svg", "png", metadata={"Date": None})


def gamma_style(gamma: float) -> dict[str, Any]:
    """Return the ``plot`` keywords (color, dashes, label) of one value of gamma."""
    if gamma not in _GAMMA_STYLES:
        raise ValueError(f"gamma: no style for {gamma!r}; there is one for {sorted(_GAMMA_STYLES)}")
    color, dashes = _COLORS[_GAMMA_STYLES[gamma]["color"]], _GAMMA_STYLES[gamma]["dashes"]
    label = f"$\\gamma = {gamma:g}$" + (" (cross entropy)" if gamma == 0 else "")
    return {"color": color, "linestyle": (0, tuple(dashes)) if dashes else "solid", "label": label}
