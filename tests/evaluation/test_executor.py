"""Other processes give the same verdicts, from models that came from anywhere, and lose nothing when they die."""

import multiprocessing
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn

import atodds
from atodds.data import ImageSet
from atodds.errors import ArgumentError, ModelError, WorkerError
from atodds.evaluation import progress
from atodds.evaluation.executor import _redeem, tickets
from atodds.evaluation.plan import Job
from atodds.evaluation.runner import Progress
from atodds.evaluation.store import Store

NETS = """
import multiprocessing, os, signal
import torch
from pathlib import Path
from torch import nn

HERE = Path(__file__).parent

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10).double()
        with torch.no_grad():
            self.layer.weight.copy_(torch.arange(640, dtype=torch.float64).reshape(10, 64).sin())
            self.layer.bias.zero_()

    def forward(self, images):
        if multiprocessing.parent_process() is not None:
            (HERE / f"{os.getpid()}.pid").touch()
            if (HERE / "kill").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            if (HERE / "leave").exists():
                os._exit(0)
            if (HERE / "fail").exists():
                raise ZeroDivisionError("on purpose")
        return self.layer(images.flatten(1))

def make():
    return Net()

def make_float():
    return Net().float()

def make_random():
    net = Net()
    with torch.no_grad():
        net.layer.bias.copy_(torch.tensor([os.getpid() + k for k in range(10)]))
    return net
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    """A file with a network that leaves the number of each worker that ran it."""
    file = tmp_path / "my_nets.py"
    file.write_text(NETS)
    return file


@pytest.fixture
def few(digits: ImageSet) -> ImageSet:
    return digits.take(range(12))


Evaluated = Callable[..., atodds.Run]


@pytest.fixture
def evaluated(few: ImageSet) -> Evaluated:
    def run(model: nn.Module | str, **settings: object) -> atodds.Run:
        usual: dict[str, object] = {"eps": "0.05,0.1", "attacks": "fgsm,pgd(steps=3)", "batch_size": 4}
        return atodds.evaluate(model, few, **(usual | settings))  # type: ignore[arg-type]

    return run


def workers_of(nets: Path) -> int:
    return len(list(nets.parent.glob("*.pid")))


def test_a_model_from_a_file_is_loaded_again_by_each_worker(evaluated: Evaluated, nets: Path) -> None:
    model = atodds.models.load(f"{nets}:make", mean=0.5, std=0.25, name="mine")
    expected = evaluated(model)
    assert workers_of(nets) == 0
    found = evaluated(model, workers=2, chunk=3)
    assert workers_of(nets) >= 1  # a quick one may leave nothing for the other
    assert found.table.sort("image", "eps", "attack").equals(expected.table.sort("image", "eps", "attack"))
    assert found.audit == expected.audit


def test_a_mixture_of_models_from_a_file_is_put_together_again_by_each_worker(nets: Path) -> None:
    first, second = (atodds.models.load(f"{nets}:make", mean=mean, std=0.25, name="mine") for mean in (0.4, 0.5))
    mixed = atodds.models.mixture(first, second, 0.3)
    again = _redeem("mixed", tickets({"mixed": mixed})["mixed"])
    assert atodds.models.fingerprint(again) == atodds.models.fingerprint(mixed)
    assert again is not mixed
    between = atodds.models.interpolate(first, first, 0.5)
    with pytest.raises(ArgumentError, match="cannot be sent"):
        tickets({"between": between})


@pytest.mark.slow
def test_a_model_that_was_made_double_after_loading_is_made_double_again(evaluated: Evaluated, nets: Path) -> None:
    model = atodds.models.load(f"{nets}:make_float").double()
    assert evaluated(model, workers=2).table.equals(evaluated(model).table)


def test_an_object_of_a_class_that_can_be_imported_is_sent_as_it_is(
    evaluated: Evaluated, nets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(nets.parent))
    import my_nets  # type: ignore[import-not-found]

    try:
        model = my_nets.Net()
        with torch.no_grad():
            model.layer.bias += 1  # not what the class would make
        expected, found = evaluated(model), evaluated(model, workers=2)
        assert workers_of(nets) == 1  # one lane needs no second worker
        assert found.table.equals(expected.table)
    finally:
        del sys.modules["my_nets"]


def test_a_model_that_cannot_be_sent_is_told_before_any_work(evaluated: Evaluated, tmp_path: Path) -> None:
    passes = []

    class Local(nn.Flatten):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            passes.append(len(images))
            return super().forward(images)

    with pytest.raises(ArgumentError, match=r"workers='Local'.*cannot be sent.*FILE\.py:FACTORY"):
        evaluated(Local(), workers=2, out=tmp_path / "run")
    assert passes == []
    assert not (tmp_path / "run").exists()


def test_a_factory_that_gives_other_weights_each_time_is_told(evaluated: Evaluated, nets: Path) -> None:
    model = atodds.models.load(f"{nets}:make_random")
    with pytest.raises(ModelError, match=r"make_random@.* is not the same when it is loaded again"):
        evaluated(model, workers=2)


@pytest.mark.parametrize("how", ["kill", pytest.param("leave", marks=pytest.mark.slow)])
def test_a_worker_that_dies_is_told_and_the_run_continues(
    evaluated: Evaluated, nets: Path, tmp_path: Path, how: str
) -> None:
    model, out = atodds.models.load(f"{nets}:make"), tmp_path / "run"
    first_done = _marks_after(tmp_path, how, jobs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "bar", first_done)
        with pytest.raises(WorkerError, match="What was finished is kept; the same command continues"):
            evaluated(model, workers=2, chunk=3, out=out)
    kept = len(list((out / "jobs").glob("*.parquet")))
    assert kept >= 2
    assert not Store.open(out).complete
    (nets.parent / how).unlink()
    found = evaluated(model, chunk=3, out=out)
    assert found.store.complete
    assert found.table.equals(evaluated(model, chunk=3).table)


def _marks_after(folder: Path, mark: str, *, jobs: int) -> Callable[..., object]:
    """Stands in for the progress bar: leaves a mark when so many jobs are done."""
    done: list[str] = []

    def job(one: Job, _there: bool) -> None:
        done.append(one.key)
        if len(done) == jobs:
            (folder / mark).touch()

    @contextmanager
    def bar(*_lanes: object, **_shown: object) -> Iterator[Progress]:
        yield Progress(job=job)

    return bar


def test_an_error_in_a_worker_is_told_with_its_reason(evaluated: Evaluated, nets: Path) -> None:
    (nets.parent / "fail").touch()
    with pytest.raises(WorkerError, match="ZeroDivisionError: on purpose"):
        evaluated(atodds.models.load(f"{nets}:make"), workers=2)


def test_an_interruption_ends_the_workers_and_leaves_a_run_that_continues(
    evaluated: Evaluated, nets: Path, tmp_path: Path
) -> None:
    def job(_job: Job, _there: bool) -> None:
        raise KeyboardInterrupt

    @contextmanager
    def bar(*_lanes: object, **_shown: object) -> Iterator[Progress]:
        yield Progress(job=job)

    model, out = atodds.models.load(f"{nets}:make"), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "bar", bar)
        with pytest.raises(KeyboardInterrupt):
            evaluated(model, workers=2, out=out)
    assert multiprocessing.active_children() == []
    assert len(list((out / "jobs").glob("*.parquet"))) >= 1
    assert evaluated(model, out=out).table.equals(evaluated(model).table)


LONG = """
import sys, atodds
images = atodds.data.load("digits")
atodds.evaluate(sys.argv[1], images, eps="0:0.5:0.001", attacks="pgd", workers=2, out=sys.argv[2], chunk=9, keep=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_workers_do_not_outlive_a_parent_that_is_killed(nets: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", LONG, f"{nets}:make", tmp_path / "run"]) as parent:
        while workers_of(nets) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    workers = [int(file.stem) for file in nets.parent.glob("*.pid")]
    deadline = time.monotonic() + 20
    while alive := [worker for worker in workers if _runs(worker)]:
        assert time.monotonic() < deadline, f"{alive} still run"
        time.sleep(0.1)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""  # empty once it has ended
    except OSError:
        return False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library is told to keep memory")
def test_memory_that_is_freed_is_kept_by_processes_that_ask_for_it() -> None:
    """Page faults of the same work, before and after: none is left once the memory is there."""
    work = """
import ctypes, resource, torch
from atodds.evaluation.executor import hold_memory
ctypes.CDLL(None).mallopt(-3, 1 << 17)  # the threshold that glibc starts with, and from now on keeps
def faults(rounds=5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        held = [torch.ones(1_000_000) for _ in range(4)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults(); usual = faults(); hold_memory(); faults(); print(start, usual, faults())
"""
    start, usual, held = map(
        int, subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True).stdout.split()
    )
    if start == 0:
        pytest.skip("this kernel counts no page faults: a process that has loaded torch shows none")
    assert held < 200
    assert usual > 10 * held + 1000
