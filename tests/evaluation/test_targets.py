"""Attacks that head for a class, and attacks that know no budget, each answer a question of their own."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, nn

import atodds
from atodds import analysis, norms
from atodds.attacks import registry, target_classes
from atodds.data import ImageSet
from atodds.evaluation import audit, battery

Greys = Callable[..., ImageSet]


@pytest.fixture(autouse=True)
def _no_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit has tests of its own, and takes longer than all that is done here."""
    monkeypatch.setattr(audit, "before", lambda *_: ())
    monkeypatch.setattr(battery, "battery", lambda *_, **_more: ())


class Places(nn.Module):
    """Class k for an image whose brightness is nearest to the k-th of some places, in float64: on a line, an attack in
    linf has to go just to the middle between two places."""

    places: Tensor

    def __init__(self, places: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("places", torch.tensor(places, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return -(images.flatten(1).mean(1, keepdim=True) - self.places).square()


LEVELS = (100, 110, 90, 128)  # the last is misclassified
LABELS = (1, 1, 1, 1)
PLACES = (0.2, 0.4, 0.5, 0.9)
"""Left of the label 0.2, to the right of it 0.5 and 0.9: the boundaries are at 0.3, 0.45 and, behind 0.5, 0.7."""


@pytest.fixture
def line(greys: Greys) -> tuple[nn.Module, ImageSet]:
    images = greys(LEVELS, LABELS, (4, 9, 2, 7))
    return Places(PLACES), ImageSet.from_arrays(
        images.pixels(), LABELS, ids=images.ids, classes=("a", "b", "c", "d"), name="line"
    )


def table(model: nn.Module, images: ImageSet, **settings: object) -> pl.DataFrame:
    usual: dict[str, object] = {"eps": "0.3", "batch_size": 2, "keep": False}
    return atodds.evaluate(model, images, **(usual | settings)).table  # type: ignore[arg-type]


STEPS = "steps=60,step_size=0.005,random_start=False,loss=margin"


def test_the_column_target_says_the_class_and_fooled_that_it_was_reached(line: tuple[nn.Module, ImageSet]) -> None:
    model, images = line
    attacks = [f"pgd({STEPS},target={mode})" for mode in ("least-likely", "second", "random")]
    found = table(model, images, attacks=attacks)
    logits, labels = model(images.images().double()), torch.from_numpy(images.labels)
    right = [4, 9, 2]
    for attack, mode in zip(attacks, ("least-likely", "second", "random"), strict=True):
        rows = found.filter(pl.col("attack") == attack)
        wanted = target_classes(logits, labels, mode, ids=torch.from_numpy(images.ids), seed=0)
        expected = dict(zip(images.ids.tolist(), wanted.tolist(), strict=True))
        assert {row["image"]: row["target"] for row in rows.to_dicts()} == {image: expected[image] for image in right}
        assert rows["fooled"].equals((rows["prediction"] == rows["target"]).alias("fooled"))
        assert (rows["rank"] == 0).equals(rows["fooled"].alias("rank"))
    assert found.filter(pl.col("attack") == "clean")["target"].is_null().all()
    second = found.filter(pl.col("attack") == attacks[1])
    assert second["fooled"].all()
    assert second["linf"].max() == pytest.approx(0.45 - 90 / 255, abs=0.005)  # as far as the boundary to 0.5


def test_a_missed_target_that_is_another_wrong_class_counts_against_robustness(
    line: tuple[nn.Module, ImageSet],
) -> None:
    """Towards 0.9 within 0.1 every image passes the boundary to 0.5, and reaches nothing else."""
    model, images = line
    attacks = f"pgd({STEPS},stop=False,target=least-likely)"
    run = atodds.evaluate(model, images, eps="0.03,0.1", attacks=attacks, batch_size=2, keep=True)
    rows = run.table.filter(pl.col("attack") != "clean")
    assert not rows["fooled"].any()
    assert (rows["target"] == 3).all()
    assert rows.filter(pl.col("prediction") == 2)["linf"].is_finite().all()
    assert rows.filter(pl.col("prediction") == 1)["linf"].is_infinite().all()
    assert sorted(rows["eps"]) == [0.03] * 3 + [0.1] * 3  # not done with an image that it made something else of
    assert (rows["rank"] >= 1).all()
    assert run.robust_accuracy(0.1).value == 0
    assert run.robust_accuracy(0.03).value == 2 / 4
    assert run.attack_shares().attacks[0].added[1].value == 3 / 4
    (told,) = run.distances()
    assert (told.success.value, told.success.n, told.target) == (0, 3, "least-likely")
    model_id = run.models[0].info.id
    assert sorted(run.store.kept(model_id, images.ids.tolist())) == [2, 4, 9]  # the page can show what counted
    assert analysis.distances(run.table, model_id, "linf").values.max() < 0.11


def test_what_others_found_hides_no_image_from_a_targeted_attack_and_the_other_way_round_it_counts(
    line: tuple[nn.Module, ImageSet],
) -> None:
    model, images = line
    aimed = f"pgd({STEPS},target=second)"
    apart = table(model, images, attacks=aimed).filter(pl.col("attack") == aimed)
    behind = table(model, images, attacks=f"fgsm,{aimed},ifgsm")
    assert apart.height == 3
    assert behind.filter(pl.col("attack") == aimed).equals(apart)
    assert behind.filter(pl.col("attack") == "ifgsm").is_empty()
    assert behind.filter(pl.col("attack") == "fgsm").height == 3


def test_a_targeted_attack_leaves_out_what_has_reached_its_target_at_a_smaller_eps(
    line: tuple[nn.Module, ImageSet],
) -> None:
    model, images = line
    aimed = f"pgd({STEPS},target=second)"
    found = table(model, images, attacks=f"fgsm,{aimed}", eps="0.03,0.07,0.3").filter(pl.col("attack") == aimed)
    tried = {image: sorted(rows["eps"]) for (image,), rows in found.group_by("image")}
    assert tried == {9: [0.03], 4: [0.03, 0.07], 2: [0.03, 0.07, 0.3]}


def test_attacks_that_adapt_find_the_level_of_each_target_by_themselves(trained: nn.Module, digits: ImageSet) -> None:
    attacks = "auto_pgd(steps=10),auto_pgd(steps=10,target=second)"
    found = table(trained, digits.take(range(30)), attacks=attacks, eps="0.02:0.14:0.02", batch_size=64)
    aimed = found.filter(pl.col("attack").str.contains("target"))
    right = found.filter(pl.col("attack") == "clean", ~pl.col("fooled"))["image"]
    assert aimed["image"].unique().sort().equals(right.sort())
    for _, rows in aimed.group_by("image"):
        assert rows["eps"].is_unique().all()
        assert 0.14 in rows["eps"].round(9)
        failed = rows.filter(~pl.col("fooled"))["eps"].max()
        reached = rows.filter("fooled")["linf"].min()
        if isinstance(failed, float) and isinstance(reached, float):
            assert failed <= reached  # it failed just below the nearest success


ATTACKS = (
    "pgd(steps=4,target=random),nearest,auto_pgd(steps=4,target=least-likely),fgsm,nearest(classes=2,target=second)"
)


@pytest.fixture
def nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAB as a minimum-norm attack: "nearest"."""
    attack = registry.ATTACKS["fab"]

    def sought(model: object, images: Tensor, labels: Tensor, norm: str, *, targets: Tensor | None = None,
               ids: Tensor | None = None, seed: int = 0, steps: int = 4, classes: int = 1) -> Tensor:  # fmt: skip
        """Seek."""
        assert isinstance(norm, str)
        return attack.function(
            model, images, labels, norm, targets=targets, ids=ids, seed=seed, steps=steps, classes=classes
        )

    made = registry.Attack("nearest", sought, 1, lambda _: 50, minimum_norm=True)
    monkeypatch.setitem(registry.ATTACKS, "nearest", made)


@pytest.mark.usefixtures("nearest")
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("changed", [{"batch_size": 7}, {"chunk": 5}])
def test_verdicts_do_not_depend_on_batches_and_jobs(
    trained: nn.Module, digits: ImageSet, norm: str, changed: dict[str, int]
) -> None:
    few, eps = digits.take(range(16)), {"linf": "0.03,0.06", "l2": "0.3,0.5", "l1": "1,1.5"}[norm]
    settings: dict[str, object] = {"attacks": ATTACKS, "norm": norm, "eps": eps, "batch_size": 64}
    expected = table(trained, few, **settings).sort("image", "attack", "eps")
    found = table(trained, few, **(settings | changed)).sort("image", "attack", "eps")
    exact = ["l0", "l1", "l2", "linf"]
    assert_frame_equal(found.drop(exact), expected.drop(exact))
    assert_frame_equal(found.select(exact), expected.select(exact), rel_tol=1e-6, abs_tol=0)
    assert expected["target"].n_unique() > 5
    assert expected.filter(pl.col("eps").is_null())["attack"].n_unique() == 2


@pytest.mark.usefixtures("nearest")
def test_a_run_that_lost_any_of_its_results_ends_the_same(trained: nn.Module, digits: ImageSet, tmp_path: Path) -> None:
    few = digits.take(range(16))

    def again() -> pl.DataFrame:
        return table(trained, few, attacks=ATTACKS, eps="0.03,0.06", chunk=8, batch_size=64, out=tmp_path, keep=True)

    expected = again()
    jobs = sorted((tmp_path / "jobs").iterdir())
    assert len(jobs) > 30
    for start in range(2):
        for job in jobs[start::2]:
            job.unlink(missing_ok=True)
        assert_frame_equal(again(), expected)


@pytest.mark.usefixtures("nearest")
def test_a_minimum_norm_attack_runs_once_on_every_image_and_curves_may_ask_for_any_eps(
    trained: nn.Module, digits: ImageSet
) -> None:
    few = digits.take(range(40))
    run = atodds.evaluate(
        trained, few, norm="l2", eps="0.2,0.4", attacks="fgsm,nearest(steps=10),auto_pgd(steps=5)", batch_size=64
    )
    alone = atodds.evaluate(trained, few, norm="l2", eps="0.3", attacks="nearest(steps=10)", batch_size=64)
    name = "nearest(steps=10)"
    mine, theirs = (one.table.filter(pl.col("attack") == name) for one in (run, alone))
    assert mine.equals(theirs)
    assert mine["eps"].is_null().all()
    right = few.ids[trained(few.images().double()).argmax(1).numpy() == few.labels].tolist()
    assert mine["image"].to_list() == right
    assert mine["fooled"].all()
    (found,) = alone.distances()
    assert found.success.value == 1
    assert found.l2 is not None
    assert found.l2.mean == pytest.approx(mine["l2"].mean())
    for eps in (0.1, 0.35, 0.9, 2.5):  # wherever curves are read
        standing = (mine["l2"] > eps * (1 + 1e-6)).sum() / len(few)
        assert alone.robust_accuracy(eps).value == standing
        assert run.robust_accuracy(eps).value <= standing
    later = run.table.filter(pl.col("attack") == "auto_pgd(steps=5)")
    for row in later.to_dicts():  # what it found counts for what comes after it
        assert mine.filter(pl.col("image") == row["image"])["l2"].item() > row["eps"]


@pytest.mark.usefixtures("nearest")
def test_a_minimum_norm_attack_takes_the_place_of_the_search_for_the_closest(
    trained: nn.Module, digits: ImageSet
) -> None:
    few = digits.take(range(20))
    first = table(trained, few, eps="0.02:0.1:0.02", attacks="nearest,auto_pgd(steps=5)", batch_size=64)
    assert first["attack"].unique(maintain_order=True).to_list() == ["clean", "nearest", "auto_pgd(steps=5)"]
    other = table(trained, few, eps="0.02:0.1:0.02", attacks="auto_pgd(steps=5),nearest", batch_size=64)
    assert "fab(steps=10,classes=1,enough=0.02)" in other["attack"].to_list()
    aimed = "nearest(target=second),auto_pgd(steps=5)"
    third = table(trained, few, eps="0.02:0.1:0.02", attacks=aimed, batch_size=64)
    assert "fab(steps=10,classes=1,enough=0.02)" in third["attack"].to_list()


def test_a_run_with_budgets_only_says_nothing_beyond_them(line: tuple[nn.Module, ImageSet]) -> None:
    model, images = line
    run = atodds.evaluate(model, images, eps="0.02,0.04", attacks="fab", batch_size=2)
    with pytest.raises(atodds.errors.ThreatError, match="no attack of this run went beyond"):
        run.robust_accuracy(0.3)  # the search for the closest is not an attack of the list


def test_a_norm_that_an_attack_does_not_work_in_is_refused_with_the_way_out(line: tuple[nn.Module, ImageSet]) -> None:
    model, images = line
    with pytest.raises(atodds.errors.ArgumentError, match=r"does not work in l2\. It works in linf: ask for that norm"):
        table(model, images, attacks="ifgsm_search", norm="l2", eps="0.5")


def test_distances_over_common_images_are_over_the_same(trained: nn.Module, digits: ImageSet) -> None:
    few = digits.take(range(60))
    head = nn.Linear(64, 10).double()
    with torch.no_grad():
        head.weight.copy_(_means(few))
        head.bias.copy_(-_means(few).square().sum(1) / 2)
    weak = nn.Sequential(nn.Flatten(), head)
    run = atodds.evaluate(
        {"trained": trained, "weak": weak}, few, eps="0.05", attacks="fgsm(loss=margin)", alone=True, batch_size=64
    )
    right = [
        {row["image"] for row in run.table.filter(pl.col("attack") == "clean", ~pl.col("fooled")).to_dicts()
         if row["model"] == result.info.id}
        for result in run.models
    ]  # fmt: skip
    common = run.common_images()
    assert set(common.tolist()) == right[0] & right[1] != right[0]
    assert run.common_images(["weak"]).tolist() == sorted(right[1])
    for result in run.models:
        (found,) = result.distances(images=common)
        assert (found.success.n, found.on_all) == (len(common), True)
        assert found.success.value < 1 or math.isfinite(float(found.linf or 0))


def _means(images: ImageSet) -> Tensor:
    """(10, D) the mean image of each class."""
    flat, labels = images.images().double().flatten(1), torch.from_numpy(images.labels)
    return torch.stack([flat[labels == label].mean(0) for label in range(10)])


def test_distances_are_those_of_the_norms(line: tuple[nn.Module, ImageSet]) -> None:
    model, images = line
    run = atodds.evaluate(model, images, eps="0.3", attacks="fgsm", batch_size=2, keep=True)
    (found,) = run.distances()
    kept = run.store.kept(run.models[0].info.id, images.ids.tolist())
    delta = torch.stack([torch.from_numpy(one.proposal - one.original) for one in kept.values()]).double()
    for norm in ("l1", "l2", "linf"):
        mean = float(norms.length(delta, norm).mean())
        assert float(found.of(norm) or 0) == pytest.approx(mean, rel=1e-5)
