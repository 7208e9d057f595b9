"""The digits embedded in scikit-learn: 1,797 grey 8x8 images, there without any download.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

import numpy as np

from atodds.data.images import ImageSet
from atodds.errors import UnknownNameError

FIFTH = 5


def load(split: str = "test") -> ImageSet:
    """The digits, whose levels 0..16 become uint8: round(level * 255 / 16).

    Of each class every fifth image, in scikit-learn's order, is "test" (355 images, 34 to 36 a class), the others are
    "train" (1,442). An id is the row within the split.

    Raises:
        UnknownNameError: another split.
    """
    if split not in ("train", "test"):
        raise UnknownNameError.among("split", split, ("train", "test"))
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = np.asarray(bunch.target, np.int64)
    levels = np.asarray(bunch.images, np.float64)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[FIFTH - 1 :: FIFTH]] = True
    chosen = test if split == "test" else ~test
    pixels = np.rint(levels[chosen] * 255 / 16).astype(np.uint8)
    return ImageSet.from_arrays(
        pixels, labels[chosen], classes=[str(label) for label in range(10)], name="digits", split=split
    )
