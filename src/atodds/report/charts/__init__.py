"""The charts of a page. A new one is a file here with a `CHART`, and its entry in `CHARTS`."""

from atodds.report.charts import (
    attacks,
    bounds,
    classes,
    factors,
    frontier,
    mixtures,
    optimality,
    robustness,
    scaling,
    transfer,
)
from atodds.report.charts.figure import Chart, Drawing, Figure, Panel, Table, theme

CHARTS: tuple[Chart, ...] = (
    robustness.CHART,
    frontier.CHART,
    mixtures.CHART,
    scaling.CHART,
    factors.CHART,
    classes.CHART,
    attacks.CHART,
    optimality.CHART,
    bounds.CHART,
    transfer.CHART,
)
"""Every chart, in the order of the page."""

__all__ = ["CHARTS", "Chart", "Drawing", "Figure", "Panel", "Table", "theme"]
