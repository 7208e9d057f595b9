"""Attacks by name, with settings: `pgd`, `pgd(steps=100,restarts=5)`, `pgd(target=random)`, `fgsm,pgd`.

One line here makes an attack known to the plan, the command line, the audit and the contract tests.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import get_type_hints

import torch
from torch import Tensor, nn

from atodds import norms
from atodds.attacks.auto_pgd import auto_pgd, auto_pgd_targeted
from atodds.attacks.carlini_wagner import carlini_wagner
from atodds.attacks.elastic_net import elastic_net
from atodds.attacks.fast_adaptive_boundary import fab, fab_targeted
from atodds.attacks.gradient_sign import fgsm, ifgsm, pgd
from atodds.attacks.hybrid import first_queries, hybrid
from atodds.attacks.ifgsm_search import ifgsm_search
from atodds.attacks.minimum_norm import minimum_norm
from atodds.attacks.pool import Balls
from atodds.attacks.random_noise import random_noise
from atodds.attacks.refinement import gradients as refining
from atodds.attacks.settings import Setting, call, fits, split, written
from atodds.attacks.square import square
from atodds.attacks.targets import MODES, Mode
from atodds.errors import ArgumentError, UnknownNameError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm, Threat

_CALL = ("targets", "ids", "seed", "starting_points")


@dataclass(frozen=True)
class Attack:
    """A known attack.

    Attributes:
        name: what it is called in the table and on the command line.
        function: (model or oracle, images, labels, threat or norm, *, targets, ids, seed, settings...) -> images.
        version: raised by one when a change makes it propose other images, so that old results are not taken for new.
        passes: an upper bound of an image's passes, from the settings: what the progress bar counts.
        norms: those that it works in.
        black_box: it asks for no gradient.
        aimed: it heads for one class after another, so that its DLR loss is the targeted one.
        nested: it adapts to the ball, so that what it misses in one it is not expected to find in a smaller one.
        minimum_norm: it takes a norm in the place of the threat, and gives the closest fooling image at any distance,
            or the image itself.
        summary: one line.
    """

    name: str
    function: Callable[..., Tensor]
    version: int
    passes: Callable[[Mapping[str, Setting]], int]
    norms: tuple[Norm, ...] = NORMS
    black_box: bool = False
    aimed: bool = False
    nested: bool = False
    minimum_norm: bool = False

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        return (inspect.getdoc(self.function) or "").split(". ")[0].splitlines()[0]

    @property
    def defaults(self) -> dict[str, Setting]:
        """Its settings, and what they are unless said otherwise."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in _CALL}

    @property
    def kinds(self) -> dict[str, object]:
        """The types of its settings."""
        return dict(get_type_hints(self.function))


def _int(settings: Mapping[str, Setting], name: str) -> int:
    value = settings[name]
    return int(value) if isinstance(value, (int, float)) else 0


def _times(settings: Mapping[str, Setting], *names: str) -> int:
    return math.prod(_int(settings, name) for name in names)


def _passes_of_hybrid(settings: Mapping[str, Setting]) -> int:
    turn = 2 * _int(settings, "steps") + _int(settings, "queries") + 4
    first = turn - _int(settings, "queries") + first_queries(_int(settings, "queries"))
    more = (_int(settings, "rounds") * _int(settings, "restarts") - 1) * turn
    return 1 + first + max(more, 2 * _int(settings, "gradients"))


ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack("fgsm", fgsm, 1, lambda _: 2),
        Attack("ifgsm", ifgsm, 2, lambda s: 2 * _int(s, "steps") + 1),
        Attack("pgd", pgd, 3, lambda s: (2 * _int(s, "steps") + 1) * _int(s, "restarts")),
        Attack("auto_pgd", auto_pgd, 2, lambda s: (2 * _int(s, "steps") + 5) * _int(s, "restarts"), nested=True),
        Attack(
            "auto_pgd_targeted",
            auto_pgd_targeted,
            2,
            lambda s: (2 * _int(s, "steps") + 5) * _int(s, "classes") + 1,
            aimed=True,
            nested=True,
        ),
        Attack(
            "fab",
            fab,
            1,
            lambda s: (2 * _int(s, "classes") + 1) * _times(s, "steps", "restarts") + 1,
            nested=True,
        ),
        Attack(
            "fab_targeted",
            fab_targeted,
            1,
            lambda s: 3 * _times(s, "classes", "steps", "restarts") + 1,
            aimed=True,
            nested=True,
        ),
        Attack(
            "square",
            square,
            1,
            lambda s: (_int(s, "queries") + 1) * _int(s, "restarts"),
            black_box=True,
            nested=True,
        ),
        Attack(
            "hybrid",
            hybrid,
            3,
            _passes_of_hybrid,
            nested=True,
        ),
        Attack("random_noise", random_noise, 1, lambda s: _int(s, "queries"), black_box=True),
        Attack(
            "carlini_wagner",
            carlini_wagner,
            3,
            lambda s: 2 * (_times(s, "steps", "searches") + refining(_int(s, "refine"))) + 1,
            ("l2",),
            minimum_norm=True,
        ),
        Attack(
            "elastic_net",
            elastic_net,
            3,
            lambda s: 2 * (_times(s, "steps", "searches") + refining(_int(s, "refine"))) + 1,
            ("l1",),
            minimum_norm=True,
        ),
        Attack(
            "ifgsm_search",
            ifgsm_search,
            2,
            lambda s: 2 * ((_int(s, "steps") + 1) * _int(s, "runs") + refining(_int(s, "refine"))) + 1,
            ("linf",),
            minimum_norm=True,
        ),
        Attack("minimum_norm", minimum_norm, 2, lambda s: 2 * _int(s, "gradients") + 1, minimum_norm=True),
    )
}

PRESETS: dict[str, str] = {
    "basic": "fgsm,pgd",
    "standard": "auto_pgd(restarts={restarts}),auto_pgd_targeted(classes={targets},loss={targeted}),"
    "fab_targeted,square",
    "plus": "auto_pgd(restarts=5),auto_pgd(loss={dlr},restarts=5),fab(restarts=5),square,"
    "auto_pgd_targeted(loss={targeted}),fab_targeted",
    "rand": "auto_pgd,auto_pgd(loss={dlr})",
    "quick": "auto_pgd,hybrid(gradients={gradients})",
}
"""Names for lists of attacks: "standard", "plus" and "rand" are those of AutoAttack (Croce & Hein, 2020)."""

OF_AUTO_ATTACK = ("standard", "plus", "rand")
"""Presets that the field knows by these names."""

FEW = 4
"""With fewer classes, presets attack the margin in the place of the DLR loss, which is not defined for them."""

EOT: dict[str, int] = {"rand": 20}
"""Passes that presets average over, unless told otherwise."""


@dataclass(frozen=True)
class Spec:
    """An attack with settings.

    Attributes:
        attack: the attack.
        settings: all of its settings, also those at their default.
        target: which class it heads for; None for any but the label.
    """

    attack: Attack
    settings: tuple[tuple[str, Setting], ...]
    target: Mode | None = None

    @property
    def name(self) -> str:
        """The attack's name, with the settings that differ from the default: what the table says."""
        defaults = self.attack.defaults
        changed = [f"{key}={written(value)}" for key, value in self.settings if value != defaults[key]]
        changed += [f"{_TARGET}={self.target}"] if self.target else []
        return f"{self.attack.name}({','.join(changed)})" if changed else self.attack.name

    @property
    def least_classes(self) -> int:
        """The fewest classes that it works with."""
        if ("loss", "dlr") not in self.settings:
            return 2
        return 4 if self.attack.aimed or self.target else 3

    @property
    def passes(self) -> int:
        """The most passes that an image can take."""
        return self.attack.passes(dict(self.settings))

    def run(
        self,
        model: Oracle,
        images: Tensor,
        labels: Tensor,
        threat: Threat | Balls,
        *,
        targets: Tensor | None = None,
        ids: Tensor | None,
        seed: int,
    ) -> Tensor:
        """The attack's proposals with these settings; arguments and result as in every attack. What a minimum-norm
        attack finds outside the ball is drawn back into it."""
        given = {"targets": targets, "ids": ids, "seed": seed, **dict(self.settings)}
        if not self.attack.minimum_norm:
            return self.attack.function(model, images, labels, threat, **given)
        found = self.attack.function(model, images, labels, threat.norm, **given)
        eps = Balls.of(threat, len(images)).eps.to(images.device)
        return norms.settle(found, images, eps, threat.norm)

    def check(self, norm: Norm) -> None:
        """Try the first passes with these settings on one image of four pixels that is misclassified from the start, so
        that a setting that cannot work is found before any long work.

        Raises:
            ArgumentError: from the attack.
        """
        passes = iter(range(_TRIED))

        def count(_forwards: int, _backwards: int) -> None:
            if next(passes, None) is None:
                raise _EnoughError

        image, oracle = torch.tensor([[[[0.25, 0.75, 0.0, 0.5]]]]), Oracle(nn.Flatten(), batch_size=1, on_passes=count)
        with suppress(_EnoughError):
            targets = torch.tensor([1]) if self.target else None
            self.run(oracle, image, torch.tensor([0]), Threat(norm, 0.125), targets=targets, ids=None, seed=0)


_TRIED = 30
"""Passes that a check of settings makes, at most."""


class _EnoughError(Exception):
    """A check has seen enough."""


def pieces(attacks: str | Sequence[str]) -> tuple[str, ...]:
    """The texts of a list of attacks, one for each preset or attack.

    Raises:
        ArgumentError: neither a text nor several.
    """
    texts = [attacks] if isinstance(attacks, str) else attacks
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise ArgumentError("attacks", attacks, "not the name of an attack", "Write names: 'fgsm,pgd(steps=100)'.")
    return tuple(piece for text in texts for piece in split(text))


def parse(attacks: str | Sequence[str], norm: Norm, classes: int | None = None) -> tuple[Spec, ...]:
    """The attacks that a text or a list of texts names, in order.

    Args:
        attacks: a preset, a name, a name with settings, or several of these, separated by commas.
        norm: the norm that all of them must work in.
        classes: that the model tells apart; None for enough of them.

    Raises:
        UnknownNameError: no such attack or setting.
        ArgumentError: not readable, none at all, one twice, or one that does not work in the norm or with so few
            classes.
    """
    specs = [spec for piece in pieces(attacks) for spec in _expanded(piece, norm, classes)]
    if not specs:
        raise ArgumentError("attacks", attacks, "no attack named", f"Choose from {', '.join(sorted(ATTACKS))}.")
    for spec in specs:
        if norm not in spec.attack.norms:
            known = " or ".join(spec.attack.norms)
            way_out = f"It works in {known}: ask for that norm, or leave it out."
            raise ArgumentError("attacks", spec.name, f"does not work in {norm}", way_out)
        if classes is not None and classes < spec.least_classes:
            problem = f"the DLR loss needs {spec.least_classes} classes, and the model has {classes}"
            raise ArgumentError("attacks", spec.name, problem, "Attack the margin: loss=margin.")
        if specs.count(spec) > 1:
            raise ArgumentError("attacks", spec.name, "named twice", "Name each attack once.")
    return tuple(specs)


def _expanded(piece: str, norm: Norm, classes: int | None) -> list[Spec]:
    if piece not in PRESETS:
        return [_spec(piece)]
    few = classes is not None and classes < FEW
    blanks = {
        "dlr": "margin" if few else "dlr",
        "targeted": "margin" if few else None,
        "restarts": 5 if norm == "l1" else 1,
        "targets": 5 if norm == "l1" else 9,
        "gradients": 200 if norm == "l1" else 100,
    }
    return [_spec(part) for part in split(PRESETS[piece].format(**blanks))]


def _spec(text: str) -> Spec:
    try:
        name, given = call(text)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        if text.replace("-", "_").isidentifier():
            raise UnknownNameError.among("attacks", text, [*ATTACKS, *PRESETS]) from None
        way_out = "Write a name, or a name with settings, each once: pgd(steps=100,restarts=5)."
        raise ArgumentError("attacks", text, "cannot be read", way_out) from None
    attack = ATTACKS.get(name)
    if attack is None:
        raise UnknownNameError.among("attacks", name, [*ATTACKS, *PRESETS])
    target, defaults = _target(attack, given), attack.defaults
    for key, value in given.items():
        if key not in defaults:
            raise UnknownNameError.among(f"attacks: setting of {attack.name}", key, defaults)
        if not fits(value, attack.kinds[key]):
            way_out = f"It is {written(defaults[key])} unless said otherwise."
            raise ArgumentError(f"attacks: {attack.name}({key}=)", value, "of the wrong type", way_out)
        if isinstance(value, float) and not math.isfinite(value):
            raise ArgumentError(f"attacks: {attack.name}({key}=)", value, "not a finite number", "Write another.")
    return Spec(attack, tuple((defaults | given).items()), target)


def _target(attack: Attack, given: dict[str, Setting]) -> Mode | None:
    """What the settings say of the target, taken out of them."""
    said, argument = given.pop(_TARGET, None), f"attacks: {attack.name}({_TARGET}=)"
    if said is None:
        return None
    if attack.aimed:
        way_out = "Leave the target out, or give it to an attack that heads for no class: pgd(target=random)."
        raise ArgumentError(argument, said, f"{attack.name} chooses its classes itself", way_out)
    found = next((mode for mode in MODES if mode == said), None)
    if found is None:
        raise UnknownNameError.among(argument, str(said), MODES)
    return found


_TARGET = "target"
"""The setting of every attack that says which class it heads for."""
