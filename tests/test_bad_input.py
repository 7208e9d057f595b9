"""What cannot work ends before any long work, with our own error that names the argument and the way out.

Through Python and through the command line, where it ends with status 2, a message and no traceback.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import atodds
from atodds import cli
from atodds.data import ImageSet
from atodds.errors import (
    ArgumentError,
    AtoddsError,
    DataError,
    EmptyDataError,
    LogitsError,
    ModelError,
    NewerRunError,
    NotARunError,
    ThreatError,
    UnknownNameError,
    UnreadableImageError,
)
from atodds.evaluation.manifest import FORMAT
from atodds.evaluation.store import Store

NETS = """
from pathlib import Path
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10, end=lambda logits: logits):
        super().__init__()
        self.layer, self._end = nn.Linear(64, classes), end

    def forward(self, images):
        with Path(__file__).with_name("passes.txt").open("a") as file:
            file.write(f"{len(images)}\\n")
        return self._end(self.layer(images.flatten(1)))

def make():
    return Net()

def make_five():
    return Net(5)

def make_flat():
    return Net(end=lambda logits: logits.amax(1))

def make_nan():
    return Net(end=lambda logits: logits / 0 - logits / 0)

def make_text():
    return Net(end=str)

def make_nothing():
    return None
"""

PROBED = 64
"""Images of one pass of the audit, which is the first to see the model."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with some models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def passes(place: Path) -> int:
    """Images that went through a model."""
    file = place / "passes.txt"
    return sum(map(int, file.read_text().split())) if file.exists() else 0


def assert_nothing_was_started(place: Path, most: int = 0) -> None:
    assert passes(place) <= most
    assert list(place.glob("**/jobs/*")) == []
    assert list(place.glob("**/run.json")) == []


@dataclass(frozen=True)
class Case:
    """Something wrong: the call's arguments, or the command's words; the error, and what its message must say."""

    error: type[AtoddsError]
    says: str
    words: Sequence[str]
    model: str = "nets.py:make"
    most: int = 0
    arguments: tuple[tuple[str, object], ...] = ()


CASES = {
    "eps 8": Case(ThreatError, r"eps='8'.*Did you mean 8/255\?", ["--eps", "8"], arguments=(("eps", "8"),)),
    "eps list": Case(
        ThreatError, r"eps='8'.*8/255", ["--eps", "1/255,8"], arguments=(("eps", ["1/255", "8"]),)
    ),
    "negative eps": Case(ThreatError, r"eps='-0\.1'.*negative", ["--eps", "-0.1"], arguments=(("eps", "-0.1"),)),
    "eps nan": Case(ThreatError, r"eps='?nan'?.*such as", ["--eps", "nan"], arguments=(("eps", "nan"),)),
    "eps nothing": Case(ThreatError, r"eps=.*such as '8/255'", ["--eps", ","], arguments=(("eps", ","),)),
    "eps words": Case(ThreatError, "eps='large'.*such as", ["--eps", "large"], arguments=(("eps", "large"),)),
    "wide l2": Case(
        ThreatError, "eps='9'.*8 in l2.*smaller", ["--norm", "l2", "--eps", "9"],
        arguments=(("eps", "9"), ("norm", "l2")),
    ),
    "norm": Case(ThreatError, "norm='l3'.*linf", ["--norm", "l3"], arguments=(("norm", "l3"),)),
    "attack": Case(
        UnknownNameError, "attacks='pdg'.*Did you mean pgd", ["--attacks", "pdg"], arguments=(("attacks", "pdg"),)
    ),
    "attack setting": Case(
        UnknownNameError, "'stepz'.*Did you mean steps", ["--attacks", "pgd(stepz=3)"],
        arguments=(("attacks", "pgd(stepz=3)"),),
    ),
    "attack value": Case(
        ArgumentError, "steps=0.*1 or more", ["--attacks", "pgd(steps=0)"], arguments=(("attacks", "pgd(steps=0)"),)
    ),
    "no attack": Case(ArgumentError, "attacks=.*no attack named", ["--attacks", ","], arguments=(("attacks", ","),)),
    "attack twice": Case(
        ArgumentError, "attacks='pgd'.*once", ["--attacks", "pgd,pgd"], arguments=(("attacks", "pgd,pgd"),)
    ),
    "precision": Case(
        ArgumentError, "precision='int8'.*bfloat16", ["--precision", "int8"], arguments=(("precision", "int8"),)
    ),
    "eot": Case(ArgumentError, "eot=0.*1 or more", ["--eot", "0"], arguments=(("eot", 0),)),
    "workers": Case(ArgumentError, "workers=0.*1 or more", ["--workers", "0"], arguments=(("workers", 0),)),
    "batch size": Case(
        ArgumentError, "batch_size=-1.*1 or more", ["--batch-size", "-1"], arguments=(("batch_size", -1),)
    ),
    "seed": Case(ArgumentError, "seed=.*64 bits", ["--seed", str(2**64)], arguments=(("seed", 2**64),)),
    "labels outside the classes": Case(
        LogitsError, "make_five has 5 classes, but the images have labels up to 9", [], model="nets.py:make_five",
        most=2 * PROBED,
    ),
    "flat logits": Case(
        LogitsError, r"shape \(\d+,\).*one logit a class", [], model="nets.py:make_flat", most=PROBED
    ),
    "nan": Case(LogitsError, r"make_nan.*\[0, 1\]", [], model="nets.py:make_nan", most=PROBED),
    "text": Case(LogitsError, "returned str.*tensor of logits", [], model="nets.py:make_text", most=PROBED),
    "no model": Case(ModelError, "make_nothing returned NoneType", [], model="nets.py:make_nothing"),
    "no factory": Case(UnknownNameError, "maek.*Did you mean make", [], model="nets.py:maek"),
    "no file": Case(UnknownNameError, r"model='nots\.py'.*nets\.py", [], model="nots.py:make"),
    "network": Case(UnknownNameError, "model='resnet21'.*resnet20", [], model="resnet21"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_arguments_in_python(place: Path, name: str) -> None:
    case = CASES[name]
    usual: dict[str, object] = {"eps": "0.1", "out": place / "run"}
    images = atodds.data.load("digits", limit=100)
    with pytest.raises(case.error, match=case.says):
        atodds.evaluate(case.model, images, **(usual | dict(case.arguments)))  # type: ignore[arg-type]
    assert_nothing_was_started(place, case.most)


def said(words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that fails says, on one line."""
    monkeypatch.setattr("sys.argv", ["atodds", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    heard = capsys.readouterr()
    assert ended.value.code == 2
    assert "Traceback" not in heard.err + heard.out
    return re.sub(r"\s+", " ", heard.err)


@pytest.mark.parametrize("name", CASES)
def test_bad_arguments_at_the_command_line(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    eps = [] if {"--eps", "--norm"} & set(case.words) else ["--eps", "0.1"]
    words = ["bench", case.model, "--limit", "100", "--out", str(place / "run"), *eps, *case.words]
    message = said(words, monkeypatch, capsys)
    assert message.startswith("Error: ")
    assert re.search(case.says, message)
    assert_nothing_was_started(place, case.most)


class Counting(nn.Module):
    """Counts the images it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self._images = 0

    def forward(self, images: Tensor) -> Tensor:
        self._images += len(images)
        logits: Tensor = self.layer(images.flatten(1))
        return logits


GREY = np.full((20, 1, 8, 8), 0.5, np.float32)
LABELS = np.arange(20) % 10


@pytest.mark.parametrize(
    ("images", "labels", "error", "says"),
    [
        (GREY * 5 - 5, LABELS, DataError, "pixels from -2.5 to -2.5.* mean= and std= to the model"),
        (GREY * 2.1, LABELS, DataError, "pixels from 1.05 to 1.05, but they must lie in"),
        (GREY * 300, LABELS, DataError, "Divide by 255"),
        (GREY * np.nan, LABELS, DataError, "NaN"),
        (GREY, LABELS - 1, DataError, "label -1"),
        (GREY, LABELS / 2, DataError, "labels"),
        (GREY, LABELS[:-1], DataError, "labels: 19 for 20 images"),
        (GREY, np.eye(10)[LABELS], DataError, "argmax"),
        (GREY[:0], LABELS[:0], EmptyDataError, "no image"),
        (GREY[0, 0, 0], LABELS, DataError, "shape"),
        ("digits", LABELS, DataError, "array"),
    ],
)  # fmt: skip
def test_bad_images_and_labels_in_python(
    place: Path, images: object, labels: object, error: type[AtoddsError], says: str
) -> None:
    model = Counting()
    with pytest.raises(error, match=says):
        atodds.evaluate(model, (images, labels), eps=0.1, out=place / "run")  # type: ignore[arg-type]
    assert model._images == 0
    assert_nothing_was_started(place)


@pytest.mark.parametrize("images", [None, "digits", torch.zeros(2, 1, 8, 8), (GREY, LABELS, LABELS)])
def test_images_without_labels_are_refused(place: Path, images: object) -> None:
    with pytest.raises(ArgumentError, match=r"images=.*Pass an ImageSet or"):
        atodds.evaluate(Counting(), images, out=place / "run")  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [5, None, [5], {"a": None}, lambda images: images])
def test_what_is_no_model_is_refused(model: object) -> None:
    with pytest.raises(ArgumentError, match=r"model=.*Pass a torch\.nn\.Module"):
        atodds.evaluate(model, (GREY, LABELS))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [[], {}])
def test_no_model_at_all_is_refused(model: object) -> None:
    with pytest.raises(ArgumentError, match=r"models='none'.*Bring at least one"):
        atodds.evaluate(model, (GREY, LABELS))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", 7])
def test_names_that_no_page_can_show_are_refused(name: object) -> None:
    with pytest.raises(ArgumentError, match=r"name=.*not one line of text"):
        atodds.evaluate({name: Counting()}, (GREY, LABELS))  # type: ignore[dict-item]


@pytest.mark.parametrize("argument", ["seed", "eot", "workers", "batch_size", "chunk"])
@pytest.mark.parametrize("value", [1.5, "1", True, np.int64(1)])
def test_numbers_that_are_no_int_are_refused(argument: str, value: object) -> None:
    """A NumPy integer would be no number in `run.json`."""
    with pytest.raises(ArgumentError, match=f"{argument}=.*not an int"):
        atodds.evaluate(Counting(), (GREY, LABELS), **{argument: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("eps", [8, -0.1, float("nan"), float("inf"), "1/0", None, [], {"a": 1}, "0:1", "0:0.1:0"])
def test_budgets_that_mean_nothing_are_refused(place: Path, eps: object) -> None:
    with pytest.raises(ThreatError, match="eps="):
        atodds.evaluate(Counting(), (GREY, LABELS), eps=eps, out=place / "run")  # type: ignore[arg-type]
    assert_nothing_was_started(place)


@pytest.mark.parametrize("attack", [atodds.attacks.fgsm, atodds.attacks.pgd, atodds.attacks.ifgsm])
def test_a_target_that_is_the_label_is_refused(attack: Callable[..., Tensor]) -> None:
    images, labels = torch.from_numpy(GREY), torch.from_numpy(LABELS)
    targets = (labels + 1) % 10
    targets[7] = labels[7]
    model = Counting()
    with pytest.raises(ArgumentError, match=r"targets=7: the target of image 7 is its own label.*another class"):
        attack(model, images, labels, atodds.Threat("linf", 0.1), targets=targets)
    assert model._images == 0


def a_folder(place: Path, kinds: str, *, broken: bool = False) -> Path:
    for kind in kinds:
        for number in range(8 if broken else 3):
            file = place / "photos" / kind / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * (number % 4 + 1)).save(file)
    if broken:
        file.write_bytes(file.read_bytes()[:-40])
    return place / "photos"


def test_an_unreadable_image_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its header is whole, so that only decoding it tells; it is the last one, which the audit does not see."""
    folder, model = a_folder(place, "abcdefghij", broken=True), Counting()
    with pytest.raises(UnreadableImageError, match=r"photos/j/7\.png: cannot be decoded.*Replace or remove it"):
        atodds.evaluate(model, atodds.data.load(folder), out=place / "run")
    assert model._images == 0
    message = said(["bench", "nets.py:make", "--data", "photos", "--out", "run"], monkeypatch, capsys)
    assert re.search(r"photos/j/7\.png: cannot be decoded.*Replace or remove it", message)
    assert_nothing_was_started(place)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "cifra10"], "data='cifra10'.*Did you mean cifar10"),
        (["--data", "nothing/here"], "nothing/here: no such file or folder"),
        (["--data", "empty"], "empty"),
        (["--data", "outside.npz"], "mean= and std= to the model"),
        (["--data", "wild.npz"], "wild: image 7 has label 10, but the 10 classes"),
        (["--data", "none.npz"], "no image"),
        (["--data", "photos", "--limit", "2"], "limit=2.*at least 3, or for how='first'"),
        (["--data", "missing.npz", "--limit", "10"], "limit=10: class '9' of missing has 0 images.*how='first'"),
        (["--limit", "0"], "limit=0.*at least 1"),
        (["--limit", "1000000"], "limit=1000000.*digits has 355 images"),
        (["--split", "validation"], "split='validation'.*test, train"),
        (["--mean", "0.5"], "std.*go together"),
        (["--mean", "0.5", "--std", "0"], "std=.*not positive"),
        (["--mean", "127", "--std", "60"], "Divide it by 255"),
        (["--device", "warp"], "device='warp'.*cpu"),
    ],
)
def test_bad_data_at_the_command_line(
    place: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_folder(place, "abc")
    (place / "empty").mkdir()
    classes = [str(digit) for digit in range(10)]
    np.savez(place / "outside.npz", images=GREY * 6 - 5 + np.linspace(0, 4, 8), labels=LABELS)
    np.savez(place / "wild.npz", images=GREY, labels=LABELS + 3, classes=classes)
    np.savez(place / "none.npz", images=GREY[:0], labels=LABELS[:0])
    np.savez(place / "missing.npz", images=GREY, labels=LABELS % 9, classes=classes)
    message = said(["bench", "nets.py:make", "--out", "run", *words], monkeypatch, capsys)
    assert re.search(says, message)
    assert_nothing_was_started(place)


def test_a_folder_that_is_no_run_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "other").mkdir()
    for folder in ("other", "nowhere"):
        with pytest.raises(NotARunError, match=f"{folder} is not a run.*atodds bench --out FOLDER"):
            Store.open(folder)
        assert re.search(f"{folder} is not a run.*atodds bench", said(["report", folder], monkeypatch, capsys))


def test_a_run_of_a_newer_version_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = json.dumps({"format": FORMAT + 1, "models": "in some new way"})
    (place / "run").mkdir()
    (place / "run" / "run.json").write_text(text)
    model = Counting()
    with pytest.raises(NewerRunError, match=r"run was made by a newer version of atodds.*Upgrade atodds"):
        atodds.evaluate(model, (GREY, LABELS), eps=0.1, out=place / "run")
    assert model._images == 0
    for words in (["report", "run"], ["bench", "nets.py:make", "--out", "run"]):
        assert re.search("newer version of atodds.*Upgrade atodds", said(words, monkeypatch, capsys))
    assert passes(place) == 0
    assert (place / "run" / "run.json").read_text() == text


def test_a_set_with_more_classes_than_the_model_but_no_such_label_is_fine(place: Path) -> None:
    images = ImageSet.from_arrays(GREY, LABELS, classes=[str(k) for k in range(50)])
    assert atodds.evaluate(Counting(), images, eps="0", out=place / "run").store.complete
