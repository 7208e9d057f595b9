"""A run says what made it."""

import datetime

import torch

from atodds.evaluation import provenance
from atodds.version import __version__


def test_versions_are_those_that_are_here() -> None:
    said = provenance.versions()
    assert said["atodds"] == __version__
    assert said["torch"] == str(torch.__version__)
    said["torch"] = "another"
    assert provenance.versions()["torch"] == str(torch.__version__)


def test_the_machine_is_named() -> None:
    said = provenance.machine(torch.device("cpu"))
    assert said["device"] == "cpu"
    assert int(said["cores"]) >= 1
    assert all(said.values())


def test_the_moment_is_in_universal_time() -> None:
    moment = datetime.datetime.fromisoformat(provenance.now())
    assert moment.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.UTC) - moment) < datetime.timedelta(minutes=1)


def test_the_commit_is_forty_digits_or_nothing() -> None:
    said = provenance.commit().removesuffix("+")
    assert said == "" or (len(said) == 40 and int(said, 16) >= 0)
