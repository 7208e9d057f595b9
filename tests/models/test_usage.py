"""Images are held against what a library says of its model, before anything is attacked."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import atodds
from atodds.data import ImageSet
from atodds.errors import ModelError
from atodds.models import Classifier, Usage
from atodds.models.classifier import check_images

USAGE = Usage("timm 1.0", "tiny", (3, 8, 8), 3, classes=("cat", "dog", "wild_boar"))


class Counting(nn.Module):
    """A classifier that counts what goes through it."""

    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.flatten(1)[:, :3]


def test_images_of_its_own_size_pass() -> None:
    USAGE.check_shape((3, 8, 8), "tiny")


def test_another_size_names_both_ways_out() -> None:
    with pytest.raises(ModelError) as caught:
        Classifier(Counting(), name="tiny", usage=USAGE)(torch.zeros(2, 3, 32, 32))
    assert str(caught.value) == (
        "tiny takes images of 3x8x8, not 3x32x32. Load them with --size 8 (size=8), or let the model resize them "
        "itself: --resize (resize=True)."
    )
    with pytest.raises(ModelError, match="Bring images of 3x8x9, or let"):
        Usage("timm 1.0", "tiny", (3, 8, 9), 3).check_shape((3, 8, 8), "tiny")


def test_a_model_that_resizes_takes_any_size_but_not_other_channels() -> None:
    usage = Usage("timm 1.0", "tiny", (3, 8, 8), 3, resized=True)
    usage.check_shape((3, 99, 50), "tiny")
    with pytest.raises(ModelError, match=r"3 channels \(3x8x8\), not 1x8x8\. Bring images with 3 channels"):
        usage.check_shape((1, 8, 8), "tiny")


@pytest.mark.parametrize(
    "classes", [("a", "b", "c"), ("0", "1", "2"), ("Cat", "dog", "wild boar"), ("dog", "cat", "x")]
)
def test_as_many_classes_pass_unless_their_names_contradict(classes: tuple[str, ...]) -> None:
    USAGE.check_classes(classes, "tiny")


def test_another_number_of_classes_is_refused() -> None:
    for classes in (("cat", "dog"), ("cat", "dog", "wild boar", "emu")):
        with pytest.raises(ModelError, match=rf"tiny tells 3 classes apart, but the images have {len(classes)}"):
            USAGE.check_classes(classes, "tiny")


def test_the_same_classes_in_another_order_are_refused() -> None:
    with pytest.raises(ModelError, match=r"another order: output 0 is 'cat', label 0 is 'dog'\..*000-cat"):
        USAGE.check_classes(("dog", "cat", "wild boar"), "tiny")


def test_models_that_say_nothing_are_not_held_to_anything() -> None:
    check_images(Counting(), (1, 2, 2), ("a",))
    check_images(Classifier(Counting()), (1, 2, 2), ("a",))


@pytest.mark.parametrize(
    ("side", "classes", "said"),
    [
        (8, ("cat", "dog"), "tells 3 classes apart"),
        (16, ("cat", "dog", "emu"), "--size 8"),
        (8, ("dog", "cat", "wild boar"), "order"),
    ],
)
def test_a_run_ends_before_it_begins(tmp_path: Path, side: int, classes: tuple[str, ...], said: str) -> None:
    images = ImageSet.from_arrays(torch.rand(4, 3, side, side), [0, 1, 0, 1], classes=classes)
    model = Classifier(Counting(), name="tiny", usage=USAGE)
    with pytest.raises(ModelError, match=said):
        atodds.evaluate(model, images, eps=0.1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert isinstance(model.network, Counting)
    assert model.network.seen == 0
