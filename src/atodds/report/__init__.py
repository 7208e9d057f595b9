"""Views of the analysis: one self-contained HTML page, and its charts as files."""

from atodds.report.figures import write_figures
from atodds.report.page import render, write

__all__ = ["render", "write", "write_figures"]
