"""The right answers to the exercises, one module a chapter."""
