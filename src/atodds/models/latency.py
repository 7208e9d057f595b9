"""How long a model takes for one image, here and now."""

import statistics
import time

import torch
from torch import nn

from atodds.errors import ModelError
from atodds.models.plain import Shape

REPEATS = 30
LONGEST = 2.0
"""Seconds after which no further pass is timed."""


def latency_ms(model: nn.Module, shape: Shape) -> float:
    """The median milliseconds of one forward pass of one image, on the model's device, with the threads of now.

    Args:
        model: in eval mode it stays, and in training mode it is put back into it.
        shape: (C, H, W) of the image, grey of 0.5.

    Raises:
        ModelError: the model cannot take such an image.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    image = torch.full((1, *shape), 0.5, device=device)
    training = model.training
    model.eval()
    spent: list[float] = []
    try:
        with torch.inference_mode():
            began = time.perf_counter()
            for turn in range(REPEATS + 3):
                start = time.perf_counter()
                model(image)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if turn >= 3:  # the first passes warm up
                    spent.append(time.perf_counter() - start)
                if spent and time.perf_counter() - began > LONGEST:
                    break
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"The model cannot take an image of shape {tuple(shape)}: {error}.") from error
    finally:
        model.train(training)
    return 1000 * statistics.median(spent)
