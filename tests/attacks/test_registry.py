"""Attacks are read by name, written back so that they read the same, and anything else is refused."""

import ast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from atodds.attacks.pool import Balls
from atodds.attacks.registry import ATTACKS, PRESETS, Attack, Spec, parse
from atodds.errors import ArgumentError, AtoddsError, UnknownNameError
from atodds.oracle import Oracle
from atodds.threat import NORMS, Norm, Threat


def names(text: str | list[str]) -> list[str]:
    return [spec.name for spec in parse(text, "linf")]


def settings_of(text: str) -> dict[str, object]:
    (spec,) = parse(text, "linf")
    return dict(spec.settings)


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("pgd", ["pgd"]),
        (" pgd ,fgsm,", ["pgd", "fgsm"]),
        (["pgd", "fgsm,ifgsm"], ["pgd", "fgsm", "ifgsm"]),
        ("basic", ["fgsm", "pgd"]),
        ("pgd()", ["pgd"]),
        ("pgd(steps=40)", ["pgd"]),
        ("pgd( steps = 100 , restarts=5 )", ["pgd(steps=100,restarts=5)"]),
        ("pgd(restarts=5,steps=100)", ["pgd(steps=100,restarts=5)"]),
        ("pgd(loss=margin)", ["pgd(loss=margin)"]),
        ("pgd(loss='margin')", ["pgd(loss=margin)"]),
        ("pgd(loss=cross-entropy)", ["pgd"]),
        ("ifgsm(loss=cross-entropy)", ["ifgsm(loss=cross-entropy)"]),
        ("ifgsm(loss='cross-entropy')", ["ifgsm(loss=cross-entropy)"]),
        ("pgd(step_size=2/255)", ["pgd(step_size=2/255)"]),
        ("pgd(step_size=1)", ["pgd(step_size=1)"]),
        ("pgd(step_size=1.0)", ["pgd(step_size=1)"]),
        ("pgd(step_size=0/255)", ["pgd(step_size=0)"]),
        ("pgd(step_size=0.01)", ["pgd(step_size=0.01)"]),
        ("pgd(step_size=1e-7)", ["pgd(step_size=1e-07)"]),
        ("pgd(step_size=None)", ["pgd"]),
        ("pgd(stop=False)", ["pgd(stop=False)"]),
        ("auto_pgd_targeted(loss=None)", ["auto_pgd_targeted"]),
        ("auto_pgd_targeted(loss=dlr)", ["auto_pgd_targeted(loss=dlr)"]),
        ("auto_pgd(loss=dlr,steps=20)", ["auto_pgd(steps=20,loss=dlr)"]),
        ("pgd(steps=10),pgd(steps=20)", ["pgd(steps=10)", "pgd(steps=20)"]),
        ("pgd(target=least-likely,steps=10)", ["pgd(steps=10,target=least-likely)"]),
        ("pgd(target='random')", ["pgd(target=random)"]),
        ("pgd(target=None)", ["pgd"]),
        ("pgd,fab(target=second),square(target=second)", ["pgd", "fab(target=second)", "square(target=second)"]),
        ("auto_pgd_targeted(target=None)", ["auto_pgd_targeted"]),
    ],
)
def test_names_are_read_and_written_in_one_way(typed: str | list[str], written: list[str]) -> None:
    assert names(typed) == written
    assert parse(written, "linf") == parse(typed, "linf")


def test_settings_have_the_values_that_were_typed() -> None:
    assert settings_of("pgd(step_size=2/255,steps=7,stop=False,loss=margin)") == {
        "steps": 7, "step_size": 2 / 255, "restarts": 1, "random_start": True, "loss": "margin", "stop": False,
        "projection": "exact",
    }  # fmt: skip


def test_every_preset_names_known_attacks() -> None:
    for norm in NORMS:
        for preset in PRESETS:
            assert parse(preset, norm)


PRESETS_AS_THE_FIELD_MEANS_THEM = [
    ("standard", "linf", 10, ["auto_pgd", "auto_pgd_targeted", "fab_targeted", "square"]),
    ("standard", "l2", 10, ["auto_pgd", "auto_pgd_targeted", "fab_targeted", "square"]),
    ("standard", "l1", 10, ["auto_pgd(restarts=5)", "auto_pgd_targeted(classes=5)", "fab_targeted", "square"]),
    ("plus", "linf", 10, ["auto_pgd(restarts=5)", "auto_pgd(restarts=5,loss=dlr)", "fab(restarts=5)", "square",
                          "auto_pgd_targeted", "fab_targeted"]),
    ("rand", "l2", 10, ["auto_pgd", "auto_pgd(loss=dlr)"]),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "norm", "classes", "expected"), PRESETS_AS_THE_FIELD_MEANS_THEM)
def test_presets_are_what_the_field_means_by_them(preset: str, norm: Norm, classes: int, expected: list[str]) -> None:
    assert [spec.name for spec in parse(preset, norm, classes)] == expected
    assert parse(preset, norm) == parse(preset, norm, classes) == parse(preset, norm, 4)
    settings = {spec.attack.name: dict(spec.settings) for spec in parse("standard", "linf")}
    assert settings["auto_pgd"] == {"steps": 100, "restarts": 1, "loss": "cross-entropy"}
    assert settings["auto_pgd_targeted"] == {"steps": 100, "classes": 9, "loss": None}
    assert (settings["fab_targeted"]["steps"], settings["fab_targeted"]["classes"]) == (100, 9)
    assert (settings["square"]["queries"], settings["square"]["p_init"]) == (5000, 0.8)


@pytest.mark.parametrize("classes", [2, 3])
def test_with_few_classes_presets_attack_the_margin_where_dlr_is_not_defined(classes: int) -> None:
    for norm in NORMS:
        for preset in PRESETS:
            specs = parse(preset, norm, classes)
            assert len(specs) == len(parse(preset, norm, 10))
            for few, many in zip(specs, parse(preset, norm, 10), strict=True):
                loss, usual = dict(few.settings).get("loss"), dict(many.settings).get("loss")
                assert loss == ("margin" if usual in ("dlr", None) and "loss" in few.attack.defaults else usual)
                assert few.least_classes <= classes
                few.check(norm)


@pytest.mark.parametrize(
    ("typed", "classes", "least"),
    [
        ("auto_pgd(loss=dlr)", 2, 3),
        ("pgd(loss=dlr)", 2, 3),
        ("auto_pgd_targeted(loss=dlr)", 3, 4),
        ("standard,auto_pgd(loss=dlr)", 2, 3),
        ("auto_pgd(loss=dlr,target=random)", 3, 4),
    ],
)
def test_dlr_with_too_few_classes_is_refused_before_any_work(typed: str, classes: int, least: int) -> None:
    assert parse(typed, "l2", least)
    with pytest.raises(ArgumentError, match=f"needs {least} classes, and the model has {classes}.*loss=margin"):
        parse(typed, "l2", classes)


def test_passes_of_the_presets_are_told() -> None:
    passes = {preset: sum(spec.passes for spec in parse(preset, "linf")) for preset in PRESETS}
    assert passes["quick"] < passes["standard"]
    led = sum(spec.passes for spec in parse("auto_pgd,hybrid(rounds=1,restarts=1)", "linf"))
    assert led * 10 <= passes["standard"]  # what quick comes to where gradients lead
    assert [spec.name for spec in parse("quick", "linf")] == ["auto_pgd", "hybrid"]
    assert [spec.name for spec in parse("quick", "l1")] == ["auto_pgd", "hybrid(gradients=200)"]
    assert 9_000 < passes["standard"] < 11_000
    assert passes["standard"] < passes["plus"]


@given(
    steps=st.integers(1, 10**9),
    size=st.one_of(st.none(), st.floats(0, allow_infinity=False), st.integers(0, 255).map(lambda k: k / 255)),
    stop=st.booleans(),
    loss=st.one_of(st.sampled_from(["margin", "cross-entropy", "None", "if", ""]), st.text("ab-_ .+=1é", max_size=8)),
)
def test_every_name_reads_back_as_the_same_attack(steps: int, size: float | None, stop: bool, loss: str) -> None:
    settings = ATTACKS["pgd"].defaults | {"steps": steps, "step_size": size, "stop": stop, "loss": loss}
    spec = Spec(ATTACKS["pgd"], tuple(settings.items()))
    assert parse(spec.name, "linf") == (spec,)
    assert parse([spec.name, "fgsm"], "linf")[0] == spec


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("pdg", "Did you mean pgd"),
        ("random-noise", "random_noise"),
        ("autoattackplus", "Known:"),
        ("pdg(steps=3)", "Did you mean pgd"),
        ("basic(steps=3)", "Known:"),
        ("pgd(step=3)", "Did you mean steps"),
        ("fgsm(steps=3)", "setting of fgsm"),
        ("pgd(model=3)", "setting of pgd"),
        ("pgd(targets=3)", "setting of pgd"),
        ("pgd(target=least_likely)", "Did you mean least-likely"),
        ("pgd(target=3)", "Known: least-likely, random, second"),
        ("pgd(seed=3)", "setting of pgd"),
        ("__import__", "Known:"),
    ],
)
def test_unknown_names_come_with_the_nearest(typed: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse(typed, "linf")
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("", "no attack named"),
        (" , ", "no attack named"),
        ([], "no attack named"),
        (None, "not the name of an attack"),
        ([None], "not the name of an attack"),
        (7, "not the name of an attack"),
        (b"pgd", "not the name of an attack"),
        ("pgd,pgd", "named twice"),
        ("pgd,pgd(steps=40)", "named twice"),
        ("basic,fgsm", "named twice"),
        ("pgd(steps=0.5)", "wrong type"),
        ("pgd(steps='3')", "wrong type"),
        ("pgd(steps=True)", "wrong type"),
        ("pgd(steps=None)", "wrong type"),
        ("pgd(stop=1)", "wrong type"),
        ("pgd(loss=3)", "wrong type"),
        ("auto_pgd_targeted(target=second)", "chooses its classes itself"),
        ("fab_targeted(target=x)", "chooses its classes itself"),
        ("auto_pgd(loss=None)", "wrong type"),
        ("auto_pgd_targeted(loss=3)", "wrong type"),
        ("auto_pgd_targeted(loss=0.5)", "wrong type"),
        ("auto_pgd_targeted(loss=True)", "wrong type"),
        ("square(p_init=x)", "wrong type"),
        ("pgd(step_size=big)", "wrong type"),
        ("pgd(steps=1e999)", "wrong type"),
        ("pgd(step_size=1e999)", "not a finite number"),
        ("pgd(step_size=-1e999)", "not a finite number"),
        ("pgd(10)", "cannot be read"),
        ("pgd(steps=3,steps=4)", "cannot be read"),
        ("pgd(steps=3", "cannot be read"),
        ("pgd)", "cannot be read"),
        ("pgd(steps=)", "cannot be read"),
        ("pgd(steps=3)(restarts=2)", "cannot be read"),
        ("pgd(steps=10**9)", "cannot be read"),
        ("pgd(steps=[3])", "cannot be read"),
        ("pgd(step_size=1/0)", "cannot be read"),
        ("pgd(step_size=1/x)", "cannot be read"),
        ("pgd(step_size=1e308/1e-308)", "not a finite number"),
        ("pgd(**{})", "cannot be read"),
        ("pgd(step_size=1" + "0" * 400 + "/3)", "cannot be read"),
        ("pgd(loss=a-1)", "cannot be read"),
        ("pgd(loss=print('x'))", "cannot be read"),
        ("pgd(loss=f'{1}')", "cannot be read"),
        ("pgd;import os", "cannot be read"),
        ("os.system('x')", "cannot be read"),
        ("lambda: 0", "cannot be read"),
        ("pgd\x00", "cannot be read"),
        ("\ud800", "cannot be read"),
        ("pgd(" * 5000, "cannot be read"),
        ("pgd(steps=" + "(" * 240 + "1" + ")" * 240 + ")", "cannot be read"),
        ("(" * 10**5, "cannot be read"),
        ("pgd(steps=" + "-" * 300 + "1)", "cannot be read"),
        ("x" * 10**6, "no such name"),
    ],
)
def test_what_cannot_be_read_is_refused(typed: str, problem: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse(typed, "linf")
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 600


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        parse(text, "linf")
    except AtoddsError:
        return


@given(st.text("pgdfsm(),=-+*/.'\"[]{}:0123456789 stepsloi_tx", max_size=60))
def test_any_text_that_looks_like_an_attack_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        parse(f"pgd({text})", "linf")
    except AtoddsError:
        return


def test_an_attack_that_does_not_work_in_the_norm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    only = Attack("only", ATTACKS["fgsm"].function, 1, lambda _: 2, norms=("l2",))
    monkeypatch.setitem(ATTACKS, "only", only)
    assert parse("only", "l2")[0].attack is only
    with pytest.raises(ArgumentError, match=r"does not work in linf. It works in l2"):
        parse("only", "linf")


@pytest.mark.parametrize(
    "typed",
    [
        "pgd(steps=0)",
        "pgd(loss=hinge)",
        "pgd(step_size=-1)",
        "random_noise(queries=0)",
        "auto_pgd(loss=hinge)",
        "auto_pgd_targeted(loss=hinge)",
        "auto_pgd(restarts=0)",
        "pgd(steps=0,target=random)",
    ],
)
def test_a_check_finds_settings_that_the_attack_refuses(typed: str) -> None:
    for norm in NORMS:
        (spec,) = parse(typed, norm)
        with pytest.raises(ArgumentError):
            spec.check(norm)


@pytest.mark.parametrize(
    "typed",
    [
        "pgd(steps=1000000000,stop=False)",
        "random_noise(queries=1000000000)",
        "auto_pgd(steps=1000000000,restarts=1000000000)",
    ],
)
def test_a_check_takes_no_longer_for_long_attacks(typed: str) -> None:
    for norm in NORMS:
        parse(typed, norm)[0].check(norm)


def test_every_attack_says_what_it_is_and_has_settings_that_can_be_typed() -> None:
    for name, attack in ATTACKS.items():
        assert attack.name == name
        assert attack.summary
        assert "\n" not in attack.summary
        assert attack.version >= 1
        for value in attack.defaults.values():
            assert value is None or isinstance(ast.literal_eval(repr(value)), (bool, int, float, str))
        assert Spec(attack, tuple(attack.defaults.items())).passes >= 1


def test_a_minimum_norm_attack_is_given_the_norm_and_its_find_drawn_into_the_ball(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[object] = []

    def far(_model: object, images: Tensor, _labels: Tensor, norm: Norm, **_: object) -> Tensor:
        given.append(norm)
        return torch.ones_like(images)

    monkeypatch.setitem(ATTACKS, "far", Attack("far", far, 1, lambda _: 2, minimum_norm=True))
    images, labels, (spec,) = torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64), parse("far", "l2")
    balls = Balls("l2", torch.tensor([0.5, 1.0, torch.inf], dtype=torch.float64))
    found = spec.run(Oracle(nn.Flatten()), images, labels, balls, ids=None, seed=0)
    assert given == ["l2"]
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.tensor([0.5, 1, 2]))
    spec.check("l2")


def test_a_target_is_given_to_the_attack_and_to_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Tensor | None] = []

    def noted(_model: object, images: Tensor, *_: object, targets: Tensor | None, **_more: object) -> Tensor:
        given.append(targets)
        return images

    monkeypatch.setitem(ATTACKS, "noted", Attack("noted", noted, 1, lambda _: 2))
    images, labels, targets = torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), torch.tensor([2, 3])
    for text, expected in (("noted", None), ("noted(target=second)", targets)):
        (spec,) = parse(text, "l2")
        spec.run(Oracle(nn.Flatten()), images, labels, Threat("l2", 1), targets=expected, ids=None, seed=0)
        spec.check("l2")
    first, tried, second, tried_too = given
    assert first is tried is None
    assert second is targets
    assert tried_too is not None
