"""Transfer, on tables whose every cell is known."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds.analysis import transfer, wilson
from atodds.errors import ArgumentError, EmptyDataError

Rows = list[dict[str, object]]


def sent(source: str, model: str, outcomes: str, *, first: int = 0, **other: object) -> Rows:
    """One row an image, by a letter: "c" changed, "s" stayed, "w" wrong from the start, "t" predicts the source's
    target (7), "5" has it among its five largest."""
    rows = []
    for image, letter in enumerate(outcomes, start=first):
        clean = 1 if letter == "w" else 0
        prediction = {"c": 2, "s": 0, "w": 2, "t": 7, "5": 3}[letter]
        rank = {"t": 0, "5": 4}.get(letter, 5)
        base = {"source": source, "model": model, "attack": "pgd", "norm": "linf", "eps": 0.1, "image": image}
        seen = {"label": 0, "clean": clean, "target": 7, "source_fooled": True, "prediction": prediction,
                "rank": rank, "linf": 0.1}  # fmt: skip
        rows.append(base | seen | other)
    return rows


def frame(*pairs: Rows) -> pl.DataFrame:
    schema = {"eps": pl.Float64, "target": pl.Int32}
    return pl.DataFrame([row for pair in pairs for row in pair], schema_overrides=schema, infer_schema_length=None)


TABLE = frame(sent("a", "b", "ccsw"), sent("b", "a", "tt5s"), sent("a", "c", "ssss"), sent("c", "a", "cccc"),
              sent("b", "c", "5tsw"), sent("c", "b", "wwww"))  # fmt: skip


def test_images_that_the_target_has_wrong_are_dropped() -> None:
    found = transfer(TABLE)
    assert found.models == ("a", "b", "c")
    assert found.rates[0] == (None, wilson(2, 3), wilson(0, 4))
    assert found.rates[1] == (wilson(3, 4), None, wilson(2, 3))
    assert found.rates[2] == (wilson(4, 4), None, None)  # c never reached b: nothing counts
    assert found.pairs == 5
    assert (found.norm, found.attack, found.kind) == ("linf", "pgd", "untargeted")
    assert found.eps is None
    assert found.family is None


def test_targeted_wants_the_very_class_and_top_five_has_it_among_five() -> None:
    assert transfer(TABLE, kind="targeted").rates[1] == (wilson(2, 4), None, wilson(1, 3))
    assert transfer(TABLE, kind="top-5").rates[1] == (wilson(3, 4), None, wilson(2, 3))
    assert transfer(TABLE, kind="targeted").rates[0][1] == wilson(0, 3)
    unknown = TABLE.with_columns(rank=pl.lit(None, pl.Int32))  # outputs that are no numbers
    assert transfer(unknown, kind="top-5").rates[1][0] == wilson(0, 4)


def test_sources_and_targets_are_ranked_by_the_mean_of_their_pairs() -> None:
    found = transfer(TABLE)
    assert [sender.model for sender in found.sources] == ["c", "b", "a"]
    assert [sender.rate.value for sender in found.sources] == pytest.approx([1, (3 / 4 + 2 / 3) / 2, 1 / 3])
    assert [sender.model for sender in found.targets] == ["a", "b", "c"]
    assert found.targets[1].rate.pairs == 1


def test_common_images_are_the_same_for_every_pair() -> None:
    full = frame(sent("a", "b", "ccscs"), sent("b", "a", "csccw"), sent("a", "c", "sscws"), sent("c", "a", "cccc"),
                 sent("b", "c", "csss"), sent("c", "b", "csss"))  # fmt: skip
    found = transfer(full, common=True)
    assert {rate.n for row in found.rates for rate in row if rate} == {3}  # images 0, 1, 2
    assert found.rates[0] == (None, wilson(2, 3), wilson(1, 3))
    with pytest.raises(EmptyDataError, match="No image"):
        transfer(TABLE, common=True)


FAMILIES = {"a": "cnn", "c": "mlp", "b": "cnn", "d": "mlp"}


def square(within: str, across: str, letters: str = "abcd") -> pl.DataFrame:
    return frame(*(sent(s, t, within if FAMILIES[s] == FAMILIES[t] else across)
                   for s in letters for t in letters if s != t))  # fmt: skip


def test_models_stand_family_by_family_and_blocks_are_means_over_pairs() -> None:
    found = transfer(square("cccs" * 10, "csss" * 10), families=FAMILIES, models=["c", "a", "d", "b"])
    assert found.models == ("c", "d", "a", "b")
    assert found.families == ("mlp", "mlp", "cnn", "cnn")
    assert found.family is not None
    assert (found.family.within.value, found.family.across.value) == (0.75, 0.25)
    assert (found.family.within.pairs, found.family.across.pairs) == (4, 8)
    assert found.family.contrast.value == 0.5
    blocks = {(block.source, block.target): block.rate for block in found.family.blocks}
    assert {key: rate.value for key, rate in blocks.items()} == {
        ("mlp", "mlp"): 0.75, ("mlp", "cnn"): 0.25, ("cnn", "mlp"): 0.25, ("cnn", "cnn"): 0.75,
    }  # fmt: skip
    assert [blocks["mlp", key].pairs for key in ("mlp", "cnn")] == [2, 4]


def test_the_interval_of_the_contrast_is_that_of_drawing_images() -> None:
    """All pairs within agree, and all across: their difference is a mean of paired differences of 40 images."""
    found = transfer(square("cccs" * 10, "csss" * 10), families=FAMILIES, resamples=4000)
    assert found.family is not None
    gaps = np.array([0.0, 1.0, 1.0, 0.0] * 10)
    drawn = gaps[np.random.default_rng(0).integers(0, 40, (20_000, 40))].mean(1)
    ends = np.quantile(drawn, [0.025, 0.975])
    assert (found.family.contrast.low, found.family.contrast.high) == pytest.approx(tuple(ends), abs=0.026)


def test_p_is_the_share_of_assignments_to_families_with_such_a_contrast() -> None:
    """Four models in two families of two: of the three ways to pair them, one is the true one."""
    found = transfer(square("cccs", "csss"), families=FAMILIES)
    assert found.family is not None
    assert found.family.p == pytest.approx(1 / 3, abs=0.02)


def test_without_two_families_or_a_pair_within_one_there_is_nothing_to_compare() -> None:
    assert transfer(square("cccs", "csss", "ab"), families=FAMILIES).family is None
    assert transfer(square("cccs", "csss", "ac"), families=FAMILIES).family is None


def test_one_attack_is_looked_at_and_its_images_within_eps() -> None:
    other = frame(sent("a", "b", "ssss", attack="cw", eps=None, linf=0.3), sent("b", "a", "cccc", eps=0.2, linf=0.2))
    both = pl.concat([TABLE, other])
    with pytest.raises(ArgumentError, match=r"several attacks\. Choose one of cw, pgd"):
        transfer(both)
    with pytest.raises(ArgumentError, match="no such attack"):
        transfer(both, attack="fab")
    assert transfer(both, attack="pgd", eps=0.1).rates == transfer(TABLE).rates
    assert transfer(both, attack="cw").eps is None
    assert transfer(both, attack="cw", eps=0.3).pairs == 1
    with pytest.raises(EmptyDataError, match=r"No image within 0\.2 fooled"):
        transfer(both, attack="cw", eps=0.2)
    with pytest.raises(ArgumentError, match="several norms"):
        transfer(pl.concat([TABLE, TABLE.with_columns(norm=pl.lit("l2"))]))


def test_of_several_images_of_one_original_the_furthest_within_eps_counts() -> None:
    near = frame(sent("a", "b", "ssc", linf=0.05), sent("a", "b", "ccs", linf=0.2, eps=0.2), sent("b", "a", "ccc"))
    assert transfer(near, eps=0.1).rates[0][1] == wilson(1, 3)
    assert transfer(near, eps=0.2).rates[0][1] == wilson(2, 3)
    assert transfer(near).rates == transfer(near, eps=0.2).rates
    assert transfer(near).rates == transfer(near.reverse(), models=["a", "b"]).rates


def test_images_that_missed_their_target_on_the_source_are_no_targeted_ones() -> None:
    missed = frame(sent("a", "b", "tt", source_fooled=False), sent("a", "b", "ts", first=2), sent("b", "a", "tt"))
    assert transfer(missed, kind="targeted").rates[0][1] == wilson(1, 2)
    assert transfer(missed).rates[0][1] == wilson(3, 4)


def test_what_cannot_be_asked_is_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match="untargeted, targeted, top-5"):
        transfer(TABLE, kind="some")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no image in the table reached a target"):
        transfer(TABLE.with_columns(target=pl.lit(None, pl.Int32)), kind="targeted")
    with pytest.raises(ArgumentError, match="families='c'"):
        transfer(TABLE, families={"a": "x", "b": "y"})
    with pytest.raises(ArgumentError, match="no transfers of z"):
        transfer(TABLE, models=["a", "z"])
    with pytest.raises(ArgumentError, match="two models or more"):
        transfer(TABLE, models=["a"])
    with pytest.raises(EmptyDataError, match="holds no transfers"):
        transfer(TABLE.clear())
    assert transfer(TABLE, models=["b", "a"]).models == ("b", "a")


letters = st.text("cswt5", min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(st.lists(letters, min_size=6, max_size=6))
def test_the_order_of_models_only_moves_the_cells(outcomes: list[str]) -> None:
    pairs = [(s, t) for s in "abc" for t in "abc" if s != t]
    rows = frame(*(sent(s, t, text) for (s, t), text in zip(pairs, outcomes, strict=True)))
    if not (rows["clean"] == rows["label"]).any():
        return
    first, second = transfer(rows, models=list("abc"), resamples=20), transfer(rows, models=list("cab"), resamples=20)
    for s in "abc":
        for t in "abc":
            one = first.rates[first.models.index(s)][first.models.index(t)]
            assert one == second.rates[second.models.index(s)][second.models.index(t)]
    assert {sender.model: sender.rate.value for sender in first.sources} == pytest.approx(
        {sender.model: sender.rate.value for sender in second.sources}, nan_ok=True
    )


def test_eighteen_models_have_306_pairs() -> None:
    names = [f"m{k:02d}" for k in range(18)]
    rng = np.random.default_rng(0)
    rows = frame(*(sent(s, t, "".join(rng.choice(list("csw"), 9))) for s in names for t in names if s != t))
    assert transfer(rows, resamples=50).pairs == 306
