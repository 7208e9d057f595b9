"""Made-up tables for the tests of analysis: every number is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from atodds.analysis.together import Together


def table(
    found: Mapping[str, Sequence[float]],
    wrong: Mapping[str, Sequence[int]] | None = None,
    *,
    attack: str = "search",
    norm: str = "l2",
    data: str = "made@1",
    passes: int = 10,
) -> pl.DataFrame:
    """Verdicts: model -> the distance at which each image was fooled (infinite where it was not); the images listed as
    `wrong` are misclassified from the start. Every norm has the same distance."""
    rows = []
    for model, distances in found.items():
        for image, distance in enumerate(distances):
            bad = image in (wrong or {}).get(model, ())
            same = {"model": model, "data": data, "image": image, "label": 0, "clean": int(bad), "norm": norm}
            clean = 0.0 if bad else math.inf
            rows.append(same | verdict("clean", clean, 1))
            if not bad:
                rows.append(same | verdict(attack, float(distance), passes))
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return frame.with_columns(pl.lit(None, pl.Int32).alias("target"), pl.lit(None, pl.Float64).alias("eps"))


def verdict(attack: str, distance: float, passes: int) -> dict[str, object]:
    """What one attack found at one distance."""
    fooled = math.isfinite(distance)
    far = dict.fromkeys(("l0", "l1", "l2", "linf"), distance)
    return {"attack": attack, "prediction": int(fooled), "fooled": fooled, **far, "forwards": passes, "backwards": 0}


def seen(values: Sequence[Sequence[float]], wrong: Sequence[Sequence[bool]] | None = None) -> Together:
    """Models side by side: one row of `values`, and of `wrong`, a model."""
    distances = np.array(values, dtype=np.float64).T
    correct = np.ones(distances.shape, dtype=np.bool_) if wrong is None else ~np.array(wrong, dtype=np.bool_).T
    names = tuple(f"m{k}" for k in range(distances.shape[1]))
    return Together(names, "l2", np.arange(len(distances)), correct, np.where(correct, distances, 0.0))
