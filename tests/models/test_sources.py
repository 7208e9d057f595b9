"""Models are loaded from the user's code, from weights and from checkpoints; what cannot be loaded says why."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from atodds.errors import ArgumentError, AtoddsError, ModelError, UnknownNameError, UntrustedFileError
from atodds.models import Card, Classifier, build, fingerprint, load, save
from atodds.models.networks import complete

ZOO = """
import torch
from torch import nn
from dataclasses import dataclass

@dataclass
class Options:
    width: int = 2

class Net(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.linear = nn.Linear(4, width)
    def forward(self, images):
        return self.linear(images.flatten(1))

def make():
    return Net(Options().width)

def needs(depth):
    return Net()

def wrong():
    return "a model"

def type_itself():
    return Net

def breaks():
    raise ZeroDivisionError("inside the factory")

def empty():
    with torch.device("meta"):
        return Net()

def frozen():
    return Net().train().requires_grad_(False)

instance = Net()
number = 3
"""


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    file = tmp_path / "zoo.py"
    file.write_text(ZOO)
    return file


def state(width: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "linear.weight": torch.rand(width, 4, generator=generator),
        "linear.bias": torch.rand(width, generator=generator),
    }


# ---- code ----------------------------------------------------------------------------------------------------------


def test_a_factory_in_a_file_gives_a_classifier_ready_to_be_measured(zoo: Path) -> None:
    model = load(f"{zoo}:make")
    assert isinstance(model, Classifier)
    assert (model.name, model.source, model.card) == ("make", f"{zoo}:make", None)
    assert not any(module.training for module in model.modules())
    assert model(torch.rand(3, 1, 2, 2)).shape == (3, 2)


def test_a_class_that_needs_no_argument_is_a_factory(zoo: Path) -> None:
    assert load(f"{zoo}:Net").name == "Net"


def test_name_mean_and_std_are_passed_on(zoo: Path) -> None:
    model = load(f"{zoo}:make", name="mine", mean=0.5, std=0.25)
    assert model.name == "mine"
    assert model.mean is not None
    assert model.mean.item() == 0.5


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        ("mak", UnknownNameError, "Did you mean make"),
        ("needs", ArgumentError, "missing a required argument: 'depth'"),
        ("wrong", ModelError, "returned str"),
        ("type_itself", ModelError, "returned the class Net"),
        ("instance", ArgumentError, "a Net, not a function"),
        ("number", ArgumentError, "a int, not a function"),
        ("empty", ModelError, "meta device"),
        ("make.inner", UnknownNameError, "Known: "),
    ],
)
def test_a_factory_that_is_none_says_so(zoo: Path, factory: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load(f"{zoo}:{factory}")


def test_only_what_can_be_called_is_offered(zoo: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load(f"{zoo}:nothing")
    assert caught.value.way_out.endswith("Known: Net, breaks, empty, frozen, make, type_itself, wrong.")


def test_an_error_inside_the_factory_keeps_its_traceback(zoo: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="inside the factory"):
        load(f"{zoo}:breaks")


def test_a_missing_file_is_told_the_nearest(zoo: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean .*zoo\.py"):
        load(f"{zoo.with_name('zo.py')}:make")
    with pytest.raises(UnknownNameError, match="There is no folder"):
        load(f"{zoo.parent}/none/zoo.py:make")
    zoo.with_name("folder.py").mkdir()
    with pytest.raises(UnknownNameError, match="a folder"):
        load(f"{zoo.with_name('folder.py')}:make")


@pytest.mark.parametrize("place", ["~nobody-of-this-name/x", "x" * 5000, "a/" * 3000 + "x", "nul\0byte"])
@pytest.mark.parametrize("form", ["{}.py:make", "{}.safetensors", "resnet8@{}", "{}"])
def test_a_path_that_cannot_be_is_an_error_of_ours(place: str, form: str) -> None:
    with pytest.raises(AtoddsError):
        load(form.format(place))


@pytest.mark.parametrize(
    "source", ["def make(:\n", "import a_module_that_is_not_there\n", "from . import sibling\n", "x = '\0'\n"]
)
def test_a_file_that_cannot_be_imported_is_a_model_error(tmp_path: Path, source: str) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(ModelError, match=r"bad\.py cannot be imported"):
        load(f"{tmp_path / 'bad.py'}:make")


def test_a_module_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "atodds_test_pack").mkdir()
    (tmp_path / "atodds_test_pack" / "nets.py").write_text(ZOO)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert load("atodds_test_pack.nets:make").name == "make"
    assert sys.path == path
    with pytest.raises(UnknownNameError, match="make"):
        load("atodds_test_pack.nets:maker")


def test_a_module_that_is_not_there_says_what_can_be_written() -> None:
    with pytest.raises(ModelError, match=r"nowhere_at_all cannot be imported.*FILE\.py:FACTORY"):
        load("nowhere_at_all:make")


# ---- weights -------------------------------------------------------------------------------------------------------


def test_weights_of_any_usual_form_give_the_same_model(zoo: Path, tmp_path: Path) -> None:
    plain = state()
    save_file(plain, tmp_path / "a.safetensors")
    torch.save(plain, tmp_path / "b.pt")
    torch.save({"epoch": 3, "state_dict": plain}, tmp_path / "c.pth")
    torch.save({"model": {"state_dict": {f"module.{key}": value for key, value in plain.items()}}}, tmp_path / "d.pt")
    torch.save({f"_orig_mod.module.{key}": value for key, value in plain.items()}, tmp_path / "e.ckpt")
    torch.save(plain, tmp_path / "f.bin", _use_new_zipfile_serialization=False)
    torch.save({key: nn.Parameter(value) for key, value in plain.items()}, tmp_path / "g.pt")
    marks = {fingerprint(load(f"{zoo}:make@{tmp_path / name}")) for name in
             ("a.safetensors", "b.pt", "c.pth", "d.pt", "e.ckpt", "f.bin", "g.pt")}  # fmt: skip
    assert len(marks) == 1
    model = load(f"{zoo}:make@{tmp_path / 'a.safetensors'}")
    assert torch.equal(model.network.get_parameter("linear.weight"), plain["linear.weight"])
    assert model.name == "make-a"


def test_the_mode_and_flags_of_the_factory_s_model_do_not_matter(zoo: Path, tmp_path: Path) -> None:
    save_file(state(), tmp_path / "a.safetensors")
    made, frozen = (load(f"{zoo}:{name}@{tmp_path / 'a.safetensors'}") for name in ("make", "frozen"))
    assert fingerprint(made) == fingerprint(frozen)


def test_everything_that_does_not_fit_is_told_at_once(zoo: Path, tmp_path: Path) -> None:
    wrong = {"linear.weight": torch.zeros(3, 4), "head.weight": torch.zeros(1), "tail.weight": torch.zeros(1)}
    save_file(wrong, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        load(f"{zoo}:make@{tmp_path / 'w.safetensors'}")
    said = str(caught.value)
    assert "does not fit Net, which has 2 tensors" in said
    assert "1 missing: linear.bias" in said
    assert "2 not in the network: head.weight, tail.weight" in said
    assert "1 of another shape: linear.weight 3x4 where 2x4 is needed" in said


def test_integers_in_the_place_of_weights_are_refused(zoo: Path, tmp_path: Path) -> None:
    save_file(state() | {"linear.weight": torch.ones(2, 4, dtype=torch.int8)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"another kind of number: linear\.weight torch\.int8"):
        load(f"{zoo}:make@{tmp_path / 'w.safetensors'}")


def test_weights_stored_in_half_precision_fit(zoo: Path, tmp_path: Path) -> None:
    save_file({key: value.half() for key, value in state().items()}, tmp_path / "w.safetensors")
    assert load(f"{zoo}:make@{tmp_path / 'w.safetensors'}").network.get_parameter("linear.bias").dtype == torch.float32


def test_weights_are_a_copy_of_the_file(zoo: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(state(), file)
    model = load(f"{zoo}:make@{file}")
    before = fingerprint(model)
    file.write_bytes(bytes(file.stat().st_size))
    assert fingerprint(model) == before


# ---- pickles -------------------------------------------------------------------------------------------------------


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.mark),)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(zoo: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": state(), "extra": Trap(mark)}, tmp_path / "w.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Trap(mark)))
    for name in ("w.pt", "bare.pkl"):
        for spec in (f"{zoo}:make@{tmp_path / name}", f"resnet8@{tmp_path / name}", str(tmp_path / name)):
            with pytest.raises(UntrustedFileError, match="--trust-pickle"):
                load(spec)
    assert not mark.exists()
    assert load(f"{zoo}:make@{tmp_path / 'w.pt'}", trust_pickle=True).name == "make-w"
    assert mark.exists()


def test_a_whole_module_loads_only_with_trust(tmp_path: Path) -> None:
    network = build("mlp", (1, 2, 2), 2, settings={"width": 3})
    torch.save(network, tmp_path / "whole.pt")
    with pytest.raises(UntrustedFileError):
        load(str(tmp_path / "whole.pt"))
    model = load(str(tmp_path / "whole.pt"), trust_pickle=True, mean=0.5, std=0.5)
    assert model.name == "whole"
    assert fingerprint(Classifier(network, mean=0.5, std=0.5)) == fingerprint(model)


def test_a_module_whose_code_is_gone_is_a_model_error(zoo: Path, tmp_path: Path) -> None:
    torch.save(load(f"{zoo}:make").network, tmp_path / "whole.pt")
    for name in [name for name in sys.modules if name.startswith("atodds_source_")]:
        del sys.modules[name]
    with pytest.raises(ModelError, match="needs the code"):
        load(str(tmp_path / "whole.pt"), trust_pickle=True)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"PK\x03\x04 half an archive", b"\x80\x02", b"\x80\x04\x95", bytes(64)]
)
def test_rubbish_is_a_model_error(zoo: Path, tmp_path: Path, content: bytes, trust: bool) -> None:
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        for spec in (f"{zoo}:make@{tmp_path / name}", str(tmp_path / name)):
            with pytest.raises(ModelError):
                load(spec, trust_pickle=trust)


@pytest.mark.parametrize("held", [[1, 2], {"epoch": 3}, {}, torch.zeros(2), {"state_dict": {"a": 1}}], ids=str)
def test_a_file_without_a_state_dict_is_a_model_error(zoo: Path, tmp_path: Path, held: object) -> None:
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="state_dict"):
        load(f"{zoo}:make@{tmp_path / 'w.pt'}")


def test_a_cut_file_is_a_model_error(zoo: Path, tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "w.pt")
    save_file(state(), tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(ModelError):
            load(f"{zoo}:make@{file}")


# ---- networks of ours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("mlp", (1, 8, 8), 10), ("cnn4", (1, 8, 8), 4), ("cnn7", (1, 28, 28), 10), ("resnet8", (3, 32, 32), 100)],
)
def test_plain_weights_of_a_network_of_ours_find_their_shape(
    tmp_path: Path, name: str, shape: tuple[int, int, int], classes: int
) -> None:
    network = build(name, shape, classes, seed=5).eval()
    save_file({f"module.{key}": value for key, value in network.state_dict().items()}, tmp_path / "w.safetensors")
    model = load(f"{name}@{tmp_path / 'w.safetensors'}")
    images = torch.rand(2, *shape)
    assert torch.equal(model(images), network(images))
    assert model.name == f"{name}-w"


def test_weights_of_another_network_say_so(tmp_path: Path) -> None:
    save_file(build("mlp", (1, 8, 8), 10).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="does not fit ResNet"):
        load(f"resnet8@{tmp_path / 'w.safetensors'}")
    save_file(build("mlp", (1, 8, 8), 10, settings={"width": 8}).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="of another shape"):
        load(f"mlp@{tmp_path / 'w.safetensors'}")


def test_plain_weights_alone_ask_for_their_network(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "w.safetensors")
    torch.save(state(), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        with pytest.raises(ModelError, match=r"NETWORK@.*mlp.*FILE\.py:FACTORY@"):
            load(str(tmp_path / name))
    with pytest.raises(UnknownNameError, match="no such file"):
        load(str(tmp_path / "none.safetensors"))


# ---- checkpoints ---------------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    shape = (1, 8, 8)
    card = Card("cnn4", complete("cnn4", shape), shape, ("a", "b"), (0.3,), (0.4,), data="digits")
    made = Classifier(build("cnn4", shape, 2), mean=card.mean, std=card.std, card=card)
    return save(made, tmp_path / "small.safetensors")


def test_a_checkpoint_is_a_source_by_itself_or_behind_its_network(checkpoint: Path) -> None:
    alone, named = load(str(checkpoint)), load(f"cnn4@{checkpoint}", name="x")
    assert fingerprint(alone) == fingerprint(named)
    assert (alone.name, named.name, named.source) == ("small", "x", f"cnn4@{checkpoint}")
    assert alone.card is not None
    assert alone.card.data == "digits"
    assert alone.mean is not None


def test_a_checkpoint_behind_another_network_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="holds a cnn4, not a resnet20"):
        load(f"resnet20@{checkpoint}")


def test_a_checkpoint_normalises_by_itself(checkpoint: Path) -> None:
    for mean, std in ((0.5, 0.5), (None, 0.5), (0.5, None)):
        with pytest.raises(ArgumentError, match="card says how it normalises"):
            load(str(checkpoint), mean=mean, std=std)


def test_the_weights_of_a_checkpoint_fit_a_factory(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from atodds.models import build\ndef make():\n    return build('cnn4', (1, 8, 8), 2)\n"
    )
    model = load(f"{tmp_path / 'mine.py'}:make@{checkpoint}")
    assert model.card is None
    assert fingerprint(model) == fingerprint(load(str(checkpoint)).network)
