"""The one figure style of the book."""

from importlib.resources import files
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

#: The colors of class 1 and class 0, in every figure that shows classes.
POSITIVE = "#9A6700"
NEGATIVE = "#57606A"

# One color and one dash pattern a gamma. The colors are at least 3:1 on white, stay apart
# under the common color deficiencies, and the dashes carry the distinction into gray print.
_GAMMA_STYLES: dict[float, tuple[str, Any]] = {
    0.0: ("#000000", "solid"),
    0.5: ("#AA3377", (0, (1, 1))),
    1.0: ("#0072B2", (0, (5, 1.5))),
    2.0: ("#D55E00", "solid"),
    3.0: ("#777777", (0, (3, 1, 1, 1, 1, 1))),
    5.0: ("#00855F", (0, (6, 1.5, 1, 1.5))),
}


def use_style() -> None:
    """Set the book's figure style for this session.

    Figures are stored as SVG (for the site) and PNG (for print and other viewers); the SVG
    carries no date and its ids come from a fixed salt, so a notebook run twice gives the same file.
    """
    plt.style.use(str(files("focal_notes") / "focal.mplstyle"))
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
    color, linestyle = _GAMMA_STYLES[gamma]
    label = f"$\\gamma = {gamma:g}$" + (" (cross entropy)" if gamma == 0 else "")
    return {"color": color, "linestyle": linestyle, "label": label}
