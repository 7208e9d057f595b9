"""CIFAR-10's batches, and pickles that try to do more than hold them."""

import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from atodds.data import load
from atodds.data.pickled import as_bytes, read_pickle
from atodds.errors import DataError

PIXELS = np.random.default_rng(5).integers(0, 256, (4, 3072), dtype=np.uint8)


def write(folder: Path, names: list[str], **changes: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        batch = {"batch_label": name, "labels": [3, 8, 8, k], "data": PIXELS + np.uint8(k), "filenames": ["a"] * 4}
        (folder / name).write_bytes(pickle.dumps({**batch, **changes}, protocol=2))


TRAIN = [f"data_batch_{k}" for k in range(1, 6)]


@pytest.mark.parametrize("place", ["cifar-10-batches-py", "cifar10/cifar-10-batches-py", "cifar10", "."])
def test_cifar10_is_found_by_its_name(tmp_path: Path, place: str) -> None:
    write(tmp_path / place, ["test_batch", *TRAIN])
    images = load("cifar10", root=tmp_path)
    assert (images.name, images.split, len(images)) == ("cifar10", "test", 4)
    assert (images.pixels() == PIXELS.reshape(4, 3, 32, 32)).all()
    assert images.labels.tolist() == [3, 8, 8, 0]
    assert images.classes[3] == "cat"
    train = load("cifar10", root=tmp_path, split="train")
    assert len(train) == 20
    assert train.labels[3::4].tolist() == [1, 2, 3, 4, 5]
    assert (train.pixels([17]) == load(tmp_path / place / "data_batch_5").pixels([1])).all()


def test_a_missing_batch_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, [*TRAIN[:4], "test_batch"])
    with pytest.raises(DataError, match="data_batch_5 missing, so the train split is not whole"):
        load(tmp_path, split="train")
    with pytest.raises(DataError, match=r"no 'validation' split. There is test, train"):
        load(tmp_path, split="validation")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_binary_protocol_is_read(protocol: int, order: str) -> None:
    pixels = np.asfortranarray(PIXELS) if order == "F" else PIXELS
    content = read_pickle(pickle.dumps({b"data": pixels, "labels": [1]}, protocol=protocol), Path("x"))
    assert (as_bytes(content["data"], Path("x")) == PIXELS).all()
    assert content["labels"] == [1]


def python2(labels: list[int]) -> bytes:
    """A batch as Python 2 wrote it: text as byte strings, an old module's name."""

    def text(word: bytes) -> bytes:
        return b"U" + bytes([len(word)]) + word

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    raw = PIXELS[: len(labels)].tobytes()
    state = (
        b"(K\x01"
        + b"K"
        + bytes([len(labels)])
        + b"M\x00\x0c\x86"
        + dtype
        + b"\x89T"
        + struct.pack("<i", len(raw))
        + raw
        + b"tb"
    )
    items = text(b"data") + array + state + text(b"labels") + b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    return b"\x80\x02}(" + items + b"u."


def test_batches_of_python_2_are_read(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(python2([6, 9]))
    images = load(tmp_path)
    assert images.labels.tolist() == [6, 9]
    assert (images.pixels() == PIXELS[:2].reshape(2, 3, 32, 32)).all()


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


def malicious(flag: Path) -> list[bytes]:
    """Pickles that would make the file `flag` if they were run."""
    command = f"touch {flag}"
    by_name = [pickle.dumps({"data": Call(os.system, command)}, protocol=protocol) for protocol in range(6)]
    stacked = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(command)]) + command.encode() + b"\x85R."
    instance = b"(S'" + command.encode() + b"'\nios\nsystem\n."
    through_numpy = b"\x80\x02cnumpy\nload\nX" + struct.pack("<I", len(command)) + command.encode() + b"\x85R."
    hidden = pickle.dumps({"data": np.array([Call(os.system, command)], object), "labels": [0]}, protocol=2)
    return [*by_name, stacked, instance, through_numpy, hidden]


@pytest.mark.parametrize("which", range(10))
def test_code_in_a_pickle_does_not_run(tmp_path: Path, which: int) -> None:
    flag = tmp_path / "ran"
    (tmp_path / "test_batch").write_bytes(malicious(flag)[which])
    with pytest.raises(DataError, match=r"test_batch: .*which could run code, so it is not opened"):
        load(tmp_path)
    assert not flag.exists()


def test_the_malicious_pickles_would_run_elsewhere(tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    pickle.loads(malicious(flag)[2])  # noqa: S301
    assert flag.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02}r\xff\xff\xff\xff.", "absurd memo number"),
        (b"\x80\x02" + b"K\x01" + b"\x85" * 2000 + b".", "pile of tuples"),
        (b"\x80\x02cnumpy\nndarray\nK\x01\x85R.", "a call of numpy.ndarray"),
        (b"\x80\x02cnumpy\ndtype\n}b.", "a change to a function"),
        (b"\x80\x02P1\n.", "opcode PERSID"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".", "damaged pickle"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "damaged pickle"),
        (b"", "damaged pickle"),
        (b"\x80\x02K\x01", "damaged pickle"),
        (b"\x80\x02K\x01.", "something else than a dictionary"),
        (b"\x80\x02}(K\x01u.", "damaged pickle"),
        (b"\x80\x02}(]K\x01u.", "damaged pickle"),
    ],
)
def test_programs_that_only_do_harm_are_refused(program: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"x: .*{message}"):
        read_pickle(program, Path("x"))


def test_the_pickle_names_resolve_to_nothing_of_numpy() -> None:
    content = read_pickle(pickle.dumps({"a": PIXELS, "b": PIXELS.dtype}, protocol=2), Path("x"))
    assert all(type(value).__module__ == "atodds.data.pickled" for value in content.values())


@pytest.mark.parametrize(
    "array",
    [PIXELS.astype(np.int64), PIXELS.astype(np.float32), np.array(["a"]), [1, 2], None],
)
def test_only_arrays_of_bytes_are_taken(tmp_path: Path, array: object) -> None:
    write(tmp_path, ["test_batch"], data=array)
    with pytest.raises(DataError, match="no array of bytes"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1, 2]}, "4 whole numbers from 0 to 9"),
        ({"labels": [0, 1, 2, 10]}, "4 whole numbers from 0 to 9"),
        ({"labels": [0, 1, 2, -1]}, "4 whole numbers from 0 to 9"),
        ({"labels": [0, 1, 2, 1.5]}, "4 whole numbers from 0 to 9"),
        ({"labels": "0123"}, "4 whole numbers from 0 to 9"),
        ({"data": PIXELS[:, :3000]}, r"data of shape \(4, 3000\)"),
        ({"data": PIXELS.reshape(-1)}, "data of shape"),
    ],
)
def test_batches_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write(tmp_path, ["test_batch"], **changes)
    with pytest.raises(DataError, match=rf"test_batch: .*{message}"):
        load(tmp_path)


def test_a_shape_that_does_not_fit_its_bytes_is_refused() -> None:
    sound = pickle.dumps({"data": PIXELS[:1]}, protocol=2)
    lying = sound.replace(b"M\x00\x0c", b"M\xff\xff")
    assert "65535" in "".join(str(argument) for _, argument, _ in pickletools.genops(lying))
    with pytest.raises(DataError, match=r"shape \(1, 65535\) with 3072 bytes"):
        as_bytes(read_pickle(lying, Path("x"))["data"], Path("x"))


def test_a_batch_without_labels_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": PIXELS, "fine_labels": [0] * 4}, protocol=2))
    with pytest.raises(DataError, match=r"holds \['data', 'fine_labels'\]"):
        load(tmp_path)


def test_binary_records_are_a_label_and_three_planes(tmp_path: Path) -> None:
    records = np.concatenate([np.array([[7], [0], [9], [7]], np.uint8), PIXELS], 1)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for name in (*TRAIN, "test_batch"):
        (tmp_path / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())
    images = load("cifar10", root=tmp_path)
    assert images.labels.tolist() == [7, 0, 9, 7]
    assert (images.pixels([2])[0, 1] == PIXELS[2, 1024:2048].reshape(32, 32)).all()
    assert len(load("cifar10", root=tmp_path, split="train")) == 20


@pytest.mark.parametrize("content", [b"", bytes(3072), bytes(3074)])
def test_binary_files_of_another_length_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataError, match="no whole number of records"):
        load(tmp_path)


def test_a_binary_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(DataError, match="image 0 has label 10, but the 10 classes are 0 to 9"):
        load(tmp_path)
