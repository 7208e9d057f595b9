"""How a model is run: logits, and gradients of a loss, on a pool of images of any size.

The oracle cuts the pool into full batches, finds the batch size by measuring and halves it when memory runs out, runs
the model in eval mode with frozen parameters on the device where it already is, in the precision asked for, averages
over random models (expectation over transformation: Athalye et al., "Synthesizing robust adversarial examples", ICML
2018), and counts the passes of each image. The model is given back as it came.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import get_args

import torch
from torch import Tensor, nn

from atodds.batching import Batching, BatchSizes, Kind
from atodds.errors import ArgumentError, LogitsError, ModelError
from atodds.forms import Forms
from atodds.incremental import AT_ONCE, Incremental, plan
from atodds.layers import Layers, Pair, take_apart
from atodds.outputs import FULL, logits_of
from atodds.passes import Counter, Passes
from atodds.precision import Precision, full_float32, named
from atodds.tracing import Contents

log = logging.getLogger("atodds")

Objective = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, K), positions (B,) of the batch in the pool) -> (B,) values to raise."""

_FORMATS = {False: torch.preserve_format, True: torch.channels_last}
_FLOAT16_SCALE = 1024.0
_MAPS = 1 << 30
"""Bytes of maps that are kept at most, for windows of images."""


@dataclass(frozen=True)
class Gradients:
    """What one forward and backward pass over a pool gives: gradient (N, ...), objective (N,), logits (N, K)."""

    gradient: Tensor
    objective: Tensor
    logits: Tensor


class Oracle:
    """A model, and all that is decided about running it.

    Args:
        model: images (B, C, H, W) in [0, 1] -> logits (B, K), or a tuple that starts with them, or an object with
            `.logits`.
        batch_size: images at once; None finds it by measuring; a `Batching` is shared with other oracles of the model.
        precision: "float32" (or "float64" for a model of that type) is the model's own; "bfloat16" and "float16" run
            it under autocast. None: own.
        eot: passes that each answer averages over, for models that draw at random.
        on_passes: called with the number of (forward, backward) passes as they are made.
        strict: refuse outputs that are no numbers. False lets them through: a model may break down on the images that
            an attack makes, and the judge counts that as a wrong answer.
        folded: let the model's folded form answer, but for rounding, where no answer is asked to be exact: for attacks
            of many passes, whose fooling images the model itself is shown.

    Raises:
        ArgumentError: an argument out of its range.
        ModelError: parameters that autograd cannot use.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_size: int | BatchSizes | Batching | None = None,
        precision: Precision | None = None,
        eot: int = 1,
        on_passes: Callable[[int, int], None] | None = None,
        strict: bool = True,
        folded: bool = False,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ArgumentError("model", model, "not a torch.nn.Module", "Wrap the function in a module's forward.")
        if eot < 1:
            raise ArgumentError("eot", eot, "no pass to average over", "Give 1 or more.")
        if precision is not None and precision not in get_args(Precision):
            way_out = f"Choose one of {', '.join(get_args(Precision))}."
            raise ArgumentError("precision", precision, "not a number format that models run in", way_out)
        self.model, self.eot, self.on_passes, self.strict = model, eot, on_passes, strict
        self.batching = batch_size if isinstance(batch_size, Batching) else Batching(batch_size)
        self._counter = Counter()
        self._depth = 0
        self._place: torch.device | None = None  # of the model, while it runs
        self._apart: dict[torch.Size, Layers | None] = {}  # for images of each shape
        self._contents: Contents | None = None  # of the model that they were made of
        self._whole = eot > 1  # whether every pass must be a whole one: no layer of the model can be computed in part
        self._writes: dict[nn.Module, bool] = {}  # whether the model, and its form, write into their input
        self.odd_gradients = 0
        """Images whose gradient was NaN or infinite somewhere; those values were taken as 0."""
        first = next(
            (tensor for tensor in chain(model.parameters(), model.buffers()) if tensor.is_floating_point()), None
        )
        self._own = torch.float32 if first is None else first.dtype
        self.precision: Precision = precision or named(self._own)
        if self.precision in ("float32", "float64") and precision and getattr(torch, precision) != self._own:
            way_out = f"Call model.{'double' if precision == 'float64' else 'float'}() first."
            raise ArgumentError("precision", precision, f"the model's parameters are {named(self._own)}", way_out)
        if any(parameter.is_inference() for parameter in model.parameters()):
            raise ModelError(
                "The model was made inside torch.inference_mode(), so it has no gradients: make it outside."
            )
        self._forms = Forms(model) if folded and eot == 1 and not self.reduced and self._own in FULL else None

    @classmethod
    def of(cls, model: "nn.Module | Oracle", *, folded: bool = False) -> "Oracle":
        """The oracle itself, or one for a bare model."""
        return model if isinstance(model, Oracle) else cls(model, folded=folded)

    @property
    def device(self) -> torch.device:
        """Where the model is now; the CPU for a model without parameters and buffers."""
        if self._place is not None:
            return self._place
        first = next(chain(self.model.parameters(), self.model.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @contextmanager
    def running(self) -> Iterator[None]:
        """Eval mode and frozen parameters while it lasts, and the model as it came afterwards. May be nested."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        training = [module for module in self.model.modules() if module.training]
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._depth, self._place = 1, self.device
        if self._forms or self._contents:
            self._refresh()
        try:
            for module in training:
                module.training = False
            for parameter in learning:
                parameter.requires_grad_(False)
            with full_float32(self.device, self.precision), torch.autocast(self.device.type, enabled=False):
                yield
        finally:
            self._depth, self._place = 0, None
            for module in training:
                module.training = True
            for parameter in learning:
                parameter.requires_grad_(True)

    def _refresh(self) -> None:
        """Forget what was made of a model that has changed since."""
        contents = Contents(self.model)
        if self._contents is None or not contents.same(self._contents):
            self._contents, self._apart, self._writes = contents, {}, {}
            if self._forms:
                self._forms.forget()
        elif self._forms:
            self._forms.doubt()

    @property
    def reduced(self) -> bool:
        """Whether the model runs in less precision than its own."""
        return self.precision in ("bfloat16", "float16") and self.precision != named(self._own)

    @property
    def folded(self) -> bool:
        """Whether answers that are not asked to be exact may come from the model's folded form."""
        return self._forms is not None and self._forms.used

    @property
    def slack(self) -> float:
        """Logits that are no further apart than this in the form's answers may be the other way round in the model."""
        return self._forms.slack if self._forms else 0.0

    def answering(self, images: Tensor) -> nn.Module:
        """What answers for the model where that need not be exact: its folded form, where there is one, else itself.
        Passes to compare the two, for a few images at first and in 500 calls, are counted for nobody.

        Args:
            images: (N, C, H, W) in [0, 1].
        """
        if self._forms is None or images.ndim != 4 or len(images) == 0:
            return self.model
        with self.running():
            return self._forms.of(images, self.device, self._own, self.batching.most) or self.model

    def logits(self, images: Tensor, ids: Tensor, *, exact: bool = False) -> Tensor:
        """Logits of all images of a pool, without gradients.

        Args:
            images: (N, C, H, W) in [0, 1].
            ids: (N,) int64, whom the passes are counted for.
            exact: by the model itself, in its own precision, whatever the oracle's.

        Returns:
            (N, K), float32 or float64, on the model's device.

        Raises:
            LogitsError: the output is not one row of at least two logits an image.
        """
        rows: list[Tensor] = []
        device, model = self.device, self.model if exact else self.answering(images)

        def work(batch: slice, last: bool) -> None:
            with torch.inference_mode(False), torch.no_grad():
                part = images[batch].to(device=device, dtype=self._own, memory_format=_FORMATS[last])
                total = self._forward(model, part, exact=exact)
                for _ in range(self.eot - 1):
                    total = total + self._forward(model, part, exact=exact)
            rows.append(total / self.eot if self.eot > 1 else total)

        self._run("forward", images, ids, work)
        return self._usable(torch.cat(rows))

    def gradients(self, images: Tensor, objective: Objective, ids: Tensor) -> Gradients:
        """The gradient of an objective in the images, with its values and the logits, averaged over `eot` passes.

        Works where the caller stands in `no_grad` or `inference_mode`. A model whose output does not depend on its
        input through autograd has gradient 0.

        Args:
            images: (N, C, H, W) in [0, 1].
            objective: (logits (B, K), positions (B,)) -> (B,).
            ids: (N,) int64, whom the passes are counted for.

        Raises:
            LogitsError: as for `logits`.
        """
        slopes: list[Tensor] = []  # one tensor that the batches fill, so that each is written while it is in the cache
        parts: list[tuple[Tensor, Tensor]] = []
        device, model = self.device, self.answering(images)

        def work(batch: slice, last: bool) -> None:
            part = images[batch].detach().to(device=device, dtype=self._own, memory_format=_FORMATS[last])
            positions = torch.arange(batch.start, batch.stop, device=device)
            slope, values, logits = self._backward(model, part, objective, positions)
            for _ in range(self.eot - 1):
                again = self._backward(model, part, objective, positions)
                slope, values, logits = slope + again[0], values + again[1], logits + again[2]
            if self.eot > 1:
                slope, values, logits = slope / self.eot, values / self.eot, logits / self.eot
            if len(slope) == len(images):
                slopes.append(slope.to(images.dtype).contiguous())
            else:
                if not slopes:
                    slopes.append(torch.empty(images.shape, dtype=images.dtype, device=device))
                slopes[0][batch] = slope
            parts.append((values, logits))

        self._run("gradient", images, ids, work)
        values, logits = (torch.cat(column) for column in zip(*parts, strict=True))
        return Gradients(slopes[0], values, self._usable(logits))

    def incremental(self, images: Tensor, ids: Tensor, sides: Pair) -> Incremental | None:
        """The maps of the model's first layers for images in which windows of one size are going to change. One forward
        pass an image.

        Args:
            images: (N, C, H, W) in [0, 1].
            ids: (N,) int64, whom the passes are counted for.
            sides: height and width of the windows.

        Returns:
            None where a window leaves too little of a pass out: the model's layers cannot be told apart or mix
            everything, the maps are too large, or it runs on a GPU, or averaged over passes.
        """
        if self._whole or self.device.type != "cpu" or images.ndim != 4 or self._own not in FULL:
            return None
        with self.running(), torch.inference_mode(False), torch.no_grad():
            given, shape = images.to(self._own), images.shape[1:]
            if self._contents is None:
                self._contents = Contents(self.model)
            if shape not in self._apart:
                self._apart[shape] = take_apart(self.model, given[:1])
            apart = self._apart[shape]
            chosen = None if apart is None else plan(apart, sides)
            if apart is None or chosen is None or chosen.floats * len(images) * self._own.itemsize > _MAPS:
                return None
            try:
                state = Incremental.of(apart, chosen, given, self.batching.most or self.batching.sizes.forward)
            except Exception as error:  # noqa: BLE001 - out of memory, or the model's own code
                log.debug("Whole passes for images of shape %s: %s", tuple(shape), error)
                self._apart[shape] = None
                return None
        self._count(ids, 1, 0)
        return state

    def window_logits(self, state: Incremental, corners: Tensor, windows: Tensor, ids: Tensor) -> Tensor:
        """Logits of images in which a window has changed, but for rounding; each counts as a forward pass. They are in
        the model's own precision, also where the oracle's is reduced.

        Args:
            state: the images before.
            corners: (N, 2) the windows' first rows and columns.
            windows: (N, C, h, w) their values.
            ids: (N,) int64, whom the passes are counted for.

        Returns:
            (N, K), as from `logits`.

        Raises:
            ModelError: the model fails where its layers are computed in part, as for want of memory.
            LogitsError: as for `logits`.
        """
        with self.running(), torch.inference_mode(False), torch.no_grad():
            try:
                answers = state.answers(corners, windows.to(self._own), self.batching.most or AT_ONCE)
            except Exception as error:
                raise ModelError(f"The model fails where its layers are computed in part: {error}") from error
            logits = torch.cat([logits_of(answer, part.stop - part.start) for part, answer in answers])
        self._count(ids, 1, 0)
        return self._usable(logits)

    def only_whole(self) -> None:
        """Compute no layer in part from now on: what came of it was not what the model says."""
        self._whole = True

    def passes(self) -> Passes:
        """All passes counted so far, an image at a time."""
        return self._counter.passes()

    def _run(self, kind: Kind, images: Tensor, ids: Tensor, work: Callable[[slice, bool], None]) -> None:
        if len(images) == 0:
            raise ArgumentError("images", tuple(images.shape), "no image", "Pass at least one.")
        with self.running():
            self.batching.run(kind, len(images), self.device, work, spatial=images.ndim == 4)
        self._count(ids, self.eot, self.eot if kind == "gradient" else 0)

    def _count(self, ids: Tensor, forwards: int, backwards: int) -> None:
        self._counter.add(ids, forwards, backwards)
        if self.on_passes:
            self.on_passes(len(ids) * forwards, len(ids) * backwards)

    def _forward(self, model: nn.Module, part: Tensor, *, exact: bool = False) -> Tensor:
        """The logits of the model or its form, without leave to write into the part: one that does, as `x -= mean` or
        a first ReLU in place do, is given copies from then on."""
        writes = self._writes.get(model)
        given = part if writes is False else part.clone()
        version = given._version if writes is None else 0
        if self.precision in ("bfloat16", "float16") and not exact:
            with torch.autocast(part.device.type, getattr(torch, self.precision)):
                output = model(given)
        else:
            output = model(given)
        if writes is None:
            self._writes[model] = given._version != version
        return logits_of(output, len(part))

    def _usable(self, logits: Tensor) -> Tensor:
        """The logits, where each image has a largest one. Minus infinity for a class that is never meant is fine."""
        if self.strict and not logits.sum().isfinite() and not logits.amax(1).isfinite().all():
            row = int((~logits.amax(1).isfinite()).nonzero()[0])
            way_out = (
                "Check that its weights are finite and that it takes images in [0, 1]."
                if self.precision in ("float32", "float64")
                else f"It ran in {self.precision}: use bfloat16, which reaches further, or float32."
            )
            raise LogitsError(f"The model returned {logits[row].tolist()} for an image: no finite logits. {way_out}")
        return logits

    def _backward(
        self, model: nn.Module, part: Tensor, objective: Objective, positions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = (part.clone() if part.is_inference() else part.detach()).requires_grad_(True)
            logits = self._forward(model, leaf)
            values = objective(logits, positions)
            if not values.requires_grad:
                return torch.zeros_like(leaf), values, logits
            scale = _FLOAT16_SCALE if self.precision == "float16" else 1.0
            found: tuple[Tensor | None, ...] = torch.autograd.grad(values.sum() * scale, leaf, allow_unused=True)
        (gradient,) = found
        if gradient is None:
            return torch.zeros_like(leaf), values.detach(), logits.detach()
        if not gradient.sum().isfinite():  # one pass over memory; only then a look at each value
            odd = ~gradient.isfinite()
            self.odd_gradients += int(odd.flatten(1).any(1).sum())
            gradient = gradient.masked_fill(odd, 0)
        return gradient / scale if scale > 1 else gradient, values.detach(), logits.detach()
