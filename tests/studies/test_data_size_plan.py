"""What the study of data sizes plans, and what it refuses before anything is trained."""

from pathlib import Path

import numpy as np
import pytest

from atodds import data
from atodds.attacks import registry
from atodds.data.images import ImageSet
from atodds.errors import ArgumentError, ModelError, ThreatError, UnknownNameError
from atodds.models.card import Card
from atodds.models.checkpoint import save
from atodds.models.classifier import Classifier
from atodds.models.networks import NETWORKS, build
from atodds.studies.data_size_plan import EFFORTS, USUAL, Variant, parse_variants, planned
from atodds.threat import parse_eps

DIGITS = data.load("digits", split="train")


@pytest.mark.parametrize("text", ["mlp", "cnn7", "resnet20+D", "cnn7+A", "densenet40+D+A"])
def test_a_variant_is_called_what_it_is_asked_for_by(text: str) -> None:
    variant = Variant.parse(text)
    assert variant.name == str(variant) == text
    assert (variant.augmented, variant.adversarial) == ("+D" in text, "+A" in text)


@pytest.mark.parametrize("text", ["resnt20", "mlp+X", "mlp+D+D", "mlp+", ""])
def test_a_variant_that_does_not_exist_is_answered_with_those_that_do(text: str) -> None:
    with pytest.raises(UnknownNameError, match="Known"):
        Variant.parse(text)


def test_a_network_twice_is_refused() -> None:
    with pytest.raises(ArgumentError, match="each once"):
        parse_variants(["mlp", "mlp"])


@pytest.mark.parametrize("name", USUAL)
def test_what_is_usual_can_be_carried_out(name: str) -> None:
    usual = USUAL[name]
    parse_eps(usual.eps, "linf")
    for preset in EFFORTS:
        assert list(usual.sizes[preset]) == sorted(set(usual.sizes[preset]))
        assert all(variant.network in NETWORKS for variant in parse_variants(usual.networks[preset]))


@pytest.mark.parametrize(
    ("name", "last"), [("cifar10", 50_000), ("mnist", 50_000), ("stl10", 10_000), ("tiny-imagenet", 100_000)]
)
def test_the_paper_has_eleven_sizes_up_to_the_largest(name: str, last: int) -> None:
    sizes = USUAL[name].sizes["paper"]
    assert (len(sizes), sizes[-1]) == (11, last)
    classes = 200 if name == "tiny-imagenet" else 10
    assert all(size % classes == 0 for size in sizes)


def test_the_six_curves_of_the_cifar_figure_are_usual_for_the_paper() -> None:
    assert USUAL["cifar10"].networks["paper"] == ("mlp", "cnn7", "resnet32", "resnet32+D", "densenet40", "densenet40+D")


@pytest.mark.parametrize("preset", EFFORTS)
def test_every_attack_of_a_preset_can_be_read(preset: str) -> None:
    effort = EFFORTS[preset]
    for attack in (effort.l2, effort.dark):
        assert registry.parse(attack, "l2")[0].attack.minimum_norm
    assert registry.parse(effort.linf, "linf")[0].attack.minimum_norm
    assert not registry.parse(effort.fixed, "linf")[0].attack.minimum_norm


def test_black_grounds_have_longer_steps_where_there_are_few() -> None:
    dark, bright = (
        planned(DIGITS, data=name, networks=["mlp"], sizes=[50, 100], eps="0.1").effort for name in ("digits", "mine")
    )
    assert "lr=0.1" in dark.l2
    assert "lr" not in bright.l2
    assert dark.linf == bright.linf


def test_all_networks_learn_from_the_same_nested_balanced_subsets() -> None:
    plan = planned(DIGITS, data="digits", networks=["mlp", "cnn4+D"], sizes=[50, 100, 200])
    for variant in plan.variants:
        trainings = plan.trainings(variant)
        assert [len(one.images) for one in trainings] == [50, 100, 200]
        assert [one.entry.name for one in trainings] == [f"{variant.name}-{size}" for size in (50, 100, 200)]
        assert set(trainings[0].images.ids) < set(trainings[1].images.ids) < set(trainings[2].images.ids)
        assert all(len(set(np.bincount(one.images.labels))) == 1 for one in trainings)


def test_every_network_is_trained_the_least_number_of_steps_and_the_usual_epochs() -> None:
    plan = planned(DIGITS, data="digits", networks=["mlp"], sizes=[50, 1400])
    for training in plan.trainings(plan.variants[0]):
        recipe, effort = training.entry.recipe, plan.effort
        steps = -(-training.size // recipe.batch_size) * recipe.epochs
        assert steps >= effort.least
        assert recipe.epochs >= effort.epochs["perceptron"]


def test_augmentation_is_that_of_the_study() -> None:
    colour = ImageSet.from_arrays(np.zeros((40, 3, 32, 32), np.uint8), np.arange(40) % 10)
    networks = ["resnet20", "resnet20+D", "densenet40+D", "mlp+A"]
    plan = planned(colour, data="cifar10", networks=networks, sizes=[20, 40], eps="2/255")
    recipes = {str(variant): plan.trainings(variant)[0].entry.recipe for variant in plan.variants}
    assert not recipes["resnet20"].augmentation
    assert (recipes["resnet20+D"].shift, recipes["resnet20+D"].flip, recipes["resnet20+D"].rotation) == (0.1, True, 0)
    assert recipes["densenet40+D"].rotation > 0
    assert recipes["mlp+A"].objective == "adversarial"
    assert recipes["mlp+A"].eps == pytest.approx(2 / 255)
    grey = planned(DIGITS, data="digits", networks=["cnn4+D"], sizes=[20, 40])
    assert not grey.trainings(grey.variants[0])[0].entry.recipe.flip  # a mirrored digit is another sign


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": [50, 2000]}, "digits has 1442 images"),
        ({"sizes": [100, 50]}, "do not increase"),
        ({"sizes": [50, 50]}, "do not increase"),
        ({"sizes": [50, 1442]}, "class .* has only"),
        ({"sizes": [5, 50]}, "fewer images than the 10 classes"),
        ({"sizes": [50]}, "no curve"),
        ({"networks": ["cnn7"]}, "cnn7 needs images of at least 16x16"),
        ({"limit": 4}, "too few images"),
        ({"eps": "0"}, "nothing changes within it"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(changes: dict[str, object], message: str) -> None:
    usual: dict[str, object] = {"networks": ["mlp"], "sizes": [50, 100]}
    with pytest.raises(ArgumentError, match=message):
        planned(DIGITS, data="digits", **usual | changes)  # type: ignore[arg-type]


def test_eps_in_the_wrong_unit_and_unknown_presets_are_refused() -> None:
    with pytest.raises(ThreatError, match="8/255"):
        planned(DIGITS, data="digits", eps="8")
    with pytest.raises(UnknownNameError, match="laptop"):
        planned(DIGITS, data="digits", preset="labtop")


def test_data_that_nothing_is_usual_for_need_everything() -> None:
    with pytest.raises(ArgumentError, match="--networks, --sizes and --eps"):
        planned(DIGITS, data="photos", networks=["mlp"])
    assert planned(DIGITS, data="photos", networks=["mlp"], sizes=[10, 20], eps="0.1").sizes == (10, 20)


def test_a_checkpoint_of_another_network_is_not_written_over(tmp_path: Path) -> None:
    card = Card("linear", {}, (1, 8, 8), tuple("0123456789"))
    other = Classifier(build("linear", (1, 8, 8), 10), name="x", card=card)
    save(other, tmp_path / "mlp-50.safetensors")
    with pytest.raises(ModelError, match=r"mlp-50.safetensors holds linear, not the mlp"):
        planned(DIGITS, data="digits", networks=["mlp"], sizes=[50, 100], folder=tmp_path)
