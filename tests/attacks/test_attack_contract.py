"""What every registered attack promises, in every norm that it works in. A new attack is covered by its line in the
registry: its whole-number settings are lowered here, so that it runs in a moment."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from atodds.attacks.registry import ATTACKS, Spec, parse
from atodds.errors import ArgumentError, EmptyDataError
from atodds.oracle import Oracle
from atodds.threat import Norm, Threat

DRAWS_NOTHING = {
    "fgsm",
    "ifgsm",
    "fab",
    "fab_targeted",
    "minimum_norm",
    "carlini_wagner",
    "elastic_net",
    "ifgsm_search",
}
"""Attacks whose result is the same for every seed, at their defaults."""

RADII: dict[Norm, float] = {"l1": 1.5, "l2": 0.3, "linf": 0.03}
ORDER = {"l1": 1, "l2": 2, "linf": np.inf}

ENOUGH: dict[str, dict[str, float]] = {
    "carlini_wagner": {"steps": 40, "searches": 4, "lr": 0.1, "initial": 1},
    "hybrid": {"rounds": 2},
}
"""Adam's steps have a length of their own: a few of the usual length get nowhere. A second round has the first behind
it, as all later ones have."""

PAIRS: list[tuple[str, Norm]] = [(name, norm) for name, attack in ATTACKS.items() for norm in attack.norms]
every_attack = pytest.mark.parametrize(("name", "norm"), PAIRS)
in_one_norm = pytest.mark.parametrize(("name", "norm"), [(name, a.norms[-1]) for name, a in ATTACKS.items()])


def quick(name: str, norm: Norm, **changed: int | bool | str) -> Spec:
    """The attack with each number of steps, queries or restarts at most 6."""
    defaults = ATTACKS[name].defaults
    lowered: dict[str, object] = {key: 6 for key, value in defaults.items() if type(value) is int and value > 6}
    lowered |= ENOUGH.get(name, {}) | {key: value for key, value in changed.items() if key in defaults}
    (spec,) = parse(f"{name}({','.join(f'{key}={value}' for key, value in lowered.items())})", norm)
    return spec


class Network(nn.Module):
    """Small, curved, and with all that a batch or a mode might disturb."""

    def __init__(self, shape: tuple[int, ...], classes: int, dtype: torch.dtype) -> None:
        super().__init__()
        width = int(np.prod(shape))
        self.first, self.norm = nn.Linear(width, 16), nn.BatchNorm1d(16)
        self.drop, self.last = nn.Dropout(0.5), nn.Linear(16, classes)
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in (*self.parameters(), *self.buffers()):
                if value.is_floating_point():
                    value.copy_(
                        torch.randn(value.shape, generator=draw).abs() ** 0.5
                        if value is self.norm.running_var
                        else torch.randn(value.shape, generator=draw) / value.shape[-1] ** 0.5
                    )
        self.to(dtype)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.drop(torch.tanh(4 * self.norm(self.first(images.flatten(1))))))
        return logits


SHAPE = (3, 6, 5)


def network(shape: tuple[int, ...] = SHAPE, classes: int = 5, dtype: torch.dtype = torch.float64) -> Network:
    return Network(shape, classes, dtype).eval()


def pool(
    model: nn.Module, count: int = 20, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, of which a third of the values lie on the edge of the box, labels that are right for most, and ids."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand((count, *shape), generator=draw, dtype=torch.float64).mul(1.5).sub(0.25).clamp(0, 1).to(dtype)
    with torch.no_grad():
        labels = model(images.to(next(model.parameters()).dtype)).argmax(1)
    labels[::7] = (labels[::7] + 1) % 2
    return images, labels, torch.arange(count) * 3 + 11


def run(
    spec: Spec, model: nn.Module | Oracle, images: Tensor, labels: Tensor, norm: Norm, ids: Tensor | None = None,
    *, seed: int = 0, targets: Tensor | None = None, eps: float | None = None,
) -> Tensor:  # fmt: skip
    threat = Threat(norm, RADII[norm] if eps is None else eps)
    return spec.attack.function(
        model, images, labels, norm if spec.attack.minimum_norm else threat, targets=targets, ids=ids, seed=seed,
        **dict(spec.settings),
    )  # fmt: skip


def radius(name: str, eps: float) -> float:
    """What the proposals of an attack stay within when it is given a ball; a minimum-norm attack knows none."""
    return float("inf") if ATTACKS[name].minimum_norm else eps


def whole(model: nn.Module) -> Oracle:
    """Shows the model the whole pool at once: where results must be the same to the last digit, batches must be too."""
    return Oracle(model, batch_size=64)


def assert_inside(found: Tensor, images: Tensor, norm: str, eps: float) -> None:
    """Exactly in ball and box, measured in float64."""
    assert found.shape == images.shape
    assert bool(((found >= 0) & (found <= 1)).all())
    delta = (found.double() - images.double()).flatten(1).numpy()
    assert float(np.linalg.norm(delta, ORDER[norm], axis=1).max()) <= eps


@every_attack
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 4, 4), (12,), (2, 3)])
def test_proposals_are_exactly_in_ball_and_box(
    name: str, norm: Norm, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    model = network(shape, dtype=dtype)
    images, labels, ids = pool(model, 20, shape, dtype)
    for eps in (0.0, RADII[norm] / 7, RADII[norm], RADII[norm] * 5):
        found = run(quick(name, norm), model, images, labels, norm, ids, eps=eps)
        assert found.dtype == dtype
        assert_inside(found, images, norm, radius(name, eps))
    assert not torch.equal(found, images)


@every_attack
def test_the_model_is_only_shown_images_in_the_box(name: str, norm: Norm) -> None:
    model = network()
    images, labels, ids = pool(model)
    shown: list[Tensor] = []
    model.register_forward_pre_hook(lambda _, given: shown.append(given[0].detach().clone()))
    run(quick(name, norm), model, images, labels, norm, ids, eps=RADII[norm] * 5)
    everything = torch.cat(shown)
    assert everything.shape[1:] == images.shape[1:]
    assert bool(((everything >= 0) & (everything <= 1)).all())


@every_attack
@pytest.mark.parametrize("targeted", [False, True])
def test_nothing_that_is_given_is_changed(name: str, norm: Norm, targeted: bool) -> None:
    model = network()
    images, labels, ids = pool(model)
    targets = (labels + 1) % 5 if targeted else None
    model.train()
    model.norm.eval()
    model.last.weight.requires_grad_(False)
    given = [images, labels, ids, *([] if targets is None else [targets])]
    before = [value.clone() for value in given]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    generators = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002 - the global one
    spec = quick(name, norm)
    found = run(spec, whole(model), images, labels, norm, ids, targets=targets)
    found.fill_(7)  # memory of its own
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]) == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert str(np.random.get_state()) == generators[1]  # noqa: NPY002
    assert random.getstate() == generators[2]
    again = run(spec, whole(network()), images, labels, norm, ids, targets=targets)
    model.train()
    assert torch.equal(run(spec, whole(model), images, labels, norm, ids, targets=targets), again)  # eval mode


@every_attack
def test_proposals_do_not_depend_on_batch_size_order_or_company(name: str, norm: Norm) -> None:
    model, spec = network(), quick(name, norm)
    images, labels, ids = pool(model, 30)
    expected = run(spec, model, images, labels, norm, ids)
    verdicts = model(expected).argmax(1)

    def same(found: Tensor, rows: Tensor) -> None:
        torch.testing.assert_close(found, expected[rows], rtol=0, atol=1e-12)
        assert torch.equal(model(found).argmax(1), verdicts[rows])

    everyone = torch.arange(30)
    for size in (1, 7, 64, None):
        same(run(spec, Oracle(model, batch_size=size), images, labels, norm, ids), everyone)
    for rows in (
        torch.randperm(30, generator=torch.Generator().manual_seed(0)),
        everyone[4:17],
        everyone[::5],
        everyone[23:24],
    ):
        same(run(spec, model, images[rows], labels[rows], norm, ids[rows]), rows)
    twice = torch.cat([everyone, everyone])
    same(run(spec, model, images[twice], labels[twice], norm, ids[twice]), twice)


@every_attack
def test_seed_and_id_decide_and_repeat(name: str, norm: Norm) -> None:
    images, labels, ids = pool(network())
    model, spec = whole(network()), quick(name, norm)
    first = run(spec, model, images, labels, norm, ids, seed=3)
    assert torch.equal(run(spec, model, images, labels, norm, ids, seed=3), first)
    assert torch.equal(
        run(spec, model, images, labels, norm, None, seed=3),
        run(spec, model, images, labels, norm, torch.arange(20), seed=3),
    )
    others = [
        run(spec, model, images, labels, norm, ids, seed=4),
        run(spec, model, images, labels, norm, ids + 1, seed=3),
    ]
    assert all(torch.equal(other, first) == (name in DRAWS_NOTHING) for other in others)


@in_one_norm
def test_every_mode_of_autograd_gives_the_same_ordinary_tensor(name: str, norm: Norm) -> None:
    images, labels, ids = pool(network())
    model, spec = whole(network()), quick(name, norm)
    expected = run(spec, model, images, labels, norm, ids)
    contexts: list[Callable[[], AbstractContextManager[object]]] = [nullcontext, torch.no_grad, torch.inference_mode]
    for context in contexts:
        with context():
            fresh = [value * 1 for value in (images, labels, ids)]
            found = run(spec, model, fresh[0], fresh[1], norm, fresh[2])
        assert torch.equal(found, expected)
        assert not found.requires_grad
        assert not found.is_inference()
    wanted = images.clone().requires_grad_(True)
    assert torch.equal(run(spec, model, wanted, labels, norm, ids), expected)
    assert wanted.requires_grad
    assert wanted.grad is None
    last = images.repeat_interleave(2, dim=3)[..., ::2]
    assert not last.is_contiguous()
    torch.testing.assert_close(run(spec, model, last, labels, norm, ids), expected, rtol=0, atol=1e-12)
    channels_last = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(run(spec, model, channels_last, labels, norm, ids), expected, rtol=0, atol=1e-12)


@every_attack
def test_images_that_are_wrong_already_are_dealt_with(name: str, norm: Norm) -> None:
    model, spec = network(), quick(name, norm)
    images, _, ids = pool(model)
    wrong = (model(images).argmax(1) + 1) % 5
    for rows in (slice(None), slice(0, 1)):
        oracle = Oracle(model)
        found = run(spec, oracle, images[rows], wrong[rows], norm, ids[rows])
        assert_inside(found, images[rows], norm, radius(name, RADII[norm]))
        assert int(oracle.passes().forwards.max()) <= spec.passes


@every_attack
def test_no_image_takes_more_passes_than_announced(name: str, norm: Norm) -> None:
    model = network()
    images, labels, ids = pool(model)
    for changed in ({}, {"restarts": 2, "stop": False}):
        spec, oracle = quick(name, norm, **changed), Oracle(model)
        run(spec, oracle, images, labels, norm, ids, eps=RADII[norm] / 20)
        passes = oracle.passes()
        assert passes.ids.tolist() == ids.tolist()
        assert int((passes.forwards + passes.backwards).max()) <= spec.passes
        if spec.attack.black_box:
            assert not passes.backwards.any()
        else:
            assert passes.backwards.any()


@every_attack
def test_attacks_fool_a_model_that_is_easily_fooled(name: str, norm: Norm) -> None:
    model, spec = network(), quick(name, norm)
    images, labels, ids = pool(model, 60)
    right = model(images).argmax(1) == labels
    found = run(spec, model, images, labels, norm, ids, eps=RADII[norm] * 5)
    fooled = (model(found).argmax(1) != labels) & right
    share = float(fooled.sum() / right.sum())
    assert share > (0.02 if spec.attack.black_box else 0.6)


@every_attack
def test_targeted_attacks_reach_their_targets(name: str, norm: Norm) -> None:
    linear = nn.Linear(90, 4, bias=False).double()
    with torch.no_grad():
        linear.weight.copy_(torch.randn(4, 90, generator=torch.Generator().manual_seed(0)))
    model = nn.Sequential(nn.Flatten(), linear)
    images, labels, ids = pool(model, 40)
    labels = model(images).argmax(1)
    targets = (labels + 1 + torch.arange(40) % 3) % 4
    spec = quick(name, norm)
    found = run(spec, model, images, labels, norm, ids, targets=targets, eps=RADII[norm] * 20)
    assert_inside(found, images, norm, radius(name, RADII[norm] * 20))
    reached = model(found).argmax(1) == targets
    if not spec.attack.black_box:
        assert float(reached.double().mean()) > 0.9


# --- what cannot work --------------------------------------------------------------------------------------------


@in_one_norm
@pytest.mark.parametrize(
    ("changed", "argument", "advice"),
    [
        ({"images": lambda v: v * 255}, "images", "Divide by 255."),
        ({"images": lambda v: (v - 0.5) / 0.25}, "images", "mean=, std="),
        ({"images": lambda v: v + 1e-3}, "images", "mean=, std="),
        ({"images": lambda v: v * torch.nan}, "images", "NaN"),
        ({"images": lambda v: v / 0}, "images", "NaN"),
        ({"images": lambda v: (v * 255).byte()}, "images", "Pass floats"),
        ({"images": lambda v: v[0, 0, 0]}, "images", "Pass floats"),
        ({"images": lambda v: v.tolist()}, "images", "Pass floats"),
        ({"labels": lambda v: v[:-1]}, "labels", "shape (20,)"),
        ({"labels": lambda v: v[:, None]}, "labels", "shape (20,)"),
        ({"labels": lambda v: v.double()}, "labels", "Pass integers"),
        ({"labels": lambda v: v > 0}, "labels", "Pass integers"),
        ({"labels": lambda v: v.tolist()}, "labels", "Pass integers"),
        ({"labels": lambda _: None}, "labels", "Pass integers"),
        ({"labels": lambda v: v - 1}, "labels", "count from 0"),
        ({"labels": lambda v: v + 12}, "labels", "from 0 to 4"),
        ({"labels": lambda v: v + 12, "targets": lambda v: v}, "labels", "from 0 to 4"),
        ({"targets": lambda v: (v + 1) % 5 + 12}, "targets", "from 0 to 4"),
        ({"targets": lambda v: v - 20}, "targets", "count from 0"),
        ({"targets": lambda v: torch.where(torch.arange(20) == 7, v, (v + 1) % 5)}, "targets", "another class"),
        ({"targets": lambda v: v[:3]}, "targets", "shape (20,)"),
        ({"ids": lambda v: v * 1.0}, "ids", "Pass integers"),
        ({"ids": lambda v: v[None]}, "ids", "shape (20,)"),
    ],
)
def test_bad_input_is_refused_with_the_way_out(
    name: str, norm: Norm, changed: dict[str, Callable[[Tensor], Tensor]], argument: str, advice: str
) -> None:
    model = network()
    images, labels, _ = pool(model)
    labels[0] = 0
    sources = {"images": images, "labels": labels, "targets": labels, "ids": labels}
    bad = {key: change(sources[key]) for key, change in changed.items()}
    named = {key: value for key, value in bad.items() if key in ("targets", "ids")}
    with pytest.raises(ArgumentError) as caught:
        ATTACKS[name].function(
            model, bad.get("images", images), bad.get("labels", labels),
            norm if ATTACKS[name].minimum_norm else Threat(norm, 0.1), **named,
            **dict(quick(name, norm).settings),
        )  # fmt: skip
    assert str(caught.value).startswith(f"{argument}=")
    assert advice in str(caught.value)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


@in_one_norm
@pytest.mark.parametrize("shape", [(0, 3, 6, 5), (4, 3, 0, 5)])
def test_an_empty_batch_is_refused(name: str, norm: Norm, shape: tuple[int, ...]) -> None:
    with pytest.raises(EmptyDataError, match="empty batch"):
        run(quick(name, norm), network(), torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64), norm)


@in_one_norm
@given(
    count=st.integers(1, 4),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    labels=st.sampled_from([torch.uint8, torch.int32, torch.int64]),
    seed=st.integers(-5, 5),
)
@settings(max_examples=15, deadline=None)
def test_every_shape_and_type_is_attacked(
    name: str, norm: Norm, count: int, shape: list[int], dtype: torch.dtype, labels: torch.dtype, seed: int
) -> None:
    model = network(tuple(shape), 3, torch.float64 if dtype == torch.float64 else torch.float32)
    images = torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed)).to(dtype)
    found = run(quick(name, norm), model, images, torch.arange(count).to(labels) % 3, norm, seed=seed)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_inside(found, images, norm, radius(name, RADII[norm]))


@every_attack
def test_settings_are_tried_before_any_long_work(name: str, norm: Norm) -> None:
    (spec,) = parse(name, norm)
    spec.check(norm)
    assert spec.name == name
    assert spec.attack.summary.endswith((".", ":")) or len(spec.attack.summary) > 10
