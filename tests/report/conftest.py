"""A made-up run whose every number is known, large enough for every part of a page."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from atodds.analysis import Traits
from atodds.bounds.schema import SCHEMA
from atodds.evaluation.manifest import DataInfo, Finding, Manifest, ModelInfo
from atodds.evaluation.store import Kept
from atodds.threat import Budget, parse_eps_list

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ATTACKS = ("apgd-ce", "apgd-t", "square")
COSTS = {"apgd-ce": (100, 99), "apgd-t": (900, 891), "square": (5000, 0)}


@dataclass(frozen=True)
class MadeModel:
    """A model by its name, its accuracy, and the typical distance (in 1/255) of its images to the boundary."""

    name: str
    accuracy: float
    typical: float
    parameters: int = 269_722
    source: str = ""


@dataclass(frozen=True, eq=False)
class MadeRun:
    """What a page reads of a run, from memory."""

    manifest: Manifest
    rows: pl.DataFrame
    said: tuple[Finding, ...] = ()
    shown: pl.DataFrame | None = None
    below: pl.DataFrame | None = None

    def table(self) -> pl.DataFrame:
        return self.rows

    def findings(self) -> tuple[Finding, ...]:
        return self.said

    def seconds(self) -> pl.DataFrame:
        of = self.rows.group_by("model", "attack", maintain_order=True)
        return of.agg((pl.col("forwards") + pl.col("backwards")).sum().cast(pl.Float64).mul(1e-4).alias("seconds"))

    def transfers(self) -> pl.DataFrame:
        assert self.shown is not None, "a run without transfers is not asked for them"
        return self.shown

    def bounds(self) -> pl.DataFrame:
        return self.below if self.below is not None else empty_bounds()

    def kept(self, model: str, ids: Sequence[int]) -> Mapping[int, Kept]:
        if not self.manifest.keep:
            return {}
        rows = self.rows.filter((pl.col("model") == model) & pl.col("image").is_in(list(ids)) & pl.col("fooled"))
        found = {}
        for image, distance in rows.group_by("image").agg(pl.col("linf").min()).iter_rows():
            rng = np.random.default_rng(image)
            original = _picture(rng, self.manifest.data.shape)
            step = np.where(rng.random(original.shape) < 0.5, -distance, distance).astype(np.float32)
            found[image] = Kept(original, np.clip(original + step, 0, 1), 0.93, 0.51)
        return found


Make = Callable[..., MadeRun]


def made_run(
    models: Sequence[MadeModel] = (
        MadeModel("resnet20", 0.92, 0.35),
        MadeModel("smallresnet_robust", 0.78, 4.0, 112_006),
    ),
    *,
    n: int = 500,
    classes: Sequence[str] = CLASSES,
    eps: str = "0:8/255:1/255",
    attacks: Sequence[str] = ATTACKS,
    norm: str = "linf",
    shape: tuple[int, int, int] = (3, 32, 32),
    findings: Sequence[Finding] = (),
    alone: bool = False,
    exact: bool = False,
    transfer: bool = False,
    bounds: bool = False,
    **manifest: object,
) -> MadeRun:
    """A run of made-up models.

    An image's distance is log-normal around its model's typical one, farther for classes of higher label. The first
    attack finds it at 1.15 times that distance, the second at 1.03 times, the last one only at it; the table says the
    budget, or with `exact` that distance.
    """
    budgets = parse_eps_list(eps, norm)
    infos = tuple(
        ModelInfo(
            f"{model.name}@{k:08x}", model.name, model.source or f"zoo.py:{model.name}", f"{k:064x}", model.parameters
        )
        for k, model in enumerate(models)
    )
    rows: list[dict[str, object]] = []
    for place, (info, model) in enumerate(zip(infos, models, strict=True)):
        rows += _verdicts(info.id, model, place, n, len(classes), budgets, attacks, norm, alone, exact)
    described = Manifest(
        models=infos,
        data=DataInfo("cifar10", "test", f"balanced {n}", "d" * 64, n, tuple(classes), shape),
        norm=norm,
        budgets=budgets,
        attacks=tuple(attacks),
        alone=alone,
        seed=0,
        precision="full",
        eot=1,
        keep=True,
        jobs=(),
        transfers=("0" * 32,) if transfer else (),
        looks=(),
        batch_sizes={},
        channels_last={},
        in_part={},
        outputs={},
        random=(),
        command="atodds bench zoo.py:resnet20 zoo.py:smallresnet_robust --data cifar10 --eps 0:8/255:1/255",
        commit="a17c1a0" * 5 + "a17c1",
        versions={"atodds": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6"},
        machine={"device": "cpu", "processor": "made up", "cores": "2", "system": "Linux x86_64"},
        created="2026-10-25T09:00:00+00:00",
    )
    table = pl.DataFrame(rows, schema_overrides={"target": pl.Int32}, infer_schema_length=None)
    shown = _transfers(infos, table) if transfer else None
    below = _bounds(infos, table, norm) if bounds else None
    return MadeRun(replace(described, **manifest), table, tuple(findings), shown, below)  # type: ignore[arg-type]


def empty_bounds() -> pl.DataFrame:
    """The table of a run that was not asked for lower bounds."""
    return pl.DataFrame(pl.from_arrow(SCHEMA.empty_table()))


def _bounds(infos: Sequence[ModelInfo], rows: pl.DataFrame, norm: str) -> pl.DataFrame:
    """Estimates of 0.6 times the distance, and 1.2 times for every 50th image; and certificates in l2 for the first
    model."""
    made = []
    for place, info in enumerate(infos):
        mine = rows.filter(pl.col("model") == info.id)
        for method, certified in (("clever", False), ("smoothing(sigma=0.25)", True))[: 2 if place == 0 else 1]:
            column = "l2" if certified else norm
            nearest = mine.group_by("image", maintain_order=True).agg(pl.col(column).min(), pl.col("label").first())
            for image, away, label in nearest.iter_rows():
                lower = (1.2 if image % 50 == 7 else 0.6) * (away if math.isfinite(away) else 0.05)
                made.append(
                    {"model": info.id, "data": "cifar10@dddddddd", "image": image, "label": label, "prediction": label,
                     "norm": column, "method": method, "certified": certified, "target": None, "lower": lower,
                     "low": 0.8 * lower, "high": 1.1 * lower, "radius": None, "p_value": 0.4, "endless": False,
                     "forwards": 900, "backwards": 0 if certified else 900, "seed": 0}
                )  # fmt: skip
    return pl.DataFrame(made, schema=empty_bounds().schema)


def _transfers(infos: Sequence[ModelInfo], rows: pl.DataFrame) -> pl.DataFrame:
    """What fooled one model fools another 7 times in 10 where their names begin with the same word, else 3 times."""
    rng = np.random.default_rng(7)
    found = rows.filter((pl.col("attack") != "clean") & pl.col("fooled"))
    clean = {info.id: rows.filter((pl.col("model") == info.id) & (pl.col("attack") == "clean")) for info in infos}
    parts = []
    for source in infos:
        mine = found.filter(pl.col("model") == source.id).rename({"model": "source", "prediction": "source_prediction"})
        for model in infos:
            if model is not source:
                near = model.name.partition("-")[0] == source.name.partition("-")[0]
                changed = pl.Series("changed", rng.random(mine.height) < (0.7 if near else 0.3))
                seen = mine.drop("clean").join(clean[model.id].select("image", "clean"), on="image", how="left")
                answer = pl.when(changed).then(pl.col("clean") + 1).otherwise("clean")
                parts.append(
                    seen.with_columns(model=pl.lit(model.id), source_fooled=True, prediction=answer, rank=pl.lit(0))
                )
    return pl.concat(parts)


def _verdicts(
    model: str, made: MadeModel, seed: int, n: int, classes: int, budgets: Sequence[Budget], attacks: Sequence[str],
    norm: str, alone: bool, exact: bool,
) -> list[dict[str, object]]:  # fmt: skip
    rng = np.random.default_rng(100 + seed)
    rows: list[dict[str, object]] = []
    for image in range(n):
        label = image % classes
        wrong = rng.random() > made.accuracy
        distance = made.typical / 255 * math.exp(rng.normal(0, 0.8)) * (0.5 + label / classes)
        clean = (label + 1) % classes if wrong else label
        same = {
            "model": model,
            "data": "cifar10@dddddddd",
            "image": image,
            "label": label,
            "clean": clean,
            "norm": norm,
        }

        def verdict(
            attack: str, eps: float, at: float, passes: tuple[int, int], same: dict[str, object] = same
        ) -> None:
            fooled = math.isfinite(at)
            far = {"l0": 3072.0 if fooled else math.inf, "l1": at * 3072, "l2": at * math.sqrt(3072), "linf": at}
            rows.append(
                same
                | {"attack": attack, "eps": eps, "target": None, "prediction": (int(str(same["label"])) + 1) % classes}
                | {"fooled": fooled, **far, "forwards": passes[0], "backwards": passes[1], "seed": 0}
            )

        verdict("clean", 0.0, 0.0 if wrong else math.inf, (1, 0))
        done: set[str] = set()
        for budget in budgets[0 if budgets[0].value else 1 :]:
            for attack, slack in zip(attacks, (1.15, 1.03, 1.0), strict=False):
                if wrong or attack in done:
                    continue
                hit = distance * slack <= budget.value
                verdict(
                    attack,
                    budget.value,
                    (distance * slack if exact else budget.value) if hit else math.inf,
                    COSTS.get(attack, (20, 20)),
                )
                if hit:
                    done |= {attack} if alone else set(attacks)
    return rows


def _picture(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    """A smooth picture: waves of a few colours."""
    channels, height, width = shape
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(rng.uniform(2, 9) * x + rng.uniform(2, 9) * y + rng.uniform(0, 6)) for _ in range(channels)]
    return (0.5 + 0.4 * np.stack(waves)).astype(np.float32)


@pytest.fixture(scope="session")
def make() -> Make:
    """Makes runs: `make(models, n=..., classes=..., eps=..., ...)`."""
    return made_run


@pytest.fixture(scope="session")
def model() -> type[MadeModel]:
    """Describes a made-up model: `model(name, accuracy, typical distance in 1/255)`."""
    return MadeModel


FAMILIES = {name: Traits(name.partition("-")[0], depth, 1000 * depth) for name, depth in
            (("cnn-8", 8), ("cnn-14", 14), ("mlp-2", 2), ("mlp-3", 3), ("vgg-11", 11))}  # fmt: skip
"""The models of `many`, with what they are."""


@pytest.fixture(scope="session")
def many() -> MadeRun:
    """Five models of three families, the third a mixture of the first and the last, 200 images, 8 budgets, 2 attacks,
    each alone, and transfers."""
    mixed = "mix(cnn-8@00000000,vgg-11@00000004,0.5)"
    models = [
        MadeModel(name, 0.75 + 0.04 * k, 2.0 - 0.3 * k, source=mixed if k == 2 else "")
        for k, name in enumerate(FAMILIES)
    ]
    return made_run(
        models,
        n=200,
        eps="1/255:8/255:1/255",
        attacks=("pgd", "square"),
        alone=True,
        exact=True,
        transfer=True,
        bounds=True,
    )


@pytest.fixture(scope="session")
def traits() -> dict[str, Traits]:
    """Family, depth and size of the models of `many`."""
    return FAMILIES


@pytest.fixture(scope="session")
def run() -> MadeRun:
    """Two models, 10 classes, 500 images, 9 budgets, 3 attacks."""
    return made_run()


class Page(HTMLParser):
    """A page as a list of elements with their attributes, and the text of its parts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "every element that is opened is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag not in ("meta", "link", "img", "input", "br", "wbr"):
            self._open.append(f"{tag}#{found['id']}" if "id" in found else tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().partition("#")[0] == tag, f"{tag} is closed in its place"

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self._open), data))

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of a kind."""
        return [found for name, found in self.elements if name == tag]

    def within(self, part: str) -> str:
        """The text inside every element that is called so ("section#audit", "script"), with plain spaces."""
        return " ".join(
            "".join(text for inside, text in self.texts if part in inside).replace("\N{NO-BREAK SPACE}", " ").split()
        )


@pytest.fixture(scope="session")
def read() -> type[Page]:
    """Reads HTML: `read(html)`."""
    return Page
