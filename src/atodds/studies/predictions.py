"""What a model says of images, kept under the hash of both, so that it is asked only once."""

import hashlib
import io
import json
import logging
import os
import zipfile

import numpy as np
import torch
from torch import nn

from atodds.batching import Batching
from atodds.data.arrays import Integers
from atodds.data.images import ImageSet
from atodds.evaluation.folder import Folder
from atodds.evaluation.schema import NO_CLASS
from atodds.models import fingerprint
from atodds.oracle import Oracle

log = logging.getLogger("atodds")

_CODE = 1
"""Raised by one when predictions are made another way."""
_DECODED = 2048
"""Images that are held as numbers at once."""


def predictions(model: nn.Module, images: ImageSet, place: str | os.PathLike[str]) -> Integers:
    """(N,) the class that a model gives each image, -1 where its outputs are not numbers.

    Args:
        model: on any device.
        images: to be classified.
        place: folder where it is kept, in `predictions/`. A file there that is not whole is made again.

    Raises:
        LogitsError: outputs that are no logits.
        RunError: the folder cannot be written.
    """
    folder, name = Folder(place), f"predictions/{_key(model, images)}.npy"
    try:
        kept = np.load(io.BytesIO(folder.read(name)), allow_pickle=False)
        if isinstance(kept, np.ndarray) and kept.dtype == np.int64 and kept.shape == (len(images),):
            return kept
        log.warning("%s holds something else. It is made again.", name)
    except FileNotFoundError:
        pass
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged (%s). It is made again.", name, error)
    found = _asked(model, images)
    buffer = io.BytesIO()
    np.save(buffer, found, allow_pickle=False)
    folder.write(name, buffer.getvalue())
    return found


def _asked(model: nn.Module, images: ImageSet) -> Integers:
    oracle = Oracle(model, batch_size=Batching(256), strict=False)
    parts = []
    with oracle.running():
        for start in range(0, len(images), _DECODED):
            rows = range(start, min(start + _DECODED, len(images)))
            logits = oracle.logits(images.images(rows).to(oracle.device), torch.arange(len(rows), device=oracle.device))
            known = logits.amax(1).isfinite()
            parts.append(torch.where(known, logits.argmax(1), NO_CLASS).cpu())
    found: Integers = torch.cat(parts).numpy().astype(np.int64)
    return found


def _key(model: nn.Module, images: ImageSet) -> str:
    what = [_CODE, fingerprint(model), images.fingerprint]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
