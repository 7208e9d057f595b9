"""What a study says of each claim, on tables where the answer is known."""

import math
import re

import numpy as np
import polars as pl
import pytest
from tests.analysis.made import table

from atodds import analysis
from atodds.analysis import Traits
from atodds.studies import claims

NAMES = [f"{family}{k}" for family in ("vgg", "res", "mlp") for k in range(3)]
TRAITS = {name: Traits(name[:3], depth=4 + int(name[3]), size=10 ** (3 + k % 2)) for k, name in enumerate(NAMES)}
N = 40


def line(slope: float, noise: float = 0.0) -> pl.DataFrame:
    """Nine models with errors of 5 to 45 %, whose distance is 5 + slope · ln(error), give or take noise."""
    draw = np.random.default_rng(0)
    found, wrong = {}, {}
    for k, name in enumerate(NAMES):
        bad = 2 * (k + 1)
        middle = 5 + slope * math.log(bad / N) + noise * draw.normal()
        found[name], wrong[name] = [middle + 0.01 * draw.normal() for _ in range(N)], range(bad)
    return table(found, wrong)


@pytest.mark.parametrize(
    ("slope", "noise", "verdict"), [(1.0, 0.0, "holds"), (-1.0, 0.0, "does not hold"), (0.0, 1.0, "cannot be told")]
)
def test_the_line_holds_only_where_its_interval_says_so(slope: float, noise: float, verdict: str) -> None:
    said = claims.linear(analysis.scaling(line(slope, noise), "l2"))
    assert said.verdict == verdict
    assert "9 models" in said.measured
    if not noise:
        told = re.search(r"slope (\S+) ", said.measured)
        assert told is not None
        assert float(told[1].replace("−", "-")) == pytest.approx(slope, abs=0.01)


def test_a_line_that_stands_on_one_model_cannot_be_told() -> None:
    found = {name: [1.0 + 0.01 * k] * N for k, name in enumerate(NAMES)}
    wrong = {name: range(20 + k % 2) for k, name in enumerate(NAMES)}
    found[NAMES[0]], wrong[NAMES[0]] = [0.1] * N, range(1)
    said = claims.linear(analysis.scaling(table(found, wrong), "l2"))
    assert said.verdict == "cannot be told"
    assert NAMES[0] in said.measured


def factors(distance: dict[str, float]) -> analysis.Factors:
    draw = np.random.default_rng(1)
    found = {name: [distance[name] + 0.001 * draw.normal() for _ in range(N)] for name in NAMES}
    return analysis.factors(table(found), "l2", TRAITS)


def test_the_family_explains_more_than_the_size_where_only_families_differ() -> None:
    by_family = factors({name: {"vgg": 1.0, "res": 2.0, "mlp": 3.0}[name[:3]] for name in NAMES})
    assert claims.family_over_size(by_family).verdict == "holds"
    by_size = factors({name: math.log(TRAITS[name].size or 1) for name in NAMES})
    assert claims.family_over_size(by_size).verdict == "does not hold"


def test_deeper_is_more_robust_where_it_is_in_every_family() -> None:
    up = {name: float(TRAITS[name].depth or 0) for name in NAMES}
    assert claims.depth(factors(up)).verdict == "holds"
    assert claims.depth(factors({name: 10 - value for name, value in up.items()})).verdict == "does not hold"
    flat = {name: 1 + (TRAITS[name].depth or 0) % 2 for name in NAMES}
    assert claims.depth(factors({name: float(value) for name, value in flat.items()})).verdict == "cannot be told"


def shown(rate: dict[tuple[str, str], float]) -> pl.DataFrame:
    """A transfer table in which the share of the images that transfer from one family to another is given."""
    rows = []
    for source in NAMES:
        for model in NAMES:
            if source == model:
                continue
            share = rate[source[:3], model[:3]]
            for image in range(N):
                moved = image < share * N
                rows.append(
                    {"source": source, "model": model, "attack": "carlini_wagner", "norm": "l2", "eps": None,
                     "image": image, "label": 0, "clean": 0, "target": None, "source_fooled": True,
                     "source_prediction": 1, "prediction": int(moved), "rank": int(moved), "fooled": moved, "l2": 0.5}
                )  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"eps": pl.Float64, "target": pl.Int32}, infer_schema_length=None)


FAMILIES = ("vgg", "res", "mlp")


def test_transfer_within_families_holds_where_blocks_differ() -> None:
    families = {name: name[:3] for name in NAMES}
    blocks = {(a, b): 0.9 if a == b else 0.1 for a in FAMILIES for b in FAMILIES}
    said = claims.within_family(analysis.transfer(shown(blocks), families=families))
    assert said.verdict == "holds"
    even = {(a, b): 0.5 for a in FAMILIES for b in FAMILIES}
    assert claims.within_family(analysis.transfer(shown(even), families=families)).verdict == "cannot be told"
    inside_out = {(a, b): 0.1 if a == b else 0.9 for a in FAMILIES for b in FAMILIES}
    assert claims.within_family(analysis.transfer(shown(inside_out), families=families)).verdict == "does not hold"


def test_the_best_source_is_a_vgg_only_where_its_interval_says_so() -> None:
    families = {name: name[:3] for name in NAMES}
    for best, verdict in (("vgg", "holds"), ("res", "does not hold"), ("none", "cannot be told")):
        rates = {(a, b): 0.9 if a == best else 0.3 for a in FAMILIES for b in FAMILIES}
        assert claims.best_source(analysis.transfer(shown(rates), families=families)).verdict == verdict
