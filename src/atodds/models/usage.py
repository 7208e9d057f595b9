"""How a library says that one of its models is to be used, and what that asks of the images."""

from collections.abc import Sequence
from dataclasses import dataclass

from atodds.errors import ModelError
from atodds.models.plain import Shape


@dataclass(frozen=True)
class Usage:
    """What a library tells about a model beside its weights.

    Attributes:
        library: which one, with its version: "timm 1.0.20".
        weights: which weights, as the library or the user calls them.
        shape: (C, H, W) of the images that the model was made for.
        outputs: number of logits.
        classes: class names in the order of the logits; empty where the library does not tell.
        crop: share of an image's shorter side that the library's own loading keeps; None where it does not tell.
        interpolation: how the library's own loading resizes: "bicubic"; "" where it does not tell.
        resized: whether the model takes images of any size and resizes them itself.
    """

    library: str
    weights: str
    shape: Shape
    outputs: int
    classes: tuple[str, ...] = ()
    crop: float | None = None
    interpolation: str = ""
    resized: bool = False

    def check_shape(self, shape: Sequence[int], name: str) -> None:
        """Hold images against what the model takes.

        Args:
            shape: (C, H, W) of the images.
            name: of the model, for the message.

        Raises:
            ModelError: images with other channels, or of another size that the model does not resize.
        """
        channels, height, width = self.shape
        came, takes = "x".join(map(str, shape)), f"{channels}x{height}x{width}"
        if shape[0] != channels:
            raise ModelError(
                f"{name} takes images with {channels} channels ({takes}), not {came}. Bring images with {channels} "
                "channels."
            )
        if self.resized or tuple(shape) == self.shape:
            return
        load = f"Load them with --size {height} (size={height})" if height == width else f"Bring images of {takes}"
        raise ModelError(
            f"{name} takes images of {takes}, not {came}. {load}, or let the model resize them itself: --resize "
            "(resize=True)."
        )

    def check_classes(self, classes: Sequence[str], name: str) -> None:
        """Hold the classes of images against those that the model tells apart: label k must mean output k.

        Args:
            classes: names of the images' classes, by label.
            name: of the model, for the message.

        Raises:
            ModelError: another number of classes, or the same names in another order.
        """
        if len(classes) != self.outputs:
            part = (
                f"; or wrap it in a FILE.py:FACTORY that returns only the {len(classes)} logits that are meant"
                if len(classes) < self.outputs
                else ""
            )
            raise ModelError(
                f"{name} tells {self.outputs} classes apart, but the images have {len(classes)}, and label k must mean "
                f"output k. Bring images of all its classes and no others, in its order{part}."
            )
        ours, theirs = [_plain(word) for word in self.classes], [_plain(word) for word in classes]
        if ours != theirs and sorted(ours) == sorted(theirs):
            place = next(k for k, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
            raise ModelError(
                f"{name} has the classes of the images in another order: output {place} is {self.classes[place]!r}, "
                f"label {place} is {classes[place]!r}. Rename the class folders so that their sorted names follow the "
                "model's order, such as 000-cat, 001-dog; or reorder its logits in a FILE.py:FACTORY."
            )


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")
