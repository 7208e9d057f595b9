"""`robustbench:ID@FILE` loads a published file as it is; `robustbench:ID` asks the package, here a stand-in."""

import enum
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from atodds import models
from atodds.errors import (
    ArgumentError,
    MissingExtraError,
    ModelError,
    TruncatedFileError,
    UnknownNameError,
    WebPageError,
    WeightsDownloadError,
)
from atodds.models.adapters import robustbench_models
from atodds.models.robustbench import MixedClassifier, PolicyNetwork, find, make
from atodds.models.robustbench.bit import BiT
from atodds.models.robustbench.entries import MIXTURES, STATISTICS, Entry
from atodds.models.robustbench.wide import wide

ID = "Wang2023Better_WRN-28-10"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same networks with few parameters."""

    def made(entry: Entry) -> nn.Module:
        with torch.device("meta"):
            if entry.network != "mixed":
                return wide(10, 10, 1) if entry.network == "deepmind" else make(entry)
            pair = BiT(10, (1, 1, 1, 1), 1), wide(10, 10, 1)
            mean, std = STATISTICS[entry.data]
            policy = PolicyNetwork(256 + 16, 512 + 32, (16, 16, 16))
            return MixedClassifier(*pair, policy, MIXTURES[entry.data, entry.id], mean=mean, std=std)

    monkeypatch.setattr(robustbench_models, "make", made)


@pytest.fixture
def state() -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return wide(10, 10, 1).state_dict()


WRAPPINGS: Mapping[str, Callable[[dict[str, Tensor]], object]] = {
    "as it is": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
    "ema": lambda state: {"ema": state, "epoch": 1},
    "module.": lambda state: {f"module.{name}": value for name, value in state.items()},
    "state_dict, module. and model.": lambda state: {
        "state_dict": {f"module.model.{name}": value for name, value in state.items()}
    },
}


@pytest.mark.parametrize("how", WRAPPINGS)
def test_a_file_loads_as_it_is(tmp_path: Path, state: dict[str, Tensor], how: str) -> None:
    file = tmp_path / f"{ID}.pt"
    torch.save(WRAPPINGS[how](state), file)
    model = models.load(f"robustbench:{ID}", weights=file)
    assert model.name == ID
    assert model.source == f"robustbench:{ID}@{file}"
    assert model.usage is not None
    assert (model.usage.shape, model.usage.outputs) == ((3, 32, 32), 10)
    assert model.mean is not None
    assert model.mean.flatten().tolist() == pytest.approx(STATISTICS["cifar10"][0])
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, state[name])
    assert model(torch.rand(2, 3, 32, 32)).isfinite().all()
    again = models.load(**models.arguments(model))
    assert models.fingerprint(again) == models.fingerprint(model)


def test_another_board_has_another_normalisation_and_normalisation_of_ones_own_is_allowed(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    file = tmp_path / "mine.pt"
    torch.save(state, file)
    other = models.load(f"robustbench:cifar100/Linf/{ID}@{file}")
    assert other.mean is not None
    assert other.mean.flatten().tolist() == pytest.approx(STATISTICS["cifar100"][0])
    assert other.name == f"{ID}-mine"
    mine = models.load(f"robustbench:{ID}@{file}", mean=0.5, std=0.5)
    assert mine.mean is not None
    assert mine.mean.flatten().tolist() == [0.5]


def test_a_file_of_another_network_is_told_with_its_names(tmp_path: Path, state: dict[str, Tensor]) -> None:
    file = tmp_path / "a.pt"
    torch.save({name: value for name, value in state.items() if not name.startswith("logits")}, file)
    with pytest.raises(ModelError, match=r"2 missing: logits\.weight, logits\.bias"):
        models.load(f"robustbench:{ID}@{file}")


@pytest.mark.parametrize(
    ("content", "kind"), [(b"<!doctype html><title>Quota exceeded", WebPageError), (b"", TruncatedFileError)]
)
def test_a_file_that_is_none_is_told_with_the_way_to_fetch_it(
    tmp_path: Path, content: bytes, kind: type[ModelError]
) -> None:
    file = tmp_path / f"{ID}.pt"
    file.write_bytes(content)
    entry = find(ID)
    assert entry is not None
    with pytest.raises(kind, match=f"https://drive.google.com/file/d/{entry.drive[0]} in a browser"):
        models.load(f"robustbench:{ID}@{file}")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """The three files of a small mixture, the first of them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = PolicyNetwork(256 + 16, 512 + 32, (16, 16, 16))
        parts: tuple[object, ...] = (
            {f"module.{name}": value for name, value in BiT(10, (1, 1, 1, 1), 1).state_dict().items()},
            wide(10, 10, 1).state_dict(),
            {"model": policy.state_dict(), "bn": nn.BatchNorm1d(1, affine=False).state_dict()},
        )
    for place, part in enumerate(parts):
        torch.save(part, tmp_path / f"Bai2023Improving_edm_m{place}.pt")
    return tmp_path / "Bai2023Improving_edm_m0.pt"


def test_the_three_files_of_a_mixture_are_found_by_one_of_them(three: Path) -> None:
    first = models.load(f"robustbench:Bai2023Improving_edm@{three}", name="bai")
    third = models.load(f"robustbench:Bai2023Improving_edm@{three.with_name('Bai2023Improving_edm_m2.pt')}")
    assert models.fingerprint(first) == models.fingerprint(third)
    assert first.mean is None
    answer = first(torch.rand(2, 3, 32, 32))
    assert torch.allclose(answer.exp().sum(1), torch.ones(2), atol=1e-5)


def test_a_mixture_lacks_no_file(three: Path) -> None:
    with pytest.raises(ModelError, match=r"three files, called \.\.\._m0\.pt"):
        models.load(f"robustbench:Bai2023Improving_edm@{three.rename(three.with_name('standard.pt'))}")
    with pytest.raises(UnknownNameError, match=r"no such file.*_m2\.pt"):
        models.load(f"robustbench:Bai2023Improving_edm@{three.with_name('Bai2023Improving_edm_m1.pt')}")
    three.with_name("standard.pt").rename(three)
    last = three.with_name("Bai2023Improving_edm_m2.pt")
    torch.save({"model": torch.load(last, weights_only=True)["model"]}, last)
    with pytest.raises(ModelError, match="no state dict called 'bn'"):
        models.load(f"robustbench:Bai2023Improving_edm@{three}")


def test_unknown_ids_are_told_with_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save({}, file)
    with pytest.raises(UnknownNameError, match=f"Did you mean {ID}"):
        models.load(f"robustbench:Wang2023Better_WRN_28-10@{file}")
    for wrong in ("robustbench:", "robustbench:a/b/c/d", "robustbench:../../etc", "robustbench:x y"):
        with pytest.raises(ArgumentError, match="no name of a model"):
            models.load(wrong)


def test_without_the_package_the_way_by_hand_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(WeightsDownloadError, match=rf"drive\.google\.com.*{ID}@FILE.*pip install 'atodds\[zoo\]'"):
        models.load(f"robustbench:{ID}")
    with pytest.raises(MissingExtraError):
        models.load("robustbench:Debenedetti2022Light_XCiT-S12")
    with pytest.raises(UnknownNameError, match="no such board"):
        models.load("robustbench:svhn/Linf/Standard")


class Data(enum.Enum):
    CIFAR10 = "cifar10"


class Threat(enum.Enum):
    LINF = "Linf"


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """A stand-in for robustbench, and what it was asked for."""
    asked: list[dict[str, str]] = []

    def load_model(**told: str) -> nn.Module:
        asked.append(told)
        if told["model_name"] == "Gone":
            raise OSError("quota exceeded")
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))

    parts: dict[str, dict[str, object]] = {
        "robustbench": {"__path__": []},
        "robustbench.utils": {"load_model": load_model},
        "robustbench.model_zoo": {"model_dicts": {Data.CIFAR10: {Threat.LINF: {"Theirs": {}, "Gone": {}, ID: {}}}}},
    }
    for name, held in parts.items():
        module = types.ModuleType(name)
        vars(module).update(held)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def test_the_package_brings_its_models_with_their_normalisation_inside(package: list[dict[str, str]]) -> None:
    model = models.load("robustbench:Theirs")
    assert package == [{"model_name": "Theirs", "dataset": "cifar10", "threat_model": "Linf"}]
    assert model.mean is None
    assert model.name == "Theirs"
    with pytest.raises(ArgumentError, match="robustbench says how its weights normalise"):
        models.load("robustbench:Theirs", mean=0.5, std=0.5)
    with pytest.raises(WeightsDownloadError, match="quota exceeded"):
        models.load("robustbench:Gone")
    with pytest.raises(UnknownNameError, match="Did you mean Theirs"):
        models.load("robustbench:Their")
