"""Image classifiers of transformers: `hf:OWNER/REPO`, `hf:OWNER/REPO@REVISION`, or `hf:./FOLDER`.

Normalisation and image size are those of the repository's image processor, as measured on plain images. Code of a
repository is never run.
"""

from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from atodds.errors import ModelError, UnknownNameError, UntrustedFileError
from atodds.models.adapters.common import Brought, calling, library
from atodds.models.adapters.measured import measured
from atodds.models.spec import Spec
from atodds.models.usage import Usage
from atodds.models.weights import expanded

_BACKGROUND = "background"


class Inner(nn.Module):
    """A model of transformers as a function of images alone: its logits, without a background class.

    Args:
        network: images -> an object with `.logits`.
        order: which channel of the image each channel is that the model takes.
        skipped: outputs before the first class.
    """

    def __init__(self, network: nn.Module, order: tuple[int, ...], skipped: int) -> None:
        super().__init__()
        self.network, self.order, self.skipped = network, order, skipped
        self.training = network.training

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) -> logits (N, K)."""
        if self.order != (0, 1, 2):
            images = images[:, list(self.order)]
        logits: Tensor = self.network(images).logits
        return logits[:, self.skipped :]


def bring(parts: Spec, trust_pickle: bool) -> Brought:  # noqa: ARG001 - transformers opens no file that can run code
    """The model that a spec names.

    Raises:
        MissingExtraError: transformers is not installed.
        UnknownNameError: a folder that is not there.
        UntrustedFileError: a repository that needs code of its own.
        WeightsDownloadError: it cannot be fetched.
        ModelError: no image classifier, or one whose preprocessing cannot be folded in.
    """
    transformers = library("transformers")
    place, options = _place(parts)
    options["trust_remote_code"] = False
    by_hand = (
        "Fetch the whole repository into the folder again."
        if parts.folder
        else "Check the name and the connection. Or fetch the repository elsewhere (hf download "
        f"{parts.member} --local-dir FOLDER), and write hf:./FOLDER."
    )
    with calling(parts.text, by_hand):
        try:
            network, told = transformers.AutoModelForImageClassification.from_pretrained(
                place, output_loading_info=True, **options
            )
            processor = transformers.AutoImageProcessor.from_pretrained(place, **options)
        except ValueError as error:
            if "trust_remote_code" not in str(error):
                raise
            raise UntrustedFileError(
                f"{parts.text}: this repository needs code of its own, and code from a repository is never run here. "
                "If you trust it, load it in a FILE.py of yours, and give FILE.py:FACTORY."
            ) from error
    if lacking := sorted(told["missing_keys"]):
        raise ModelError(
            f"{parts.text} is no trained image classifier: it has no weights for {', '.join(lacking[:4])}. Take a "
            "repository that was fine-tuned for classification."
        )

    def process(image: Image.Image) -> Tensor:
        pixels: Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    with calling(parts.text, by_hand):
        found = measured(process, parts.text)
    names = _names(network.config)
    skipped = int(bool(names) and names[0].lower() == _BACKGROUND)
    outputs = int(network.config.num_labels) - skipped
    usage = Usage(
        library=f"transformers {transformers.__version__}",
        weights=f"{place} {parts.variant}".strip(),
        shape=found.shape,
        outputs=outputs,
        classes=names[skipped:],
        crop=found.crop,
        interpolation=_interpolation(processor),
    )
    return Brought(Inner(network, found.order, skipped), found.mean, found.std, usage)


def _place(parts: Spec) -> tuple[str, dict[str, Any]]:
    """What transformers loads from, and with which options.

    Raises:
        UnknownNameError: no such folder, or a folder of the repository's name that nobody meant.
    """
    if parts.folder is not None:
        folder = expanded(parts.folder)
        try:
            found = (folder / "config.json").is_file()
        except OSError:
            found = False
        if not found:
            way_out = "Give a folder that `hf download` or save_pretrained filled."
            raise UnknownNameError("model", parts.text, "no folder with a config.json", way_out)
        return str(folder), {"local_files_only": True}
    if Path(parts.member).exists():
        way_out = f"Write hf:./{parts.member} for the folder, or start elsewhere."
        raise UnknownNameError("model", parts.text, "a folder of this name lies here, and would be taken", way_out)
    return parts.member, {"revision": parts.variant} if parts.variant else {}


def _names(config: Any) -> tuple[str, ...]:
    """Class names in the order of the outputs; nothing where the repository only numbers them."""
    told = {int(key): str(name) for key, name in (config.id2label or {}).items()}
    names = tuple(told.get(k, "") for k in range(int(config.num_labels)))
    return () if all(name in ("", f"LABEL_{k}") for k, name in enumerate(names)) else names


def _interpolation(processor: Any) -> str:
    """How a processor resizes, where it says so."""
    timm = getattr(processor, "data_config", None)
    if timm is not None:
        return str(timm.get("interpolation", ""))
    resample = getattr(processor, "resample", None)
    return Image.Resampling(resample).name.lower() if isinstance(resample, int) else str(resample or "")
