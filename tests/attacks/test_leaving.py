"""Images that are done leave the state of an attack; the others stay as they are, side by side in memory."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from atodds.attacks.leaving import without


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_the_rest_stays_in_every_tensor_alike(gone: list[bool]) -> None:
    count = len(gone)
    names, pixels = torch.arange(count), torch.arange(count * 6.0).view(count, 2, 3)
    leaving, expected = torch.tensor(gone), pixels.clone()
    left, images = without(leaving, names, pixels)
    assert sorted(left.tolist()) == [name for name in range(count) if not gone[name]]
    assert torch.equal(images, expected[left])
    assert images.is_contiguous()
    assert images.untyped_storage().data_ptr() == pixels.untyped_storage().data_ptr()  # no copy of those that stay


def test_nobody_moves_who_need_not() -> None:
    (left,) = without(torch.tensor([False, True, False, False, True, False]), torch.arange(6))
    assert left.tolist() == [0, 5, 2, 3]
