"""Models that several tests make."""

import torch
from torch import nn


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in float64, with weights and running statistics that are nothing special, frozen."""
    draw = torch.Generator().manual_seed(seed)
    model = model.double().eval().requires_grad_(False)
    for tensor in [*model.parameters(), *(b for name, b in model.named_buffers() if "num_batches" not in name)]:
        tensor.copy_(torch.rand(tensor.shape, generator=draw, dtype=torch.float64) * 0.8 + 0.1)
        tensor.sub_(0.5 * (tensor.ndim > 1))
    return model
