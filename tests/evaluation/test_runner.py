"""On a model whose every verdict is known in closed form, the table is exactly that."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor, nn

import atodds
from atodds.attacks import registry
from atodds.data import ImageSet
from atodds.evaluation import progress
from atodds.evaluation.plan import Lane
from atodds.evaluation.runner import Progress
from atodds.threat import Threat

Greys = Callable[..., ImageSet]
LIGHT, DARK = 0, 1
LEVELS = (128, 129, 131, 126, 100, 128, 255)
LABELS = (LIGHT, LIGHT, LIGHT, DARK, DARK, DARK, LIGHT)  # the sixth is misclassified
IDS = (7, 2**40, 3, 2**31, 5, 0, 1)
HALVES = (1, 3, 7, 3, 55, 0, 255)  # how far each is from the boundary in l-inf, in 1/510
SCALE = {"linf": 1.0, "l2": 1.8, "l1": 2.25}  # the same in other norms


def evaluated(
    model: nn.Module,
    images: ImageSet,
    norm: str,
    eps: Sequence[int],
    attacks: str,
    *,
    alone: bool = False,
    chunk: int = 3,
) -> pl.DataFrame:
    """The attacked rows of a run, with eps in 1/255 of l-inf."""
    budgets = [f"{SCALE[norm] * k:g}/255" for k in eps]
    run = atodds.evaluate(
        model, images, norm=norm, eps=budgets, attacks=attacks, alone=alone, chunk=chunk, batch_size=2
    )
    table = run.table
    clean = table.filter(pl.col("attack") == "clean")
    assert clean["image"].to_list() == images.ids.tolist()
    assert clean["fooled"].to_list() == [half == 0 for half in HALVES]
    assert clean[norm].to_list() == [0.0 if half == 0 else float("inf") for half in HALVES]
    assert (clean["forwards"] == 1).all()
    assert (clean["backwards"] == 0).all()
    for budget, k in zip(budgets, eps, strict=True):
        standing = sum(half > 2 * k for half in HALVES)
        assert run.robust_accuracy(budget).value == standing / len(HALVES)
    assert run.accuracy.value == 6 / 7
    return table.filter(pl.col("attack") != "clean").with_columns(
        (pl.col("eps") * 255 / SCALE[norm]).round(9).alias("k")
    )


@pytest.mark.parametrize("norm", SCALE)
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_table_of_one_attack_is_the_closed_form(brightness: nn.Module, greys: Greys, norm: str, chunk: int) -> None:
    """At each eps, exactly the images that no smaller eps has fooled are attacked; the nearer ones fall, at distance
    eps exactly, by two forward passes and a backward one."""
    images, steps = greys(LEVELS, LABELS, IDS), (1, 2, 4)
    found = evaluated(brightness, images, norm, steps, "fgsm", chunk=chunk)
    expected = []
    for before, k in zip((0, *steps), steps, strict=False):
        for image, label, half in zip(IDS, LABELS, HALVES, strict=True):
            if half > 2 * before and half > 0:
                hit = half <= 2 * k
                distance = SCALE[norm] * k / 255 if hit else float("inf")
                expected.append((image, label, float(k), 1 - label if hit else label, hit, distance, 2, 1))
    columns = found.select("image", "label", "k", "prediction", "fooled", norm, "forwards", "backwards")
    assert [row[:5] + row[6:] for row in sorted(columns.rows())] == [row[:5] + row[6:] for row in sorted(expected)]
    assert [row[5] for row in sorted(columns.rows())] == pytest.approx([row[5] for row in sorted(expected)], rel=1e-12)
    assert (found["clean"] == found["label"]).all()


def test_all_four_distances_are_told(brightness: nn.Module, greys: Greys) -> None:
    found = evaluated(brightness, greys(LEVELS, LABELS, IDS), "linf", (1, 2, 4), "fgsm").filter(pl.col("fooled"))
    for name, factor in (("linf", 1), ("l2", 2), ("l1", 4)):  # FGSM in l-inf moves four pixels by eps
        assert found[name].to_list() == pytest.approx((found["k"] * factor / 255).to_list(), rel=1e-12)
    assert found["l0"].to_list() == [4.0] * found.height


def attacked(found: pl.DataFrame, attack: str, k: int) -> list[int]:
    return sorted(found.filter((pl.col("attack") == attack) & (pl.col("k") == k))["image"].to_list())


def those(keep: Callable[[int], bool]) -> list[int]:
    return sorted(image for image, half in zip(IDS, HALVES, strict=True) if half > 0 and keep(half))


def test_in_a_cascade_each_attack_gets_what_none_before_it_fooled(brightness: nn.Module, greys: Greys) -> None:
    found = evaluated(brightness, greys(LEVELS, LABELS, IDS), "linf", (1, 4), "fgsm,pgd")
    assert attacked(found, "fgsm", 1) == those(lambda _: True)
    assert attacked(found, "pgd", 1) == attacked(found, "fgsm", 4) == those(lambda half: half > 2)
    assert attacked(found, "pgd", 4) == those(lambda half: half > 8)
    assert found.filter(pl.col("fooled"))["attack"].unique().to_list() == ["fgsm"]
    assert found.filter(pl.col("fooled"))["image"].is_unique().all()


def test_alone_each_attack_gets_what_it_has_not_fooled_itself(brightness: nn.Module, greys: Greys) -> None:
    found = evaluated(brightness, greys(LEVELS, LABELS, IDS), "linf", (1, 4), "fgsm,pgd", alone=True)
    for attack in ("fgsm", "pgd"):
        assert attacked(found, attack, 1) == those(lambda _: True)
        assert attacked(found, attack, 4) == those(lambda half: half > 2)
        fooled = found.filter(pl.col("fooled") & (pl.col("attack") == attack))["image"]
        assert sorted(fooled.to_list()) == those(lambda half: half <= 8)


def test_alone_the_worst_case_is_the_same_as_in_a_cascade(trained: nn.Module, digits: ImageSet) -> None:
    attacks, eps = "random_noise(queries=3),fgsm,pgd(steps=5)", "0:0.2:0.05"
    together = atodds.evaluate(trained, digits, eps=eps, attacks=attacks, batch_size=64)
    alone = atodds.evaluate(trained, digits, eps=eps, attacks=attacks, batch_size=64, alone=True)
    assert together.curve().rates == alone.curve().rates
    assert alone.table.height > together.table.height
    values = [rate.value for rate in together.curve().rates]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.9 > values[-1]


def test_an_attack_that_claims_too_much_is_judged_by_what_it_shows(
    brightness: nn.Module, greys: Greys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proposals outside the box count for nothing, and those outside the ball only where their distance says."""

    def cheat(_: object, images: Tensor, labels: Tensor, threat: Threat, **_k: object) -> Tensor:
        """Cheat."""
        del threat
        away = torch.where(labels == LIGHT, -1.0, 1.0)[:, None, None, None].to(images)
        return torch.stack(
            [
                image + way * (2.0 if k == 0 else 8 / 255)
                for k, (image, way) in enumerate(zip(images, away, strict=True))
            ]
        )

    monkeypatch.setitem(registry.ATTACKS, "fgsm", replace(registry.ATTACKS["fgsm"], function=cheat))
    run = atodds.evaluate(brightness, greys((128, 129, 130), (LIGHT,) * 3), eps="1/255,8/255", attacks="fgsm", chunk=10)
    rows = run.table.filter((pl.col("attack") == "fgsm") & (pl.col("eps") < 2 / 255))
    assert rows["fooled"].to_list() == [False, True, True]
    assert run.robust_accuracy("1/255").value == 1
    assert run.robust_accuracy("7/255").value == 1
    assert run.robust_accuracy("8/255").value == pytest.approx(1 / 3)


def test_an_image_that_fell_outside_of_the_ball_is_attacked_again(
    brightness: nn.Module, greys: Greys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the distance in the norm that is attacked: here 16/255 in l2, though 8/255 in l-inf."""

    def far(_: object, images: Tensor, *_more: object, **_settings: object) -> Tensor:
        """Go far."""
        return images - 8 / 255

    monkeypatch.setitem(registry.ATTACKS, "fgsm", replace(registry.ATTACKS["fgsm"], function=far))
    images = greys((128, 129), (LIGHT, LIGHT))
    run = atodds.evaluate(brightness, images, norm="l2", eps="5/255,10/255,16/255,20/255", attacks="fgsm")
    attacked = run.table.filter(pl.col("attack") == "fgsm").group_by("eps").len().sort("eps")
    assert attacked["len"].to_list() == [2, 2]
    assert [rate.value for rate in run.curve().rates] == [1, 1, 0, 0]


def test_every_pass_over_a_random_model_is_counted(brightness: nn.Module, greys: Greys) -> None:
    run = atodds.evaluate(brightness, greys(LEVELS, LABELS, IDS), eps="1/255", attacks="fgsm", eot=3)
    rows = run.table.filter(pl.col("attack") == "fgsm")
    assert set(rows["forwards"]) == {3 + 1}  # and one of the judge
    assert set(rows["backwards"]) == {3}


class Watched(nn.Module):
    """Counts the passes that ran in reduced precision, and those that did not. No image within reach fools it, so none
    leaves early."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.01], [-0.01]]).expand(2, 4))
            self.layer.bias.copy_(torch.tensor([1.0, 0.0]))
        self._reduced = [0, 0]

    def forward(self, images: Tensor) -> Tensor:
        self._reduced[torch.is_autocast_enabled("cpu")] += 1
        logits: Tensor = self.layer(images.flatten(1))
        return logits


@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_attacks_run_in_the_precision_asked_for_and_the_judge_does_not(greys: Greys, precision: str | None) -> None:
    model = Watched()
    images = greys((10, 200), (LIGHT, LIGHT))
    images = ImageSet.from_arrays(images.pixels(), model(images.images()).argmax(1), classes=("a", "b"))
    run = atodds.evaluate(
        model, images, eps="0.1", attacks="pgd(steps=4,stop=False)", precision=precision, batch_size=2
    )
    full, reduced = model._reduced
    assert run.store.manifest.precision == (precision or "full")
    assert reduced == (5 + 21 if precision else 0)  # the attack, and the audit that compares
    assert full > 5


@pytest.mark.parametrize(
    ("levels", "labels", "eps", "standing"),
    [
        ((128,), (LIGHT,), "1/255", 0.0),
        ((255,), (LIGHT,), "1/255", 1.0),
        ((128, 127), (DARK, LIGHT), "1/255", 0.0),
        ((128, 129), (LIGHT, LIGHT), "0", 1.0),
        ((128, 129), (DARK, LIGHT), "0", 0.5),
    ],
    ids=["one image", "one robust image", "all misclassified", "no budget but 0", "0 and a misclassified image"],
)
def test_small_runs(
    brightness: nn.Module, greys: Greys, levels: Sequence[int], labels: Sequence[int], eps: str, standing: float
) -> None:
    for alone in (False, True):
        run = atodds.evaluate(brightness, greys(levels, labels), eps=eps, attacks="fgsm,pgd", alone=alone)
        assert run.store.complete
        assert run.robust_accuracy(eps).value == standing
        assert run.table.filter(pl.col("attack") == "clean").height == len(levels)
        assert run.attack_shares().standing[0].value == standing


def test_what_is_finished_is_not_done_again(
    brightness: nn.Module, greys: Greys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run tells each pass and each job once; the second tells the jobs, and makes no pass."""
    told = Told()
    monkeypatch.setattr(progress, "bar", told.bar)
    images = greys(LEVELS, LABELS, IDS)

    def run() -> atodds.Run:
        return atodds.evaluate(
            brightness, images, eps="1/255,4/255", attacks="fgsm,pgd", chunk=3, batch_size=2, out=tmp_path, keep=False
        )

    first = run()
    assert told.jobs == [(key, False) for key in first.store.manifest.jobs]
    assert told.passes == [first.table["forwards"].sum(), first.table["backwards"].sum()]
    told.jobs, told.passes = [], [0, 0]
    second = run()
    assert told.jobs == [(key, True) for key in first.store.manifest.jobs]
    assert told.passes == [0, 0]
    assert second.table.equals(first.table)
    assert second.audit == first.audit


class Told:
    """Stands in for the progress bar."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, bool]] = []
        self.passes = [0, 0]

    @contextmanager
    def bar(self, lanes: Sequence[Lane], _transfers: object, *, shown: bool | None) -> Iterator[Progress]:
        del lanes, shown
        yield Progress(passes=self.count, job=lambda job, there: self.jobs.append((job.key, there)))

    def count(self, forwards: int, backwards: int) -> None:
        self.passes = [self.passes[0] + forwards, self.passes[1] + backwards]


def test_kept_images_are_those_that_were_judged(trained: nn.Module, digits: ImageSet) -> None:
    run = atodds.evaluate(trained, digits, eps="0.05,0.1", attacks="fgsm,pgd(steps=5)", keep=True, chunk=40)
    fooled = run.table.filter(pl.col("fooled") & (pl.col("attack") != "clean"))
    kept = run.store.kept(run.models[0].info.id, digits.ids.tolist())
    assert sorted(kept) == sorted(fooled["image"].to_list())
    rows = {row["image"]: row for row in fooled.iter_rows(named=True)}
    place = {image: row for row, image in enumerate(digits.ids.tolist())}
    for image, found in kept.items():
        assert (found.original == digits.images([place[image]])[0].numpy()).all()
        assert abs(found.proposal - found.original).max() == pytest.approx(rows[image]["linf"], rel=1e-5)
        proposal = torch.from_numpy(found.proposal.copy())[None].double()
        logits = trained(proposal)[0].detach()
        assert int(logits.argmax()) == rows[image]["prediction"]
        assert float(logits.softmax(0).max()) == pytest.approx(found.confidence, abs=1e-5)
