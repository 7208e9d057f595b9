"""Randomized smoothing against closed forms, SciPy's intervals and tests, and against the attacks of this project."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from atodds import data, noise, norms
from atodds.attacks import auto_pgd, pgd
from atodds.attacks.pool import Balls
from atodds.bounds import ABSTAIN, Certificates, Smoothed, certify, predict, smoothing
from atodds.data import ImageSet
from atodds.errors import ArgumentError
from atodds.models import fingerprint
from atodds.oracle import Oracle

SIGMA = 0.25


class Half(nn.Module):
    """Class 0 where the first pixel is above 1/2: an image is |pixel - 1/2| from the boundary in l2, and its noisy
    copies are of its class with probability Phi(distance / sigma)."""

    def forward(self, images: Tensor) -> Tensor:
        above = images.flatten(1)[:, 0] - 0.5
        return torch.stack([above, -above], 1)


def pixels(*values: float) -> Tensor:
    images = torch.full((len(values), 1, 2, 2), 0.3)
    images[:, 0, 0, 0] = torch.tensor(values)
    return images


def test_on_a_linear_model_the_radius_comes_near_to_the_distance_and_never_beyond() -> None:
    images = pixels(0.55, 0.6, 0.7, 0.9, 0.1, 0.3)
    away = (images.flatten(1)[:, 0].double() - 0.5).abs()
    few, many = (certify(Half(), images, sigma=SIGMA, n=n) for n in (1000, 100_000))
    assert many.prediction.tolist() == [0, 0, 0, 0, 1, 1]
    assert (many.radius <= away).all()
    assert (few.radius <= away).all()
    torch.testing.assert_close(many.radius, away, rtol=0.03, atol=0.005)
    assert (away <= many.high).all()
    assert ((many.high - many.radius) < (few.high - few.radius)).all()


def test_the_share_of_votes_has_the_exact_one_sided_limit() -> None:
    found = certify(Half(), pixels(0.6, 0.75), sigma=SIGMA, n=2000, alpha=0.01)
    for votes, probability, radius in zip(found.votes, found.probability, found.radius, strict=True):
        test = stats.binomtest(int(votes), 2000, alternative="greater")
        low = test.proportion_ci(confidence_level=0.99, method="exact").low
        assert float(probability) == pytest.approx(low)
        assert float(radius) == pytest.approx(SIGMA * stats.norm.ppf(low))


def test_where_all_votes_agree_the_radius_is_what_so_many_samples_can_show() -> None:
    found = certify(Half(), pixels(1.0), sigma=0.05, n=500)
    assert found.votes.tolist() == [500]
    assert float(found.radius) == pytest.approx(0.05 * stats.norm.ppf(0.001 ** (1 / 500)))
    assert found.high.tolist() == [torch.inf]


def test_an_image_on_the_boundary_has_no_certificate() -> None:
    found = certify(Half(), pixels(0.5, 0.501), sigma=SIGMA, n=1000)
    assert found.prediction.tolist() == [ABSTAIN, ABSTAIN]
    assert found.radius.tolist() == [0, 0]
    assert predict(Half(), pixels(0.5, 0.501), sigma=SIGMA).tolist() == [ABSTAIN, ABSTAIN]


def test_images_leave_early_and_no_answer_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(0.5, 0.51, 0.53, 0.54, 0.55, 0.6)
    oracle = Oracle(Half())
    early = certify(oracle, images, sigma=SIGMA, n=1000)
    monkeypatch.setattr(smoothing, "_CHECKS", 1)
    late = certify(Half(), images, sigma=SIGMA, n=1000)
    assert (early.prediction == late.prediction).all()
    assert (early.radius == late.radius).all()
    assert bool((early.trials < 1000).any())
    assert (late.trials == 1000).all()
    assert (oracle.passes().forwards == 100 + early.trials).all()
    assert not oracle.passes().backwards.any()


def test_an_answer_is_the_class_that_an_exact_test_finds_ahead() -> None:
    images = pixels(*np.linspace(0.5, 0.56, 12))
    told = predict(Half(), images, sigma=SIGMA, n=300, alpha=0.05, seed=3)
    counts = votes(images, 300, seed=3)
    for answer, (first, second) in zip(told.tolist(), counts.tolist(), strict=True):
        sure = stats.binomtest(max(first, second), first + second, 0.5).pvalue <= 0.05
        assert answer == ((0 if first > second else 1) if sure else ABSTAIN)
    assert len(set(told.tolist())) == 2


def votes(images: Tensor, count: int, *, seed: int) -> Tensor:
    """Votes for both classes, of the noise as it is documented: by seed, id, and number of the sample."""
    rows = []
    for row, image in enumerate(images):
        ids = torch.tensor([row]) * (1 << 20) + torch.arange(count)
        drawn = noise.normal(ids, image.shape, seed=seed, stream="smoothing")
        rows.append(torch.bincount(Half()(image + SIGMA * drawn).argmax(1), minlength=2))
    return torch.stack(rows)


def test_an_image_does_not_depend_on_the_batch_size_or_on_the_others() -> None:
    images, ids = pixels(0.5, 0.55, 0.6, 0.4), torch.tensor([9, 2, 77, 5])
    whole = certify(Oracle(Half(), batch_size=1000), images, sigma=SIGMA, ids=ids, n=500)
    turn = torch.tensor([2, 0])
    some = certify(Oracle(Half(), batch_size=7), images[turn], sigma=SIGMA, ids=ids[turn], n=500)
    for name in ("prediction", "radius", "votes", "trials"):
        assert (getattr(some, name) == getattr(whole, name)[turn]).all()
    told = predict(Oracle(Half(), batch_size=7), images[turn], sigma=SIGMA, ids=ids[turn])
    assert (told == predict(Half(), images, sigma=SIGMA, ids=ids)[turn]).all()


def test_outputs_that_are_no_numbers_are_no_votes() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = Half()(images)
            return logits.masked_fill(images.flatten(1)[:, 1:2] > 0.3, torch.nan)

    found = certify(Oracle(Broken(), strict=False), pixels(1.0), sigma=SIGMA, n=400)
    assert 120 < int(found.votes) < 280
    assert found.prediction.tolist() == [ABSTAIN]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"sigma": "much"}, "sigma"),
        ({"sigma": 0.1, "n": 0}, "n="),
        ({"sigma": 0.1, "n0": 0}, "n0="),
        ({"sigma": 0.1, "n": 1 << 20}, "n="),
        ({"sigma": 0.1, "alpha": 0.0}, "alpha"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        certify(Half(), pixels(0.6), **settings)
    with pytest.raises(ArgumentError, match="Divide by 255"):
        certify(Half(), 200 * pixels(0.6), sigma=0.1)


def test_as_a_module_it_adds_other_noise_in_each_pass_and_is_one_model_all_the_same() -> None:
    model = Smoothed(Half(), SIGMA)
    images = pixels(*[0.6] * 2000)
    before = fingerprint(model)
    first, second = model(images), model(images)
    assert not torch.equal(first, second)
    right = float((first.argmax(1) == 0).double().mean())
    assert right == pytest.approx(stats.norm.cdf(0.1 / SIGMA), abs=0.04)
    assert fingerprint(model) == before
    assert fingerprint(Smoothed(Half(), 0.5)) != before
    assert (model.predict(images[:2]) == predict(Half(), images[:2], sigma=SIGMA)).all()
    assert (model.certify(images[:2], n=200).radius == certify(Half(), images[:2], sigma=SIGMA, n=200).radius).all()


# ---- nothing fools the smoothed classifier within a certified radius -------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return data.load("digits", limit=60)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A perceptron for the digits, trained under the noise that it will be smoothed with."""
    images = data.load("digits", split="train")
    inputs, labels = images.images(), torch.from_numpy(images.labels)
    rng = np.random.default_rng(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1 / np.sqrt(parameter[0].numel() if parameter.ndim > 1 else 100)
            parameter.copy_(torch.from_numpy(rng.normal(0, scale, tuple(parameter.shape))))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(200):
        noisy = inputs + SIGMA * torch.from_numpy(rng.normal(0, 1, tuple(inputs.shape))).float()
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(noisy), labels).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def certified(digits: ImageSet, trained: nn.Module) -> Certificates:
    return certify(trained, digits.images(), sigma=SIGMA, n=2000)


def test_most_digits_have_a_certificate(digits: ImageSet, certified: Certificates) -> None:
    right = certified.prediction == torch.from_numpy(digits.labels)
    assert float(right.double().mean()) > 0.85
    assert float(certified.radius.mean()) > SIGMA


@pytest.mark.parametrize("attack", ["pgd", "auto_pgd"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_no_attack_fools_the_smoothed_classifier_within_a_certified_radius(
    digits: ImageSet, trained: nn.Module, certified: Certificates, attack: str, share: float
) -> None:
    """The attacks see gradients of the smoothed classifier, averaged over its noise."""
    rows = (certified.prediction == torch.from_numpy(digits.labels)).nonzero()[:, 0]
    images, labels, radius = digits.images(rows.tolist()), certified.prediction[rows], certified.radius[rows]
    proposals = attacked(trained, images, labels, share * radius, attack)
    assert (norms.distance(proposals.double(), images.double(), "l2") <= radius).all()
    told = predict(trained, proposals, sigma=SIGMA, n=2000, seed=1)
    assert ((told == labels) | (told == ABSTAIN)).all()


def attacked(network: nn.Module, images: Tensor, labels: Tensor, radius: Tensor, attack: str) -> Tensor:
    oracle, balls = Oracle(Smoothed(network, SIGMA, seed=5), eot=12), Balls("l2", radius)
    if attack == "pgd":
        return pgd(oracle, images, labels, balls, steps=15, loss="margin")
    return auto_pgd(oracle, images, labels, balls, steps=15)


def test_beyond_the_radius_the_same_attack_does_fool_it(
    digits: ImageSet, trained: nn.Module, certified: Certificates
) -> None:
    rows = (certified.prediction == torch.from_numpy(digits.labels)).nonzero()[:, 0]
    images, labels = digits.images(rows.tolist()), certified.prediction[rows]
    proposals = attacked(trained, images, labels, 3 * certified.radius[rows], "pgd")
    told = predict(trained, proposals, sigma=SIGMA, n=500, seed=1)
    assert int(((told != labels) & (told != ABSTAIN)).sum()) > len(rows) / 3
