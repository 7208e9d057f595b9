"""Where attacks adapt to the ball, every image is decided at every eps from its closest fooling image down."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, nn

import atodds
from atodds.data import ImageSet
from atodds.evaluation.plan import closest
from atodds.evaluation.store import Store
from atodds.threat import SLACK, parse_eps_list

Greys = Callable[..., ImageSet]
ATTACKS = "auto_pgd(steps=6),auto_pgd_targeted(steps=5,classes=2),square(queries=20)"
NAMES = ("auto_pgd(steps=6)", "auto_pgd_targeted(steps=5,classes=2)", "square(queries=20)")
EPS = {"linf": "0:0.12:0.02", "l2": "0.2,0.4,0.6,0.8", "l1": "0.5,1,2,3"}


def evaluated(model: nn.Module, images: ImageSet, norm: str, **settings: object) -> pl.DataFrame:
    usual: dict[str, object] = {"batch_size": 64, "keep": False, "eps": EPS[norm], "attacks": ATTACKS}
    run = atodds.evaluate(model, images, norm=norm, **(usual | settings))  # type: ignore[arg-type]
    return run.table.sort("image", "attack", "eps")


def reach(table: pl.DataFrame, norm: str) -> dict[int, float]:
    """The smallest distance found for each image that is classified rightly."""
    right = table.filter((pl.col("attack") == "clean") & ~pl.col("fooled"))["image"].to_list()
    nearest = table.filter(pl.col("image").is_in(right)).group_by("image").agg(pl.col(norm).min())
    return dict(nearest.iter_rows())


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("chunk", [23, 256])
def test_every_attack_has_failed_just_below_the_smallest_distance_found(
    trained: nn.Module, digits: ImageSet, norm: str, chunk: int
) -> None:
    table = evaluated(trained, digits, norm, chunk=chunk)
    levels = [budget.value for budget in parse_eps_list(EPS[norm], norm) if budget.value > 0]
    tried = {(row["image"], row["attack"], row["eps"]): row["fooled"] for row in table.to_dicts()}
    assert len(tried) == len(table)  # no attack is made on an image twice at one eps
    standing, rounds = 0, set()
    for image, distance in reach(table, norm).items():
        below = [level for level in levels if level * (1 + SLACK) < distance]
        standing += bool(below)
        for attack in NAMES if below else ():
            assert tried[image, attack, below[-1]] is False
            assert not [level for level in below[:-1] if (image, attack, level) in tried]
        mine = [(attack, eps) for (row, attack, eps) in tried if row == image and attack in NAMES]
        rounds.add(len({eps for _, eps in mine}))
        for level in {eps for _, eps in mine} - set(below[-1:]):  # a level above is left only by being fooled there
            assert any(tried[image, attack, level] for attack in NAMES if (image, attack, level) in tried)
    assert standing > 20
    assert max(rounds) > 1  # some were fooled at their level, and attacked again at a lower one


def test_images_that_are_wrong_already_are_left_alone_and_the_closest_is_sought_once(
    trained: nn.Module, digits: ImageSet
) -> None:
    table = evaluated(trained, digits, "linf")
    wrong = table.filter((pl.col("attack") == "clean") & pl.col("fooled"))["image"].to_list()
    assert wrong
    assert table.filter(pl.col("image").is_in(wrong)).height == len(wrong)
    levels = [budget.value for budget in parse_eps_list(EPS["linf"], "linf") if budget.value > 0]
    found = table.filter(pl.col("attack") == closest(levels, "linf").name)
    assert found["eps"].is_null().all()
    assert sorted(found["image"].to_list()) == sorted(set(digits.ids.tolist()) - set(wrong))


def test_the_search_for_the_closest_ends_below_the_smallest_eps(trained: nn.Module, digits: ImageSet) -> None:
    wide, fine = (evaluated(trained, digits, "linf", eps=eps) for eps in ("0.05,0.12", "0.001,0.05,0.12"))
    passes = []
    for table, smallest in ((wide, 0.05), (fine, 0.001)):
        rows = table.filter(pl.col("attack") == closest([smallest], "linf").name).sort("image")
        near = rows.filter(pl.col("linf") <= smallest * (1 + SLACK))
        far = rows.filter(pl.col("linf") > smallest * (1 + SLACK))
        passes.append(rows["backwards"].sum())
        assert (far["backwards"] == 10).all()
        if smallest == 0.05:
            assert near.height > 5
            assert (near["backwards"] < 10).any()
    assert passes[0] < passes[1]
    stand = [reach(table, "linf") for table in (wide, fine)]
    for level in (0.05, 0.12):
        first, second = ({image for image, at in found.items() if at > level * (1 + SLACK)} for found in stand)
        assert first == second


@pytest.mark.parametrize("norm", EPS)
def test_each_eps_is_decided_as_by_a_run_of_its_own(trained: nn.Module, digits: ImageSet, norm: str) -> None:
    """Both are upper bounds: an image may fall to one and not to the other, by luck, and hardly ever does."""
    together = reach(evaluated(trained, digits, norm), norm)
    lost = gained = 0
    for budget in parse_eps_list(EPS[norm], norm):
        if budget.value > 0:
            apart = reach(evaluated(trained, digits, norm, eps=budget.value), norm)
            limit = budget.value * (1 + SLACK)
            lost += sum(apart[image] <= limit < together[image] for image in together)
            gained += sum(together[image] <= limit < apart[image] for image in together)
    assert lost <= gained
    assert lost <= 2


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("changed", [{"batch_size": 7}, {"batch_size": None}, {"chunk": 13}])
def test_verdicts_do_not_depend_on_batches_and_jobs(
    trained: nn.Module, digits: ImageSet, norm: str, changed: dict[str, int | None]
) -> None:
    few = digits.take(range(30))
    found, expected = (evaluated(trained, few, norm, **more) for more in (changed, {}))
    exact = ["l0", "l1", "l2", "linf"]
    assert_frame_equal(found.drop(exact), expected.drop(exact))
    assert_frame_equal(found.select(exact), expected.select(exact), rel_tol=1e-6, abs_tol=0)


def test_a_run_that_lost_any_of_its_results_ends_the_same(trained: nn.Module, digits: ImageSet, tmp_path: Path) -> None:
    few = digits.take(range(40))
    expected = evaluated(trained, few, "linf", out=tmp_path, chunk=15, keep=True)
    jobs = sorted((tmp_path / "jobs").glob("*.parquet"))
    assert len(jobs) > 60
    for start in range(3):
        for job in jobs[start::3]:
            job.unlink()
        assert_frame_equal(evaluated(trained, few, "linf", out=tmp_path, chunk=15, keep=True), expected)


def test_the_closest_images_are_kept_whichever_round_found_them(
    trained: nn.Module, digits: ImageSet, tmp_path: Path
) -> None:
    few = digits.take(range(40))
    table = evaluated(trained, few, "linf", out=tmp_path, keep=True)
    store = Store.open(tmp_path)
    far = {image: distance for image, distance in reach(table, "linf").items() if distance < float("inf")}
    kept = store.kept(store.manifest.models[0].id, list(far))
    assert kept.keys() == far.keys()
    for image, (original, proposal, *_) in ((image, vars(found).values()) for image, found in kept.items()):
        assert abs(proposal - original).max() == pytest.approx(far[image], abs=1e-7)  # kept in float32


class Noisy(nn.Module):
    """A linear model with noise on its logits that a single pass cannot see through."""

    def __init__(self, inner: nn.Module, noise: float) -> None:
        super().__init__()
        self.inner, self.noise = inner, noise

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return logits + self.noise * torch.randn_like(logits)


def test_verdicts_on_a_random_model_average_over_twenty_passes(
    trained: nn.Module, digits: ImageSet, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    logits, labels = trained(digits.images().double()).detach(), torch.from_numpy(digits.labels)
    spread = float(logits.std())
    assert float(((logits + 2 * spread * torch.randn_like(logits)).argmax(1) == labels).double().mean()) < 0.6
    run = atodds.evaluate(
        Noisy(trained, 2 * spread), digits, eps="0.02", attacks="rand", out=tmp_path, keep=False, batch_size=64
    )
    manifest = run.store.manifest
    assert manifest.eot == 20
    assert manifest.random == (manifest.models[0].id,)
    clean = run.table.filter(pl.col("attack") == "clean")
    assert set(clean["forwards"]) == {20}
    assert manifest.attacks == ("auto_pgd", "auto_pgd(loss=dlr)")
    attacked = run.table.filter(pl.col("attack") == "auto_pgd")
    assert set(attacked["backwards"]) == {20 * 100}  # nothing leaves before the end
    assert set(attacked["forwards"]) == {20 * 101 + 20}
    assert run.accuracy.value > 0.85


def test_a_preset_on_few_classes_says_that_it_is_not_the_standard_one(greys: Greys, brightness: nn.Module) -> None:
    images = greys((200, 210, 30, 20), (0, 0, 1, 1), (0, 1, 2, 3))
    run = atodds.evaluate(brightness, images, eps="1/255", attacks="plus", batch_size=4, keep=False)
    assert run.store.manifest.attacks[1] == "auto_pgd(restarts=5,loss=margin)"
    (finding,) = (one for one in run.audit if one.check == "not the standard AutoAttack")
    assert finding.severity == "note"
    assert "2 classes" in finding.measured
    with pytest.raises(atodds.errors.ArgumentError, match=r"needs 3 classes, and the model has 2.*loss=margin"):
        atodds.evaluate(brightness, images, eps="1/255", attacks="auto_pgd(loss=dlr)")
