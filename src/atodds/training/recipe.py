"""How a network is trained, in one frozen value that a card can hold."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from atodds.data.augment import Augmentation
from atodds.errors import ArgumentError, UnknownNameError
from atodds.threat import EpsLike, Norm, Threat, parse_eps, parse_norm
from atodds.training.inner import Inner
from atodds.training.objectives import OBJECTIVES

VERSION = 2
"""Raised whenever the same recipe, data and seed give other weights than before."""

Precision = Literal["float32", "bfloat16"]


_THRIFT = ("skip", "freeze")


def _one_cycle(done: float) -> float:
    return done / 0.3 if done < 0.3 else (1 - done) / 0.7


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "one-cycle": _one_cycle,
    "step": lambda done: 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01,
}
"""Share of training done, in [0, 1) -> share of the learning rate. "one-cycle" rises for 30 %, then falls to 0; "step"
falls to a tenth after a half and again after three quarters."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum.

    Args:
        objective: "standard", "adversarial", "trades", "fast" or "free".
        epochs: passes over the data.
        batch_size: images a step, at most; the steps of an epoch are of equal size, give or take one image.
        lr: highest learning rate.
        momentum: of SGD, in [0, 1).
        weight_decay: of SGD.
        schedule: "constant", "cosine", "one-cycle" or "step".
        norm: of the ball that is defended, "linf", "l2" or "l1".
        eps: its radius, as a number or text such as "8/255"; None for standard training.
        attack_steps: gradients in the images, for each batch: of the attack inside, 10 unless said otherwise, 1 in fast
            training; of the replays in free training, 4 unless said otherwise.
        attack_step_size: length of their steps; None takes 2.5·eps/steps, 1.25·eps in fast training, eps in free.
        eps_ramp: share of training during which eps and the step length rise to their values from 0, in [0, 1]. Against
            a large eps from the start, a fresh network may learn nothing at all.
        beta: TRADES' weight of the robust term.
        skip: in adversarial training, share of the images that are neither attacked to the end nor trained on: those
            that can reach the smallest loss, as their first gradient tells, in [0, 1).
        freeze: in adversarial training, signal of the gradients of a layer's weights below which it stands still for
            some batches, with all layers before it; 1 is that of noise alone, 0 is never.
        shift, flip, rotation: augmentation; see `atodds.data.augment.Augmentation`.
        precision: "float32", or "bfloat16": forward and backward passes in bfloat16, weights and sums in float32.
        seed: decides first weights, order of the images, augmentation, and random starts.

    Raises:
        UnknownNameError: an objective, schedule or precision that does not exist.
        ThreatError: a norm or eps that means nothing.
        ArgumentError: a number out of its range; an eps for standard training, or none for another.
    """

    objective: str = "standard"
    epochs: int = 30
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    norm: Norm | str = "linf"
    eps: EpsLike | None = None
    attack_steps: int | None = None
    attack_step_size: float | None = None
    eps_ramp: float = 0.0
    beta: float = 6.0
    skip: float = 0.0
    freeze: float = 0.0
    shift: float = 0.0
    flip: bool = False
    rotation: float = 0.0
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for argument, name, known in (
            ("objective", self.objective, OBJECTIVES),
            ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, get_args(Precision)),
        ):
            if name not in known:
                raise UnknownNameError.among(argument, name, known)
        self._check_numbers()
        object.__setattr__(self, "norm", parse_norm(self.norm))
        if self.eps is not None:
            object.__setattr__(self, "eps", parse_eps(self.eps, self.norm).value)
        objective = OBJECTIVES[self.objective]
        if objective.against and not self.eps:
            way_out = "Give the radius of the ball, such as '8/255'."
            raise ArgumentError("eps", self.eps, "no budget to train against", way_out)
        if self.eps is not None and not objective.against:
            problem = f"{self.objective} training has no use for it"
            raise ArgumentError("eps", self.eps, problem, "Leave it out, or take objective='adversarial'.")
        if self.objective == "fast" and self.attack_steps not in (None, 1):
            problem = "fast training takes a single step"
            raise ArgumentError("attack_steps", self.attack_steps, problem, "Take objective='adversarial'.")
        for argument in _THRIFT:
            if getattr(self, argument) and self.objective != "adversarial":
                problem = f"{self.objective} training has no use for it"
                raise ArgumentError(argument, getattr(self, argument), problem, "Take objective='adversarial'.")
        if self.skip and self.attack_steps == 1:
            raise ArgumentError("skip", self.skip, "one step of attack leaves nothing to save", "Take 2 steps or more.")
        _ = self.augmentation  # which checks its own numbers

    @property
    def augmentation(self) -> Augmentation:
        """What is done to the images of a batch."""
        return Augmentation(self.shift, self.flip, self.rotation)

    def inner(self, done: float = 1.0) -> Inner | None:
        """What to train against when this share of training is done; None for standard training."""
        objective = OBJECTIVES[self.objective]
        if self.eps is None or not objective.against:
            return None
        full = parse_eps(self.eps, str(self.norm)).value
        steps = self.attack_steps or objective.steps
        step_size = objective.step_size(steps) * full if self.attack_step_size is None else self.attack_step_size
        share = min(1.0, done / self.eps_ramp) if self.eps_ramp else 1.0
        return Inner(Threat(self.norm, share * full), steps, share * step_size, self.beta, self.skip, self.freeze)

    def told(self) -> dict[str, str | int | float | bool | None]:
        """The recipe as a card holds it, with the version of the code that follows it."""
        inner = self.inner()
        attack = {} if inner is None else {"attack_steps": inner.steps, "attack_step_size": inner.step_size}
        # Cards that were written before these were known still say the same training.
        recipe = {name: value for name, value in asdict(self).items() if value or name not in _THRIFT}
        return recipe | attack | {"training_code": VERSION}

    def _check_numbers(self) -> None:
        """Refuse numbers out of their range, and what is no number."""
        for argument in ("epochs", "batch_size", "attack_steps"):
            if getattr(self, argument) is not None or argument != "attack_steps":
                self._check(argument, int, lambda count: count >= 1, "an integer of at least 1")
        self._check("seed", int, lambda seed: abs(seed) < 2**62, "an integer, below 2^62")
        self._check("lr", (int, float), lambda lr: 0 < lr < math.inf, "a positive number")
        self._check("momentum", (int, float), lambda share: 0 <= share < 1, "a number from 0 to below 1")
        self._check("skip", (int, float), lambda share: 0 <= share < 1, "a share from 0 to below 1")
        for argument in ("weight_decay", "beta", "freeze"):
            self._check(argument, (int, float), lambda weight: 0 <= weight < math.inf, "0 or a positive number")
        self._check("eps_ramp", (int, float), lambda share: 0 <= share <= 1, "a number from 0 to 1")
        if self.attack_step_size is not None:
            self._check(
                "attack_step_size", (int, float), lambda size: 0 < size < math.inf, "a positive number, or None"
            )

    def _check(self, argument: str, kind: type | tuple[type, ...], fine: Callable[[Any], bool], wanted: str) -> None:
        value: Any = getattr(self, argument)
        right = isinstance(value, kind) and not isinstance(value, bool)
        if not (right and fine(value)):
            raise ArgumentError(argument, value, f"not {wanted}", f"Give {wanted}.")
