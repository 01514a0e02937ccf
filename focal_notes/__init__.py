"""What the chapters share: the figure style and the checked answers to the exercises."""

from focal_notes.exercises import check_answer
from focal_notes.style import NEGATIVE, POSITIVE, gamma_style, use_style

__all__ = ["NEGATIVE", "POSITIVE", "check_answer", "gamma_style", "use_style"]
