"""How a network is trained, in one frozen value that a card can hold."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from atodds.errors import ArgumentError, UnknownNameError
from atodds.threat import EpsLike, Norm, Threat, parse_eps, parse_norm
from atodds.training.objectives import AGAINST, OBJECTIVES, Inner

VERSION = 1
"""Raised whenever the same recipe, data and seed give other weights than before."""


def _one_cycle(done: float) -> float:
    return done / 0.3 if done < 0.3 else (1 - done) / 0.7


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "one-cycle": _one_cycle,
}
"""Share of training done, in [0, 1) -> share of the learning rate. "one-cycle" rises for 30 %, then falls to 0."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: SGD with Nesterov momentum.

    Args:
        objective: "standard" or "adversarial".
        epochs: passes over the data.
        batch_size: images a step, at most; the steps of an epoch are of equal size, give or take one image.
        lr: highest learning rate.
        momentum: of SGD, in [0, 1).
        weight_decay: of SGD.
        schedule: "constant", "cosine" or "one-cycle".
        norm: of the ball that adversarial training defends, "linf", "l2" or "l1".
        eps: its radius, as a number or text such as "8/255"; None for standard training.
        attack_steps: PGD's steps inside adversarial training.
        attack_step_size: their length; None takes 2.5·eps/steps.
        eps_ramp: share of training during which eps and the step length rise to their values from 0, in [0, 1]. Against
            a large eps from the start, a fresh network may learn nothing at all.
        seed: decides first weights, order of the images, and random starts.

    Raises:
        UnknownNameError: an objective or schedule that does not exist.
        ThreatError: a norm or eps that means nothing.
        ArgumentError: a number out of its range; an eps for standard training, or none for adversarial training.
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
    attack_steps: int = 10
    attack_step_size: float | None = None
    eps_ramp: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for argument, name, known in (
            ("objective", self.objective, OBJECTIVES),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if name not in known:
                raise UnknownNameError.among(argument, name, known)
        for argument in ("epochs", "batch_size", "attack_steps"):
            self._check(argument, int, lambda count: count >= 1, "an integer of at least 1")
        self._check("seed", int, lambda seed: abs(seed) < 2**62, "an integer, below 2^62")
        self._check("lr", (int, float), lambda lr: 0 < lr < math.inf, "a positive number")
        self._check("momentum", (int, float), lambda share: 0 <= share < 1, "a number from 0 to below 1")
        self._check("weight_decay", (int, float), lambda decay: 0 <= decay < math.inf, "0 or a positive number")
        self._check("eps_ramp", (int, float), lambda share: 0 <= share <= 1, "a number from 0 to 1")
        if self.attack_step_size is not None:
            self._check(
                "attack_step_size", (int, float), lambda size: 0 < size < math.inf, "a positive number, or None"
            )
        object.__setattr__(self, "norm", parse_norm(self.norm))
        if self.eps is not None:
            object.__setattr__(self, "eps", parse_eps(self.eps, self.norm).value)
        if (self.objective in AGAINST) != bool(self.eps):
            if self.objective in AGAINST:
                problem = "no budget to train against"
                raise ArgumentError("eps", self.eps, problem, "Give the radius of the ball, such as '8/255'.")
            problem = f"{self.objective} training has no use for it"
            raise ArgumentError("eps", self.eps, problem, "Leave it out, or take objective='adversarial'.")

    def inner(self, done: float = 1.0) -> Inner | None:
        """The attack to train against when this share of training is done; None for standard training."""
        if self.eps is None:
            return None
        full = float(parse_eps(self.eps, str(self.norm)).value)
        step_size = 2.5 * full / self.attack_steps if self.attack_step_size is None else self.attack_step_size
        share = min(1.0, done / self.eps_ramp) if self.eps_ramp else 1.0
        return Inner(Threat(self.norm, share * full), self.attack_steps, share * step_size)

    def told(self) -> dict[str, str | int | float | bool | None]:
        """The recipe as a card holds it, with the version of the code that follows it."""
        return asdict(self) | {"training_code": VERSION}

    def _check(self, argument: str, kind: type | tuple[type, ...], fine: Callable[[float], bool], wanted: str) -> None:
        value: Any = getattr(self, argument)
        right = isinstance(value, kind) and not isinstance(value, bool)
        if not (right and fine(value)):
            raise ArgumentError(argument, value, f"not {wanted}", f"Give {wanted}.")
