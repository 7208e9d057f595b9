"""Every model is shown what was found on every other one, once, and the answers are those that it gives."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import Tensor, nn

import atodds
from atodds.data import ImageSet
from atodds.errors import ArgumentError, CorruptShardError, OtherPlanError, RunError
from atodds.evaluation import audit, battery, executor
from atodds.evaluation import transfers as planning
from atodds.evaluation.manifest import ModelInfo
from atodds.evaluation.plan import Question, plan
from atodds.evaluation.runner import Progress, Site
from atodds.evaluation.schema import NO_CLASS
from atodds.evaluation.transfers import SCHEMA, Transfer, plan_transfers

Fitted = Callable[[nn.Module], nn.Module]
Models = dict[str, nn.Module]
ATTACKS = "fgsm,pgd(steps=5),pgd(steps=5,target=random)"
ORDER = ["source", "model", "image", "attack", "eps"]


class Counted(nn.Module):
    """A model that counts the images that go through it, with and without gradients."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self._forwards = self._backwards = 0

    def forward(self, images: Tensor) -> Tensor:
        self._forwards += len(images)
        self._backwards += len(images) if images.requires_grad else 0
        logits: Tensor = self.inner(images)
        return logits

    def taken(self) -> tuple[int, int]:
        """Images since the last call."""
        count, self._forwards, self._backwards = (self._forwards, self._backwards), 0, 0
        return count


@pytest.fixture(scope="module", autouse=True)
def _no_audit() -> Iterator[None]:
    """The audit has tests of its own, and takes longer than all that is done here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "before", lambda *_: ())
        patch.setattr(battery, "battery", lambda *_, **_more: ())
        yield


@pytest.fixture(scope="module")
def models(trained: nn.Module, fitted: Fitted) -> Models:
    """Three of which the last knows twelve classes."""
    linear = fitted(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    wide = fitted(nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 12)))
    return {"trained": Counted(trained), "linear": Counted(linear), "wide": Counted(wide)}


@pytest.fixture
def few(digits: ImageSet) -> ImageSet:
    return digits.take(range(0, 100, 2))


def evaluated(models: Models, images: ImageSet, **settings: object) -> atodds.Run:
    usual: dict[str, object] = {"eps": "0.04,0.08", "attacks": ATTACKS, "batch_size": 64, "transfer": True}
    return atodds.evaluate(models, images, **(usual | settings))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def usual(models: Models, digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> atodds.Run:
    return evaluated(models, digits.take(range(0, 100, 2)), out=tmp_path_factory.mktemp("usual"))


def sorted_(table: pl.DataFrame) -> pl.DataFrame:
    return table.sort(ORDER)


def test_every_proposal_that_fooled_is_shown_once_to_every_other_model(usual: atodds.Run) -> None:
    table = usual.transfer
    assert table.columns == SCHEMA.names
    verdicts = usual.table.filter(pl.col("attack") != "clean", pl.col("linf").is_finite())
    ids = [result.info.id for result in usual.models]
    for source in ids:
        mine = verdicts.filter(pl.col("model") == source)
        assert mine.height > 20
        for model in set(ids) - {source}:
            shown = table.filter(pl.col("source") == source, pl.col("model") == model).sort("image", "attack", "eps")
            same = ["image", "label", "attack", "norm", "eps", "target", "l0", "l1", "l2", "linf", "data", "seed"]
            assert_frame_equal(shown.select(same), mine.sort("image", "attack", "eps").select(same))
            assert shown["source_prediction"].equals(mine.sort("image", "attack", "eps")["prediction"])
            assert shown["source_fooled"].equals(mine.sort("image", "attack", "eps")["fooled"])
    assert table.filter(pl.col("source") == pl.col("model")).is_empty()
    assert table.height == 2 * verdicts.height
    assert not table["source_fooled"].all()  # targets that were missed are shown too


def test_answers_are_what_the_model_says_of_the_kept_images(usual: atodds.Run, models: Models, few: ImageSet) -> None:
    table, store, seen = usual.transfer, usual.store, 0
    place = {image: row for row, image in enumerate(few.ids.tolist())}
    for key in store.manifest.jobs:
        rows = store.verdicts(key).to_pylist()
        if not rows or rows[0]["attack"] == "clean":
            continue
        kept = {row["image"]: np.frombuffer(row["proposal"], "<f4") for row in store.proposals(key).to_pylist()}
        shown = table.filter(
            pl.col("source") == rows[0]["model"], pl.col("attack") == rows[0]["attack"], pl.col("eps") == rows[0]["eps"]
        )
        for row in shown.filter(pl.col("image").is_in(list(kept))).to_dicts():
            model = models[row["model"].partition("@")[0]]
            proposal = torch.from_numpy(kept[row["image"]].copy()).view(1, *few.shape)
            logits = model(proposal.double())[0].tolist()
            own = model(few.images([place[row["image"]]]).double())[0]
            goal = row["label"] if row["target"] is None else row["target"]
            assert row["prediction"] == logits.index(max(logits))
            ahead = sum(value > logits[goal] for value in logits) if goal < len(logits) else None
            assert row["rank"] == ahead
            assert row["fooled"] == ((row["prediction"] == goal) == (row["target"] is not None))
            assert row["clean"] == int(own.argmax())
            seen += 1
    assert seen == table.height


@pytest.mark.parametrize("changed", [{"batch_size": 7}, {"chunk": 9}, {"workers": 2, "chunk": 20}])
def test_transfers_do_not_depend_on_how_the_work_was_cut(
    usual: atodds.Run, models: Models, few: ImageSet, changed: dict[str, int]
) -> None:
    inner = {name: model.inner for name, model in models.items() if isinstance(model, Counted)}
    table = evaluated(inner, few, **changed).transfer
    names = {result.info.id: result.info.name for result in usual.models}
    ours = sorted_(table.with_columns(pl.col("source", "model").str.split("@").list.first()))
    theirs = sorted_(usual.transfer.with_columns(pl.col("source", "model").replace(names)))
    lengths = ["l1", "l2", "linf"]
    assert_frame_equal(ours.drop(lengths), theirs.drop(lengths))
    assert_frame_equal(ours.select(lengths), theirs.select(lengths), rel_tol=1e-9, abs_tol=0)


def test_transfers_do_not_depend_on_their_order(
    usual: atodds.Run, models: Models, few: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial, orders = executor.serial, list[bool]()

    def shuffled(works: Sequence[executor.Work], site: Site, progress: Progress) -> None:
        order = random.Random(len(orders)).sample(works, len(works))
        orders.append(order != list(works))
        serial(order, site, progress)

    monkeypatch.setattr(executor, "serial", shuffled)
    monkeypatch.setattr(planning, "_VALUES", 1)  # a job for each lane
    found = evaluated(models, few, chunk=13)
    assert orders == [True, True]
    assert len(found.store.manifest.transfers) == 4 * 6
    assert_frame_equal(sorted_(found.transfer), sorted_(usual.transfer))


def test_verdicts_and_figures_are_those_of_a_run_without_transfer(
    usual: atodds.Run, models: Models, few: ImageSet
) -> None:
    plain = evaluated(models, few, transfer=False)
    assert plain.table.equals(usual.table)
    assert [result.curve().rates for result in plain.models] == [result.curve().rates for result in usual.models]
    with pytest.raises(RunError, match=r"without transfer.*transfer=True"):
        _ = plain.transfer


def test_transfer_is_added_to_a_finished_run_and_repeats_no_attack(
    usual: atodds.Run, models: Models, few: ImageSet, tmp_path: Path
) -> None:
    evaluated(models, few, transfer=False, out=tmp_path, keep=True)
    for model in models.values():
        model.taken()  # type: ignore[operator]
    found = evaluated(models, few, out=tmp_path)
    assert found.transfer.equals(usual.transfer)
    for result in found.models:
        shown = found.transfer.filter(pl.col("model") == result.info.id).height
        assert models[result.info.name].taken() == (shown, 0)  # type: ignore[operator]
    evaluated(models, few, out=tmp_path)
    assert all(model.taken() == (0, 0) for model in models.values())  # type: ignore[operator]
    with pytest.raises(OtherPlanError, match="transfer no longer asked for"):
        evaluated(models, few, out=tmp_path, transfer=False)


def test_a_model_that_is_added_costs_only_its_own_pairs(
    usual: atodds.Run, models: Models, few: ImageSet, tmp_path: Path
) -> None:
    first = {name: models[name] for name in ("wide", "linear")}
    evaluated(first, few, out=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "transfers").iterdir()}
    assert len(before) == 2
    found = evaluated(models, few, out=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(found.store.manifest.transfers) == 6
    assert_frame_equal(sorted_(found.transfer), sorted_(usual.transfer))


def test_a_run_that_lost_any_of_its_results_ends_the_same(
    usual: atodds.Run, models: Models, few: ImageSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluated(models, few, out=tmp_path, chunk=25)
    files = sorted(path for folder in ("jobs", "transfers") for path in (tmp_path / folder).iterdir())
    for start in range(2):
        for path in files[start::2]:
            path.unlink()
        assert_frame_equal(
            sorted_(evaluated(models, few, out=tmp_path, chunk=25).transfer), sorted_(usual.transfer)
        )  # fmt: skip
    damaged = sorted((tmp_path / "transfers").iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(CorruptShardError, match="computes it again"):
        _ = atodds.Run.open(tmp_path).transfer
    assert_frame_equal(sorted_(evaluated(models, few, out=tmp_path, chunk=25).transfer), sorted_(usual.transfer))
    assert "computed again" in caplog.text
    damaged.unlink()
    unfinished = atodds.Run.open(tmp_path)
    assert not unfinished.store.complete
    with pytest.raises(RunError, match="1 of 6 transfers are missing"):
        _ = unfinished.transfer


def test_what_cannot_transfer_is_refused_before_any_work(models: Models, few: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"transfer=True: one model.*Bring two or more"):
        evaluated({"trained": models["trained"]}, few, out=tmp_path)
    with pytest.raises(ArgumentError, match=r"keep=False: .*Leave --no-keep out"):
        evaluated(models, few, out=tmp_path, keep=False)
    assert not list(tmp_path.iterdir())


class Broken(nn.Module):
    """Says nothing of images that are not all grey levels of a file."""

    def forward(self, images: Tensor) -> Tensor:
        levels = images.flatten(1).double() * 255
        odd = (levels - levels.round()).abs().amax(1) > 1e-3
        return torch.eye(10)[images.flatten(1).argmax(1) % 10].masked_fill(odd[:, None], math.nan)


def test_a_model_that_breaks_down_on_an_image_is_fooled_and_ranks_nothing(models: Models, few: ImageSet) -> None:
    table = evaluated({"linear": models["linear"], "broken": Broken()}, few, eps="0.05", attacks="fgsm").transfer
    rows = table.filter(pl.col("model").str.starts_with("broken"))
    assert set(rows["prediction"]) == {NO_CLASS}
    assert rows["fooled"].all()
    assert rows["rank"].is_null().all()


def test_a_class_that_a_model_does_not_know_is_never_reached(models: Models, few: ImageSet) -> None:
    table = evaluated(models, few, attacks="pgd(steps=20,target=least-likely)", eps="0.5").transfer
    beyond = table.filter(pl.col("target") >= 10)
    assert set(beyond["source"].str.split("@").list.first()) == {"wide"}
    assert set(beyond["model"].str.split("@").list.first()) == {"trained", "linear"}
    assert beyond["rank"].is_null().all()
    assert not beyond["fooled"].any()


def test_jobs_are_about_a_few_thousand_images_and_cover_all(digits: ImageSet) -> None:
    infos = [ModelInfo(f"{name}@{name * 8}", name, "", name * 64, 1) for name in "abc"]
    question = Question("linf", seed=0, precision="full", eot=1, alone=False)
    budgets = (atodds.threat.Budget(0.1, "0.1"),)
    lanes = plan(infos, digits, budgets, atodds.attacks.registry.parse("fgsm", "linf"), question, chunk=10)
    for values, groups in ((64, 1), (planning._VALUES // 35, 4), (planning._VALUES * 2, 10)):
        found = plan_transfers(lanes, values)
        assert len(found) == 3 * groups
        assert all(len(transfer.shows) == 2 for transfer in found)
        for info in infos:
            mine = [transfer for transfer in found if transfer.source == info.id]
            assert sum(transfer.images for transfer in mine) == 100
            attacked = [job.key for lane in lanes if lane.model == info.id for job in lane.jobs if job.attack == "fgsm"]
            assert [key for transfer in mine for key in transfer.sources] == attacked
        assert len({show.job.key for transfer in found for show in transfer.shows}) == 6 * groups
    assert isinstance(found[0], Transfer)
