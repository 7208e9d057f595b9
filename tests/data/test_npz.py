"""NumPy archives: keys, splits, and files that lie."""

import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from atodds.data import load
from atodds.errors import DataError, EmptyDataError

X = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)
Y = np.array([1, 0])


def write(path: Path, **arrays: npt.ArrayLike) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in arrays.items():
            with archive.open(f"{key}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
    return path


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images", "labels"),
        ("image", "label"),
        ("x", "y"),
        ("data", "targets"),
        ("x_test", "y_test"),
        ("test_images", "test_labels"),
        ("X_test", "Y_test"),
    ],
)
def test_the_usual_keys_are_known(tmp_path: Path, images: str, labels: str) -> None:
    found = load(write(tmp_path / "some.npz", **{images: X, labels: Y}))
    assert (found.pixels()[:, 0] == X).all()
    assert found.labels.tolist() == [1, 0]
    assert (found.name, found.split) == ("some", "test" if "test" in images.lower() else "")


def test_a_split_is_found_by_its_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz", x_train=X, y_train=Y, x_test=X + 100, y_test=Y, x_val=X + 50, y_val=Y)
    for split, level in (("train", 0), ("test", 100), ("val", 50), ("validation", 50)):
        assert load(path, split=split).pixels()[0, 0, 0, 0] == level
    with pytest.raises(DataError, match=r"no 'extra' split. There is test, train, validation"):
        load(path, split="extra")


def test_class_names_and_ids_are_read(tmp_path: Path) -> None:
    for names in (np.array(["cat", "dog"]), np.array([b"cat", b"dog"])):
        found = load(write(tmp_path / "some.npz", images=X, labels=Y, classes=names, ids=[70, 3]))
        assert found.classes == ("cat", "dog")
        assert found.ids.tolist() == [70, 3]
    found = load(write(tmp_path / "some.npz", x_test=X, y_test=Y, ids_test=[8, 9], ids_train=[1, 2, 3]))
    assert found.ids.tolist() == [8, 9]


def test_floats_and_columns_of_labels_are_taken(tmp_path: Path) -> None:
    found = load(write(tmp_path / "some.npz", x=X[..., None] / 255, y=Y[:, None]))
    assert (found.pixels()[:, 0] == X).all()


def test_mnist_and_cifar10_may_be_archives(tmp_path: Path) -> None:
    write(tmp_path / "mnist.npz", x_test=np.zeros((3, 28, 28), np.uint8), y_test=[7, 2, 1])
    write(tmp_path / "cifar10.npz", x_test=np.zeros((3, 32, 32, 3), np.uint8), y_test=[7, 2, 1])
    assert load("mnist", root=tmp_path).classes == tuple("0123456789")
    assert load("cifar10", root=tmp_path).classes[9] == "truck"


@pytest.mark.parametrize("keys", [("pictures", "y"), ("x", "answers"), ("x_train", "y_test"), ()])
def test_keys_that_tell_nothing_are_listed(tmp_path: Path, keys: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"some\.npz: keys .*Name the arrays images and labels"):
        load(write(tmp_path / "some.npz", **dict.fromkeys(keys, X)))


def test_arrays_that_do_not_fit_name_the_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="some: labels: 3 for 2 images"):
        load(write(tmp_path / "some.npz", x=X, y=[0, 1, 2]))
    with pytest.raises(DataError, match="some: images: pixels from 0 to 39"):
        load(write(tmp_path / "some.npz", x=X.astype(float), y=Y))
    with pytest.raises(EmptyDataError):
        load(write(tmp_path / "some.npz", x=X[:0], y=Y[:0]))


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", x=X, y=np.array([object(), None], object))
    with pytest.raises(DataError, match="Python objects, which could run code"):
        load(tmp_path / "some.npz")


def header(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(2, 5, 5)", "(2, 5, 3)", "(-2, -20)", "(2, 5, 4", "'x'", "()"])
def test_headers_that_lie_are_refused(tmp_path: Path, shape: str) -> None:
    write(tmp_path / "some.npz", y=Y)
    with zipfile.ZipFile(tmp_path / "some.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header(shape) + X.tobytes())
    with pytest.raises(DataError, match=r"some\.npz"):
        load(tmp_path / "some.npz")


def test_a_size_that_no_file_can_hold_is_not_believed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header("(4000000000,)") + X.tobytes())
        archive.writestr("y.npy", header("(4000000000,)") + X.tobytes())
    content = bytearray(buffer.getvalue())
    claimed = (4_000_000_000 + len(header("(4000000000,)"))).to_bytes(4, "little")
    central = content.find(b"PK\x01\x02")
    while central >= 0:
        content[central + 24 : central + 28] = claimed
        central = content.find(b"PK\x01\x02", central + 1)
    (tmp_path / "some.npz").write_bytes(content)
    with pytest.raises(DataError, match="far more than the file can hold"):
        load(tmp_path / "some.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "some.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"some\.npz: not a readable \.npz archive"):
        load(tmp_path / "some.npz")


def test_other_compressions_than_numpys_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.npz", "w", zipfile.ZIP_BZIP2) as archive:
        for name in ("x", "y"):
            archive.writestr(f"{name}.npy", header("(2, 5, 4)") + X.tobytes())
    with pytest.raises(DataError, match="packed in a way that NumPy does not write"):
        load(tmp_path / "some.npz")
