"""A run of two models under the standard ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from atodds.attacks.registry import parse

if TYPE_CHECKING:
    from tests.report.conftest import MadeModel, MadeRun, Make

HOSTILE = '../"a": |\n- <b>`*x*`</b> \\ {{ 7 }} \u202e #'
"""A name that tries to be a path, a key, a line, a tag and an escape at once."""


@pytest.fixture(scope="session")
def standard(make: Make, model: type[MadeModel]) -> MadeRun:
    """100 images, 3 budgets; the second model has a hostile name."""
    attacks = [spec.name for spec in parse("standard", "linf", 10)][:3]
    whole = make(
        [model("plain", 0.9, 0.5), model(HOSTILE, 0.8, 4.0)], n=100, eps="0,1/255,8/255", attacks=attacks, keep=False
    )
    every = tuple(spec.name for spec in parse("standard", "linf", 10))
    from dataclasses import replace

    return replace(whole, manifest=replace(whole.manifest, attacks=every))
