"""A line of text that names a model is taken apart one way only."""

from pathlib import Path

import pytest

from atodds.errors import ArgumentError, UnknownNameError
from atodds.models.spec import Spec, parse


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("zoo.py:net", Spec("zoo.py:net", file=Path("zoo.py"), factory="net")),
        (" a/b/zoo.py:net ", Spec("a/b/zoo.py:net", file=Path("a/b/zoo.py"), factory="net")),
        ("zoo.py:Nets.small", Spec("zoo.py:Nets.small", file=Path("zoo.py"), factory="Nets.small")),
        ("zoo.py:net@w.pt", Spec("zoo.py:net@w.pt", file=Path("zoo.py"), factory="net", weights=Path("w.pt"))),
        (
            "me@home/zoo.py:net@you@work/w:1.pth",
            Spec(
                "me@home/zoo.py:net@you@work/w:1.pth",
                file=Path("me@home/zoo.py"),
                factory="net",
                weights=Path("you@work/w:1.pth"),
            ),
        ),
        ("pack.nets:make", Spec("pack.nets:make", module="pack.nets", factory="make")),
        ("nets:make@w.pt", Spec("nets:make@w.pt", module="nets", factory="make", weights=Path("w.pt"))),
        ("resnet20@w.pt", Spec("resnet20@w.pt", network="resnet20", weights=Path("w.pt"))),
        ("timm:resnet50.a1_in1k", Spec("timm:resnet50.a1_in1k", library="timm", member="resnet50.a1_in1k")),
        (
            "timm:resnet50@a/b@c.pt",
            Spec("timm:resnet50@a/b@c.pt", library="timm", member="resnet50", weights=Path("a/b@c.pt")),
        ),
        ("torchvision:vgg16", Spec("torchvision:vgg16", library="torchvision", member="vgg16")),
        (
            "torchvision:vgg16@IMAGENET1K_V1",
            Spec("torchvision:vgg16@IMAGENET1K_V1", library="torchvision", member="vgg16", variant="IMAGENET1K_V1"),
        ),
        (
            "torchvision:vgg16@../w.pth",
            Spec("torchvision:vgg16@../w.pth", library="torchvision", member="vgg16", weights=Path("../w.pth")),
        ),
        ("hf:google/vit-base", Spec("hf:google/vit-base", library="hf", member="google/vit-base")),
        (
            "hf:google/vit-base@refs/pr/1",
            Spec("hf:google/vit-base@refs/pr/1", library="hf", member="google/vit-base", variant="refs/pr/1"),
        ),
        ("hf:./mine", Spec("hf:./mine", library="hf", folder=Path("mine"))),
        ("hf:/a/mine.py:x", Spec("hf:/a/mine.py:x", library="hf", folder=Path("/a/mine.py:x"))),
        ("a/b.safetensors", Spec("a/b.safetensors", weights=Path("a/b.safetensors"))),
        ("b.pth", Spec("b.pth", weights=Path("b.pth"))),
    ],
)
def test_each_form_is_taken_apart(text: str, spec: Spec) -> None:
    assert parse(text) == spec


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("zoo.py:net", "net"),
        ("zoo.py:net@best.pt", "net-best"),
        ("resnet20@best.pt", "resnet20-best"),
        ("runs/robust.safetensors", "robust"),
        ("timm:resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("timm:resnet50@best.pt", "resnet50-best"),
        ("torchvision:vgg16@IMAGENET1K_V1", "vgg16-IMAGENET1K_V1"),
        ("hf:google/vit-base", "vit-base"),
        ("hf:google/vit-base@v2", "vit-base-v2"),
        ("hf:./runs/mine", "mine"),
        ("hf:.", "model"),
        ("runs/\x1b[31mred.safetensors", "?[31mred"),
    ],
)
def test_a_model_is_called_after_its_parts(text: str, name: str) -> None:
    assert parse(text).name == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "FILE.py:FACTORY"),
        ("   ", "FILE.py:FACTORY"),
        ("zoo.py", r"Write zoo\.py:FACTORY"),
        ("zoo.py:", "no name of a function"),
        ("zoo.py:2net", "no name of a function"),
        ("zoo.py:net.", "no name of a function"),
        ("https://example.org/model.py", "Fetch it first"),
        ("https://example.org/model.py:net", "Fetch it first"),
        ("resnet20", r"resnet20@FILE\.safetensors"),
        ("suite:imagenet-18", "several models, not one"),
        ("zoo/", "FILE.py:FACTORY"),
        ("a:b:c", "FILE.py:FACTORY"),
    ],
)
def test_what_names_no_model_says_how_to_name_one(text: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        parse(text)


@pytest.mark.parametrize("library", ["timm", "torchvision", "hf"])
@pytest.mark.parametrize(
    "name",
    [
        "", " ", "a/../b", "a/b/c", "a\\b", "a b", "a;b", "a\nb", "-a", "--help", "a:b",
        "hf-hub:owner/repo", "local-dir:/etc", "a@", "a.b.c.d/../e", "ａ", "a\0b", "@FILE", "a/b@../../c", "a/b@-c",
        "a/b@v/../../c", "a..b", "a/b..c",
    ],
)  # fmt: skip
def test_a_name_that_no_library_gives_is_refused(library: str, name: str) -> None:
    with pytest.raises(ArgumentError, match=rf"after {library}:\. Write {library}:") as caught:
        parse(f"{library}:{name}")
    assert caught.value.argument == "model"


def test_only_a_folder_that_says_so_is_one() -> None:
    for text in ("hf:..", "hf:../x", "hf:~/x", "hf:/x"):
        assert parse(text).folder is not None
        assert parse(text).member == ""
    for library in ("timm", "torchvision"):
        with pytest.raises(ArgumentError, match="no name of a model"):
            parse(f"{library}:../../etc/passwd")


def test_an_unknown_network_is_told_the_nearest_and_how_to_bring_one() -> None:
    with pytest.raises(UnknownNameError, match=r"resnet32.*Your own: FILE\.py:FACTORY") as caught:
        parse("resnet34")
    assert caught.value.argument == "model"
    with pytest.raises(UnknownNameError):
        parse("resnet34@w.pt")


def test_a_path_that_exists_is_a_path_though_it_holds_the_sign_for_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs@night.safetensors").touch()
    assert parse("runs@night.safetensors").weights == Path("runs@night.safetensors")
    assert parse("runs@night.safetensors").network == ""
