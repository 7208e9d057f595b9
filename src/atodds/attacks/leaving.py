"""How images leave the state of an attack once they are done."""

from torch import Tensor


def without(gone: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
    """The state without the rows where `gone` is true, in another order and still contiguous.

    The last rows move into the gaps, so the work grows with the rows that leave and not with those that stay: an image
    can leave at once, and no pass is ever made for one that is done.

    Args:
        gone: (N,) bool.
        state: tensors (N, ...), one row an image; they are used up.

    Returns:
        The same tensors, cut to the rows that stay: views of the old ones.
    """
    left = len(gone) - int(gone.sum())
    gaps = gone[:left].nonzero()[:, 0]
    movers = (~gone[left:]).nonzero()[:, 0] + left
    for tensor in state if len(gaps) else ():
        tensor.index_copy_(0, gaps, tensor.index_select(0, movers))
    return tuple(tensor[:left] for tensor in state)
