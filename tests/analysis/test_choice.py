"""The choice is that of brute force, flips lie where the algebra says, and probabilities mean what they say."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atodds.analysis.choice import Choice, choose, images_needed
from atodds.analysis.limits import Traits
from atodds.analysis.need import Need, parse_need
from atodds.analysis.together import Together
from atodds.errors import NeedError, UnknownNameError
from atodds.threat import Budget, parse_eps_list

BUDGETS = parse_eps_list("1,2,3", "l2")
CLASSES = ("cat", "dog")


def made(n: int, models: int, seed: int) -> tuple[Together, np.ndarray]:
    """Models side by side with distances in whole steps, and labels."""
    rng = np.random.default_rng(seed)
    correct = rng.random((n, models)) < rng.uniform(0.4, 1, models)
    values = np.where(correct, rng.choice([0.5, 1.5, 2.5, np.inf], (n, models), p=rng.dirichlet(np.ones(4))), 0.0)
    names = tuple(f"m{k}@0000000{k}" for k in range(models))
    return Together(names, "l2", np.arange(n), correct, values), rng.integers(0, 2, n)


def chosen(seen: Together, labels: np.ndarray, need: Need, **more: object) -> Choice:
    traits = {model: Traits(1000 * (k + 1), float(k + 1)) for k, model in enumerate(seen.models)}
    options = {"measured": BUDGETS, "resamples": 50} | more
    return choose(seen, labels, CLASSES, need, traits, **options)  # type: ignore[arg-type]


def brute(seen: Together, labels: np.ndarray, need: Need, share: float) -> np.ndarray:
    """(models,) expected cost, one image and one budget after the other."""
    total = np.zeros(len(seen.models))
    for m in range(len(seen.models)):
        for i in range(len(seen)):
            price = need.costs.get(CLASSES[labels[i]], 1.0)
            total[m] += (1 - share) * price * (not seen.correct[i, m])
            for eps, weight in need.weights:
                total[m] += share * weight * price * (not (seen.correct[i, m] and seen.values[i, m] > eps.value))
    return total / len(seen)


NEEDS = st.builds(
    lambda low, high, weights, cat, dog: parse_need(
        {"attacked": sorted([low, high]), "norm": "l2", "cost": {"cat": cat, "dog": dog},
         "eps": {budget.text: weight for budget, weight in zip(BUDGETS, weights, strict=True)}}
    ),
    st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from([1.0, 5.0, 0.25]),
    st.sampled_from([1.0, 0.0, 2.0]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(NEEDS, st.integers(2, 5), st.integers(0, 10_000))
def test_the_choice_is_that_of_brute_force(need: Need, models: int, seed: int) -> None:
    seen, labels = made(12, models, seed)
    labels[0] = 0  # of a class whose errors cost something
    found = chosen(seen, labels, need)
    expected = brute(seen, labels, need, need.share)
    places = [seen.models.index(option.model) for option in found.options]
    assert sorted(places) == list(range(models))
    assert [option.cost.value for option in found.options] == pytest.approx(expected[places])
    assert found.best.cost.value == pytest.approx(expected.min())
    assert [option.regret.value for option in found.options] == pytest.approx(
        expected[places] - expected.min(), abs=1e-12
    )
    ends = [brute(seen, labels, need, share) for share in need.attacked]
    worst = np.max([end - end.min() for end in ends], axis=0)
    assert [option.worst_regret for option in found.options] == pytest.approx(worst[places], abs=1e-12)
    for share in np.linspace(*need.attacked, 7):  # no share between the ends is worse than the worse end
        inside = brute(seen, labels, need, float(share))
        assert (inside - inside.min() <= worst + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(NEEDS, st.integers(2, 5), st.integers(0, 10_000))
def test_the_decision_flips_where_the_lines_cross_and_nowhere_else(need: Need, models: int, seed: int) -> None:
    seen, labels = made(12, models, seed)
    labels[0] = 0
    found = chosen(seen, labels, need)
    cost = {option.model: (option.at_zero, option.at_one) for option in found.options}
    shares = [0.0, *(flip.share for flip in found.flips), 1.0]
    assert shares == sorted(shares)
    for flip in found.flips:
        (a0, a1), (b0, b1) = cost[flip.before], cost[flip.after]
        assert flip.share == pytest.approx((b0 - a0) / ((a1 - a0) - (b1 - b0)))
    first = found.flips[0].before if found.flips else min(cost, key=lambda model: cost[model])
    winners = [first, *(flip.after for flip in found.flips)]
    for place, (start, stop) in enumerate(pairwise(shares)):
        for share in np.linspace(start, stop, 5):
            every = {model: (1 - share) * zero + share * one for model, (zero, one) in cost.items()}
            assert every[winners[place]] == pytest.approx(min(every.values()), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10_000), st.booleans())
def test_the_map_says_who_is_best_for_every_share_and_eps(models: int, seed: int, anywhere: bool) -> None:
    seen, labels = made(15, models, seed)
    found = chosen(seen, labels, parse_need({"attacked": 0.2, "eps": "1", "norm": "l2"}), anywhere=anywhere)
    order = [seen.models.index(model) for model in found.models]
    assert (found.columns[0].start, found.columns[-1].stop) == (0.0, 3.0)
    for column in found.columns:
        inside = (column.start + column.stop) / 2 if anywhere else column.eps.value
        single = replace(found.need, weights=((Budget(inside, "x"), 1.0),), costs={})
        for share in (0.0, 0.1, 0.37, 0.5, 0.9, 1.0):
            expected = brute(seen, labels, single, share)
            assert expected[order[column.best(share)]] == pytest.approx(expected.min(), abs=1e-9)


def test_a_flip_over_eps_is_between_the_budgets_where_the_order_changes() -> None:
    # m0 is right on all images but falls at 1.5; m1 is wrong on one of four, and never falls.
    values = np.array([[1.5, 0.0], [1.5, np.inf], [1.5, np.inf], [1.5, np.inf]])
    seen = Together(("m0", "m1"), "l2", np.arange(4), values > 0, values)
    need = parse_need({"attacked": 0.5, "eps": "2", "norm": "l2"})
    found = chosen(seen, np.zeros(4, int), need)
    assert found.best.model == "m1"
    (flip,) = found.eps_flips
    assert (flip.last.text, flip.eps.text, flip.before, flip.after) == ("1", "2", "m0", "m1")
    exact = chosen(seen, np.zeros(4, int), need, anywhere=True).eps_flips
    assert [one.eps.value for one in exact] == [1.5]
    (share,) = found.flips  # costs: m0 r, m1 1/4
    assert share.share == pytest.approx(0.25)
    assert share.low <= 0.25 <= share.high


def test_limits_leave_models_out_and_say_why() -> None:
    seen, labels = made(200, 4, 1)
    need = parse_need({"attacked": 0.1, "eps": "1", "norm": "l2", "parameters": 2000, "latency_ms": 1.5})
    found = chosen(seen, labels, need)
    assert [option.model for option in found.options] == ["m0@00000000"]
    reasons = {one.model: one.reason for one in found.excluded}
    assert "2 ms an image, above 1.5 ms" in reasons["m1@00000001"]
    assert "3,000 parameters, above 2,000" in reasons["m2@00000002"]


def test_a_need_that_nobody_meets_says_what_there_is() -> None:
    seen, labels = made(200, 3, 1)
    said = {"attacked": 0.1, "eps": "1", "norm": "l2"}
    with pytest.raises(NeedError, match=r"no model has a clean accuracy of > 99\.9 %: m\d has most, \d\d"):
        chosen(seen, labels, parse_need(said | {"min_clean": 0.9999}))
    with pytest.raises(NeedError, match=r"no model meets 0\.5 ms: the least is 1\. Ask for latency_ms 1"):
        chosen(seen, labels, parse_need(said | {"latency_ms": 0.5}))
    clean = seen.correct.mean(0)
    assert clean[0] < clean.max()  # so that accuracy and size cannot both be had
    with pytest.raises(NeedError, match="no model meets all of them at once, though each is met by some"):
        chosen(seen, labels, parse_need(said | {"min_clean": float(clean.max()), "parameters": 1000}))
    with pytest.raises(NeedError, match="every model is as good"):
        chosen(seen, labels, parse_need(said | {"cost": {"cat": 0, "dog": 0}}))
    with pytest.raises(UnknownNameError, match="Did you mean dog"):
        chosen(seen, labels, parse_need(said | {"cost": {"dogg": 3}}))


def test_equal_models_share_the_probability_and_no_number_of_images_tells_them_apart() -> None:
    values = np.repeat(np.array([[0.5], [1.5], [0.0], [np.inf]] * 10), 2, axis=1)
    seen = Together(("a", "b"), "l2", np.arange(40), values > 0, values)
    found = chosen(seen, np.zeros(40, int), parse_need({"attacked": 0.3, "eps": "1", "norm": "l2"}))
    assert [option.probability for option in found.options] == [0.5, 0.5]
    assert [one.images for one in found.settling] == [None]
    assert found.flips == ()


def test_probabilities_are_calibrated_where_the_truth_is_known() -> None:
    calibrated(worlds=250, resamples=300)


@pytest.mark.slow
def test_probabilities_are_calibrated_over_many_worlds() -> None:
    calibrated(worlds=3000, resamples=500)


def calibrated(worlds: int, resamples: int) -> None:
    """In worlds drawn at random, a model that is said to be the best with probability p is so in a share p of them."""
    rng = np.random.default_rng(5)
    need = parse_need({"attacked": 0.4, "eps": "1", "norm": "l2"})
    models, n = 3, 120
    outcome = np.array(list(np.ndindex(*(3,) * models)))  # 0 wrong, 1 falls, 2 stands: for each model
    price = np.array([1.0, 0.4, 0.0])
    said, came = [], []
    for _ in range(worlds):
        shares = rng.dirichlet(np.full(len(outcome), 0.5))
        truth = int((shares @ price[outcome]).argmin())
        drawn = outcome[rng.choice(len(outcome), n, p=shares)]
        values = np.where(drawn == 0, 0.0, np.where(drawn == 1, 0.5, np.inf))
        seen = Together(("0", "1", "2"), "l2", np.arange(n), drawn > 0, values)
        found = choose(
            seen, np.zeros(n, int), CLASSES, need, {name: Traits(1) for name in "012"}, measured=BUDGETS,
            seed=int(rng.integers(1 << 30)), resamples=resamples,
        )  # fmt: skip
        for option in found.options:
            said.append(option.probability)
            came.append(int(option.model) == truth)
    p, hit = np.array(said), np.array(came, dtype=float)
    for low, high in ((0, 0.05), (0.05, 0.3), (0.3, 0.7), (0.7, 0.95), (0.95, 1.01)):
        inside = (p >= low) & (p < high)
        spread = math.sqrt(max((p[inside] * (1 - p[inside])).sum(), 1)) / inside.sum()
        assert abs(p[inside].mean() - hit[inside].mean()) < 3.5 * spread, (low, high)


def test_the_number_of_images_gives_the_power_that_it_claims() -> None:
    rng = np.random.default_rng(2)
    gaps = np.array([1.0, 0.0, -1.0])
    shares = np.array([0.16, 0.74, 0.10])
    mean = float(shares @ gaps)
    deviation = math.sqrt(float(shares @ gaps**2) - mean**2)
    n = images_needed(mean, deviation)
    drawn = rng.multinomial(n, shares, size=4000)
    means = drawn @ gaps / n
    spread = np.sqrt((drawn @ gaps**2 / n - means**2) / n)
    assert (means > 1.96 * spread).mean() == pytest.approx(0.8, abs=0.02)


def test_a_close_call_names_the_rival_and_a_clear_one_does_not() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random((400, 3)) < [0.5, 0.52, 0.9], 0.5, np.inf)
    seen = Together(("good", "near", "bad"), "l2", np.arange(400), values > 0, values)
    found = chosen(seen, np.zeros(400, int), parse_need({"attacked": 1, "eps": "1", "norm": "l2"}), resamples=500)
    assert {found.best.model, *(one.rival for one in found.settling)} == {"good", "near"}
    (rival,) = found.settling
    assert rival.images is not None
    assert rival.images > 400
    assert rival.where == "1"
    assert rival.share == pytest.approx(1)
    assert sum(option.probability for option in found.options) == pytest.approx(1)
