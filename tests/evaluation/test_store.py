"""A run's folder tells what it holds, computes again what is damaged, and trusts no file."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from atodds.errors import CorruptShardError, NewerRunError, NotARunError, OtherPlanError, RunError
from atodds.evaluation.manifest import Finding, Manifest
from atodds.evaluation.schema import Answers, Judged, verdicts
from atodds.evaluation.shards import IMAGES, Footer
from atodds.evaluation.store import Store

Manifests = Callable[..., Manifest]
CLEAN, FGSM, LOOK = "0" * 32, "1" * 32, "2" * 32
NOTE = Finding("b", "note", "m", "seen", "means", "do")
WARNING = Finding("a", "warning", "m", "seen", "means", "do")


def footer(job: str, attack: str, model: str) -> Footer:
    return Footer(
        job=job, attack=attack, model=model, weights="", data="",
        versions={}, device="cpu", precision="full", seconds=0.25,
    )  # fmt: skip


def rows(attack: str, model: str, fooled: list[bool]) -> pa.Table:
    n = len(fooled)
    hit, numbers = torch.tensor(fooled), torch.arange(n)
    far = torch.full((n,), 1 / 255, dtype=torch.float64).where(hit, torch.inf)
    judged = Judged(Answers(numbers, numbers, far), hit, hit, dict.fromkeys(("l0", "l1", "l2", "linf"), far))
    eps = torch.full((n,), 0.0 if attack == "clean" else 1 / 255, dtype=torch.float64)
    return verdicts(
        model=model, data="greys", images=numbers, labels=numbers, clean=numbers, attack=attack, norm="linf", eps=eps,
        targets=None, judged=judged, passes=(numbers, numbers), seed=0,
    )  # fmt: skip


def picture(image: int, level: float) -> dict[str, object]:
    raw = np.full(4, level, "<f4").tobytes()
    return {"image": image, "original": raw, "proposal": raw, "clean_confidence": 0.75, "confidence": 0.5}


@pytest.fixture
def store(tmp_path: Path, manifest: Manifests) -> Store:
    """A finished run of one model on three images, one of which FGSM fooled."""
    made = Store.create(tmp_path / "run", manifest())
    model = made.manifest.models[0].id
    made.put(rows("clean", model, [False, False, False]), footer(CLEAN, "clean", model))
    kept = pa.Table.from_pylist([picture(1, 0.25)], schema=IMAGES)
    made.put(rows("fgsm", model, [False, True, False]), footer(FGSM, "fgsm", model), kept)
    made.put_findings(LOOK, [NOTE, WARNING, NOTE])
    return made


def test_a_finished_run_opens_with_all_it_holds(store: Store) -> None:
    again = Store.open(store.folder.place)
    assert again.manifest == store.manifest
    assert again.complete
    assert again.table().height == 6
    assert again.table()["attack"].to_list() == ["clean"] * 3 + ["fgsm"] * 3
    assert again.seconds()["seconds"].to_list() == [0.25, 0.25]
    assert [found.job for found in again.footers()] == [CLEAN, FGSM]


def test_findings_come_once_and_the_gravest_first(store: Store) -> None:
    assert store.findings() == (WARNING, NOTE)


def test_kept_images_come_with_their_probabilities(store: Store) -> None:
    model = store.manifest.models[0].id
    found = store.kept(model, [0, 1, 99])
    assert list(found) == [1]
    assert found[1].proposal.shape == (1, 2, 2)
    assert found[1].proposal.dtype == np.float32
    assert (found[1].proposal == 0.25).all()
    assert (found[1].clean_confidence, found[1].confidence) == (0.75, 0.5)
    assert store.kept("another", [1]) == {}


def test_an_unfinished_run_says_how_to_continue(store: Store) -> None:
    store.folder.remove(f"jobs/{FGSM}.parquet")
    store.folder.remove(f"audit/{LOOK}.json")
    again = Store.open(store.folder.place)
    assert not again.complete
    with pytest.raises(RunError, match=r"1 of 2 jobs are missing.*atodds bench 'naïve model.py:make'"):
        again.table()
    with pytest.raises(RunError, match="not finished"):
        again.findings()


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotARunError, match="there is no such folder"):
        Store.open(tmp_path / "nothing")
    with pytest.raises(NotARunError, match=r"it has no run\.json"):
        Store.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotARunError):
        Store.open(tmp_path / "file")
    (tmp_path / "odd" / "run.json").mkdir(parents=True)
    with pytest.raises(NotARunError):
        Store.open(tmp_path / "odd")


def test_a_run_of_a_newer_version_is_left_alone(store: Store, manifest: Manifests) -> None:
    text = json.dumps({"format": 99})
    store.folder.write("run.json", text.encode())
    with pytest.raises(NewerRunError):
        Store.open(store.folder.place)
    with pytest.raises(NewerRunError):
        Store.create(store.folder.place, manifest())
    assert store.folder.read("run.json") == text.encode()


def test_another_question_leaves_the_run_alone(store: Store, manifest: Manifests) -> None:
    before = store.folder.read("run.json")
    with pytest.raises(OtherPlanError):
        Store.create(store.folder.place, manifest(seed=1))
    assert store.folder.read("run.json") == before


@pytest.mark.parametrize("name", [f"jobs/{FGSM}.parquet", f"jobs/{FGSM}.images.parquet"])
@pytest.mark.parametrize("how", ["truncated", "empty", "altered", "missing", "another's"])
def test_a_damaged_shard_is_reported_and_asked_for_again(
    store: Store, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = store.folder.read(name)
    content = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "altered": bytes(255 - byte if 4 <= place < 99 else byte for place, byte in enumerate(whole)),
        "another's": store.folder.read(f"jobs/{CLEAN}.parquet"),
    }
    if how == "missing":
        store.folder.remove(name)
    else:
        store.folder.write(name, content[how])
    with caplog.at_level(logging.WARNING, "atodds"):
        assert store.get(FGSM) is None
    assert store.get(CLEAN) is not None
    if how != "missing":
        assert f"{name} " in caplog.text
        assert "computed again" in caplog.text
        assert not Store.open(store.folder.place).complete


def test_a_table_is_never_made_of_damaged_shards(store: Store) -> None:
    name = f"jobs/{FGSM}.parquet"
    store.folder.write(name, store.folder.read(name)[:-9])
    with pytest.raises(CorruptShardError, match=f"{name}.*atodds bench"):
        Store.open(store.folder.place).table()


def test_a_shard_under_another_jobs_name_makes_no_table(store: Store) -> None:
    store.folder.write(f"jobs/{FGSM}.parquet", store.folder.read(f"jobs/{CLEAN}.parquet"))
    with pytest.raises(CorruptShardError, match="another job"):
        Store.open(store.folder.place).table()


def test_pictures_of_another_shape_are_not_shown(store: Store) -> None:
    model = store.manifest.models[0].id
    row = picture(1, 0.25) | {"proposal": b"\0" * 12}
    store.put(
        rows("fgsm", model, [False, True, False]), footer(FGSM, "fgsm", model),
        pa.Table.from_pylist([row], schema=IMAGES),
    )  # fmt: skip
    with pytest.raises(CorruptShardError, match="shape"):
        Store.open(store.folder.place).kept(model, [1])


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'[{"check": 1}]', b"\xff", b"null", b"[" * 100_000])
def test_damaged_findings_are_looked_for_again(store: Store, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store.folder.write(f"audit/{LOOK}.json", text)
    assert store.get_findings(LOOK) is None
    assert "looks again" in caplog.text


def test_a_run_without_pictures_needs_none(store: Store, manifest: Manifests) -> None:
    store.folder.remove(f"jobs/{FGSM}.images.parquet")
    frugal = Store(store.folder.place, manifest(keep=False))
    assert frugal.get(FGSM) is not None
    assert frugal.kept(store.manifest.models[0].id, [1]) == {}
    assert store.get(FGSM) is None


def test_a_run_lies_in_any_file_system(manifest: Manifests) -> None:
    store = Store.create("memory://bucket/run", manifest())
    model = store.manifest.models[0].id
    store.put(rows("clean", model, [True]), footer(CLEAN, "clean", model))
    assert Store.open("memory://bucket/run").get(CLEAN) is not None
    assert not store.complete


def test_what_the_first_look_of_a_store_missed_is_seen_by_the_next(store: Store) -> None:
    model = store.manifest.models[0].id
    third = "3" * 32
    larger = Store.create(store.folder.place, replace(store.manifest, jobs=(CLEAN, FGSM, third)))
    with pytest.raises(RunError):
        larger.table()
    larger.put(rows("pgd", model, [False]), footer(third, "pgd", model), pa.Table.from_pylist([], schema=IMAGES))
    assert larger.table().height == 7
