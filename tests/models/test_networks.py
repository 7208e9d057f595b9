"""Every network of the package keeps one contract, and the counts that were published for it."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from atodds.errors import ArgumentError, UnknownNameError
from atodds.models import NETWORKS, Card, Classifier, build, load_checkpoint, parameter_count, save
from atodds.models.networks import complete, initialise, skeleton
from atodds.models.plain import Shape

CIFAR, MNIST, DIGITS, STL, TINY = (3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 96, 96), (3, 64, 64)
EVERY = pytest.mark.parametrize("name", sorted(NETWORKS))
LEAST = {"width": 4, "features": 8, "growth": 2, "repeats": 1, "stride": 1}
SMALL = {name: {key: LEAST[key] for key in complete(name, CIFAR)} for name in NETWORKS} | {"wrn28-10": {"width": 1}}
FAMILIES = ("perceptron", "cnn", "vgg", "resnet", "wide", "densenet", "mobilenet")


def normed(before: int, after: int, kernel: int, groups: int = 1, bias: int = 0) -> int:
    """Parameters of a convolution and its batch norm."""
    return before // groups * after * kernel**2 + bias * after + 2 * after


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        ("linear", MNIST, 10, 7_850),
        ("mlp", CIFAR, 10, 3_157_002),
        ("mlp", MNIST, 10, 814_090),
        ("mlp2", MNIST, 10, 814_090 + 1024 * 1025),
        ("mlp3", MNIST, 10, 814_090 + 2 * 1024 * 1025),
        ("cnn4", DIGITS, 10, 16 * 9 + 16 + 32 * 16 * 9 + 32 + 64 * 32 * 16 + 64 + 650),
        ("cnn7", CIFAR, 10, 1_147_978),
        ("cnn7", MNIST, 10, 312_202),
        ("cnn20", STL, 10, 7_257_322),
        ("cnn20", TINY, 200, 6_044_072),
        ("vgg8", CIFAR, 100, 3_965_028),
        ("vgg11", CIFAR, 10, 9_231_114),
        ("vgg13", CIFAR, 10, 9_416_010),
        ("vgg16", CIFAR, 10, 14_728_266),
        ("resnet8", CIFAR, 10, 78_186),
        ("resnet14", CIFAR, 10, 175_626),
        ("resnet20", MNIST, 10, 272_778),
        ("resnet20", STL, 10, 278_186),
        ("resnet20", TINY, 200, 323_816),
        ("resnet32", CIFAR, 10, 467_946),
        ("resnet44", CIFAR, 10, 662_826),
        ("resnet56", CIFAR, 10, 857_706),
        ("resnet110", CIFAR, 10, 1_734_666),
        # A stage's second and later blocks have two 3x3 convolutions of its width, each with a batch norm before it.
        ("wrn10-2", CIFAR, 10, 691_674 - 2 * sum(normed(width, width, 3) for width in (32, 64, 128))),
        ("wrn10-4", CIFAR, 10, 2_748_890 - 2 * sum(normed(width, width, 3) for width in (64, 128, 256))),
        ("wrn16-2", CIFAR, 10, 691_674),
        ("wrn16-4", CIFAR, 10, 2_748_890),
        ("wrn28-10", CIFAR, 10, 36_479_194),
        *((f"densenet{depth}", CIFAR, 10, count) for depth, count in ((10, 45_178), (16, 141_442), (22, 290_986))),
        ("densenet40", CIFAR, 10, 1_059_298),
        ("densenet40", STL, 10, 1_059_298),
        ("mobilenet", CIFAR, 10, 3_217_226),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, shape: Shape, classes: int, count: int) -> None:
    assert parameter_count(skeleton(name, shape, classes)) == count


@pytest.mark.parametrize("layers", [2, 4, 6, 12])
def test_a_densenet_has_what_its_layers_add(layers: int) -> None:
    """Counted from the paper: layer after layer 12 more channels, transitions that keep them."""
    width, count = 24, 24 * 3 * 9
    for block in range(3):
        for _ in range(layers):
            count += normed(width, 12, 3) - 2 * 12 + 2 * width  # the batch norm comes first
            width += 12
        count += width**2 + 2 * width if block < 2 else 0
    count += 2 * width + 10 * width + 10
    assert parameter_count(skeleton(f"densenet{3 * layers + 4}", CIFAR, 10)) == count


@pytest.mark.parametrize(("width", "repeats"), [(32, 5), (16, 5), (8, 5), (8, 1)])
def test_a_mobilenet_has_what_the_paper_s_table_says(width: int, repeats: int) -> None:
    widths = [width * times for times in (1, 2, 4, 4, 8, 8, 16, *[16] * repeats, 32, 32)]
    pairs = itertools.pairwise(widths)
    blocks = sum(normed(one, one, 3, groups=one) + normed(one, two, 1) for one, two in pairs)
    count = normed(1, width, 3) + blocks + widths[-1] * 10 + 10
    made = skeleton("mobilenet", MNIST, 10, settings={"width": width, "repeats": repeats})
    assert parameter_count(made) == count


def test_every_network_has_a_count_above() -> None:
    marks = test_parameter_counts_are_the_published_ones.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == set(NETWORKS)


def test_there_are_enough_of_every_family_to_compare_them_on_small_grey_images() -> None:
    assert {network.family for network in NETWORKS.values()} == set(FAMILIES)
    for shape in (MNIST, DIGITS):
        fitting = [network for network in NETWORKS.values() if network.smallest <= shape[1]]
        assert {network.family for network in fitting} == set(FAMILIES)
        assert len(fitting) >= 18


# ---- the contract --------------------------------------------------------------------------------------------------


def images(shape: Shape, count: int = 3) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


@EVERY
@pytest.mark.parametrize("shape", [CIFAR, MNIST, (3, 17, 23), (2, 5, 4)], ids=str)
def test_takes_images_of_any_shape_it_is_built_for(name: str, shape: Shape) -> None:
    if min(shape[1:]) < NETWORKS[name].smallest:
        with pytest.raises(ArgumentError, match=f"{name} needs images of at least"):
            build(name, shape, 7, settings=SMALL[name])
        return
    network = build(name, shape, 7, settings=SMALL[name])  # in training mode, in which batch norm keeps signals alive
    logits = network(images(shape))
    assert logits.shape == (3, 7)
    assert logits.isfinite().all()
    assert logits.std() > 1e-3


@EVERY
def test_works_at_the_smallest_side_and_not_below(name: str) -> None:
    side = NETWORKS[name].smallest
    assert build(name, (1, side, side + 3), 2, settings=SMALL[name]).eval()(images((1, side, side + 3))).shape == (3, 2)
    if side > 1:
        with pytest.raises(ArgumentError, match=r"Take larger images, or one of linear, mlp"):
            build(name, (1, side - 1, 64), 2)


@EVERY
def test_gradients_reach_every_parameter_and_the_images(name: str) -> None:
    network = build(name, CIFAR, 5, settings=SMALL[name])
    batch = images(CIFAR, 8).requires_grad_()
    torch.nn.functional.cross_entropy(network(batch), torch.arange(8) % 5).backward()
    assert batch.grad is not None
    assert batch.grad.abs().sum() > 0
    for path, parameter in network.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path
    still = [path for path, parameter in network.named_parameters() if not _moved(parameter)]
    # Batch norm takes away whatever constant a convolution's bias adds before it.
    normalised = any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert not [path for path in still if not (normalised and path.endswith("bias"))]


def _moved(parameter: torch.nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)


@EVERY
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name: str) -> None:
    first, again, other = (build(name, CIFAR, 10, seed=seed, settings=SMALL[name]).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@EVERY
def test_building_neither_reads_nor_moves_the_global_generator(name: str) -> None:
    before = torch.get_rng_state()
    one = build(name, CIFAR, 10, settings=SMALL[name]).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(7)
    two = build(name, CIFAR, 10, settings=SMALL[name]).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


@EVERY
def test_is_written_and_read_back_unchanged(name: str, tmp_path: Path) -> None:
    network = build(name, CIFAR, 4, settings=SMALL[name])
    network(images(CIFAR, 8))  # moves running statistics off their first values
    card = Card(name, complete(name, CIFAR, SMALL[name]), CIFAR, ("a", "b", "c", "d"), (0.5,) * 3, (0.25,) * 3)
    made = Classifier(network, mean=card.mean, std=card.std, name="x", card=card).eval()
    read = load_checkpoint(save(made, tmp_path / "x.safetensors"))
    assert torch.equal(read(images(CIFAR)), made(images(CIFAR)))
    assert not [path for path, buffer in read.network.named_buffers() if buffer.is_meta]


@EVERY
def test_ends_in_a_linear_layer_called_head(name: str) -> None:
    head = skeleton(name, CIFAR, 6).head
    assert isinstance(head, torch.nn.Linear)
    assert head.out_features == 6


@EVERY
def test_every_setting_makes_the_network_smaller_or_larger_and_unknown_ones_are_refused(name: str) -> None:
    usual = parameter_count(skeleton(name, CIFAR, 10))
    for key, value in complete(name, CIFAR).items() - {("stride", 1)}:  # which changes no weight
        assert parameter_count(skeleton(name, CIFAR, 10, settings={key: value - 1})) < usual, key
    with pytest.raises(UnknownNameError, match="Did you mean width" if SMALL[name] else "Known: none"):
        build(name, CIFAR, 10, settings={"widht": 3})


def test_a_stride_of_two_halves_all_maps_of_a_mobilenet() -> None:
    halved, usual = (build("mobilenet", MNIST, 10, settings={"width": 4, "stride": stride}) for stride in (2, 1))
    maps = torch.zeros(1, 1, 28, 28)
    assert halved.get_submodule("conv")(maps).shape == (1, 4, 14, 14)
    assert parameter_count(halved) == parameter_count(usual)
    assert halved(images(MNIST)).shape == (3, 10)


# ---- arguments -----------------------------------------------------------------------------------------------------


def test_an_unknown_network_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="resnet20"):
        build("resnet-20", CIFAR, 10)


@pytest.mark.parametrize("width", [0, -1, 2**16 + 1, 1.5, True, "8"])
def test_a_setting_that_is_no_positive_integer_is_refused(width: object) -> None:
    with pytest.raises(ArgumentError, match="width"):
        build("mlp", DIGITS, 10, settings={"width": width})  # type: ignore[dict-item]


@pytest.mark.parametrize("shape", [(0, 8, 8), (3, 8), (3, 8, 8, 1), (1, 8, -8), (1, 8, 8.0), (1, 65536, 65536)])
def test_a_shape_that_is_none_is_refused(shape: Shape) -> None:
    with pytest.raises(ArgumentError, match="shape"):
        build("mlp", shape, 10)


@pytest.mark.parametrize("classes", [1, 0, -3, True, 10.0])
def test_fewer_than_two_classes_are_refused(classes: int) -> None:
    with pytest.raises(ArgumentError, match="classes"):
        build("mlp", DIGITS, classes)


# ---- first weights -------------------------------------------------------------------------------------------------


def test_first_weights_have_the_variance_that_keeps_signals_alive() -> None:
    network = build("mlp", CIFAR, 10)
    weight = network.get_submodule("hidden").weight
    assert isinstance(weight, torch.Tensor)
    assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / 3072), rel=0.01)
    assert float(weight.detach().mean()) == pytest.approx(0, abs=1e-4)


def test_two_layers_of_one_shape_begin_differently() -> None:
    network = build("resnet20", CIFAR, 10).state_dict()
    assert not torch.equal(network["stage1.0.conv1.weight"], network["stage1.0.conv2.weight"])


def test_a_layer_whose_first_weights_are_not_known_is_refused() -> None:
    with pytest.raises(ArgumentError, match="LSTM"):
        initialise(torch.nn.LSTM(2, 2), 0)
