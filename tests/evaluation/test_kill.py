"""A run that is killed at any moment loses nothing, doubles nothing, and ends as an undisturbed one would."""

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from atodds.evaluation.manifest import Finding
from atodds.evaluation.store import Store

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, scale=1.7):
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 24).double(), nn.Linear(24, 10).double()
        with torch.no_grad():
            for k, parameter in enumerate(self.parameters()):
                count = torch.arange(parameter.numel(), dtype=torch.float64)
                parameter.copy_((count * (k + scale)).sin().reshape(parameter.shape) / 3)

    def forward(self, images):
        return self.head(self.hidden(images.flatten(1)).relu())

def make():
    return Net()

def other():
    return Net(2.3)
"""

NURSERY = """
import os, signal, sys, time
from pathlib import Path
import atodds

for line in sys.stdin:
    out, files, delay = line.rsplit(maxsplit=2)
    child = os.fork()
    if child == 0:
        images = atodds.data.load("digits", limit=40)
        atodds.evaluate(
            ["nets.py:make", "nets.py:other"], images, eps="0:0.2:0.1", attacks="fgsm,pgd(steps=5,target=random)",
            out=out, batch_size=8, chunk=7, transfer=True,
        )
        os._exit(0)
    ended = 0
    if int(files) >= 0:
        while not ended and sum(1 for _ in Path(out).glob("[jt]*s/*")) < int(files):
            time.sleep(0.001)
            ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(float(delay))
        if not ended:
            os.kill(child, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
"""Makes the same run again and again without importing everything again: a line with the folder in, the exit status
out. Where a number of files is given, the run is killed so many seconds after it has written them."""


class Nursery:
    """The nursery, as the tests talk to it."""

    def __init__(self, folder: Path) -> None:
        (folder / "nets.py").write_text(NETS)
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, out: Path, *, files: int = -1, delay: float = 0) -> int:
        """The exit status of the run, which is killed once it has written so many files."""
        if self.process.stdin is None or self.process.stdout is None:
            raise ValueError("no way to talk to the nursery")
        self.process.stdin.write(f"{out} {files} {delay}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.fixture(scope="module")
def undisturbed(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The run that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert nursery.run(out) == 0
    return Store.open(out)


def content(store: Store) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Finding, ...], list[str]]:
    assert store.complete
    order = ["model", "image", "eps", "attack"]
    return store.table().sort(order), store.transfers().sort(order), store.findings(), written(store)


def written(store: Store) -> list[str]:
    return [*store.folder.names("jobs"), *store.folder.names("transfers")]


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 4), *(pytest.param(seed, 8, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    nursery: Nursery, undisturbed: Store, tmp_path: Path, seed: int, kills: int
) -> None:
    names, moments, out = written(undisturbed), random.Random(seed), tmp_path / "run"
    files = sorted([*(moments.randrange(len(names)) for _ in range(kills - 1)), len(names) - 1])
    done = []
    for count in files:
        assert nursery.run(out, files=count, delay=moments.uniform(0, 0.05)) in (-signal.SIGKILL, 0)
        done.append(len(list(out.glob("[jt]*s/*.parquet"))))
        if (out / "run.json").exists() and done[-1] < len(names):
            assert not Store.open(out).complete
    assert done == sorted(done)
    assert done[0] < len(names)
    assert nursery.run(out) == 0
    table, transfers, findings, shards = content(Store.open(out))
    expected, shown, usual, _ = content(undisturbed)
    assert table.equals(expected)
    assert transfers.equals(shown)
    assert transfers.height > 10
    assert findings == usual
    assert shards == names
    assert table.select("model", "image", "attack", "eps").is_unique().all()
