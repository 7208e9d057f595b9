"""Measuring contenders against each other in one process: interleaved rounds, paired ratios, the machine.

A shared machine drifts by tens of per cent between minutes, so times are never compared across processes. Each round
runs every contender once, the order rotates from round to round, and only ratios within a round are summarised.
"""

import argparse
import copy
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Spread:
    """A paired ratio over rounds; as text, "median (95 % bootstrap interval of the median; least–most)"."""

    median: float
    least: float
    most: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}–{self.high:.3f}; {self.least:.3f}–{self.most:.3f})"


@dataclass(frozen=True)
class Timed:
    """Seconds of every contender in every round: `seconds[name][round]`."""

    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Median seconds of one contender."""
        return float(np.median(self.seconds[name]))

    def ratio(self, name: str, to: str) -> Spread:
        """Seconds of `name` over seconds of `to`, paired by round. Above 1: `name` is slower."""
        return spread(np.asarray(self.seconds[name]) / np.asarray(self.seconds[to]))


def interleaved(contenders: Mapping[str, Callable[[int], object]], rounds: int) -> Timed:
    """Runs every contender once a round, in an order that rotates, and keeps the seconds.

    Args:
        contenders: what to run, by name; called with the number of the round.
        rounds: timed rounds. Round -1 goes before them, and its times are dropped.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            contenders[name](turn)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return Timed({name: tuple(values) for name, values in seconds.items()})


def spread(ratios: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", draws: int = 10_000, seed: int = 0) -> Spread:
    """Median, extremes, and the bootstrap interval of the median (percentile method over rounds)."""
    resampled = np.random.default_rng(seed).choice(ratios, size=(draws, len(ratios)))
    low, high = np.quantile(np.median(resampled, axis=1), [0.025, 0.975])
    return Spread(
        float(np.median(ratios)), float(ratios.min()), float(ratios.max()), float(low), float(high), len(ratios)
    )


class Counting(nn.Module):
    """A model that counts the images it is asked for, and those whose gradient is asked for.

    Every library under comparison is given one around a copy of its own, in eval mode: passes are counted at the
    model, not as a library reports them, and no library can alter what another one attacks.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.forwards = self.backwards = 0
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of images (N, C, H, W) in [0, 1]."""
        self.forwards += len(images)
        logits: torch.Tensor = self.model(images)
        if logits.requires_grad:
            count = len(images)
            logits.register_hook(lambda _: self._count_backward(count))
        return logits

    def _count_backward(self, count: int) -> None:
        self.backwards += count

    def passes(self, images: int) -> str:
        """Passes an image since the model was wrapped, as "21.0 + 20.0": forward, backward."""
        return f"{self.forwards / images:.1f} + {self.backwards / images:.1f}"


def factory(spec: str) -> nn.Module:
    """The bare model that FILE.py:FACTORY makes, in eval mode and frozen: no wrapper of atodds around it."""
    file, _, name = spec.rpartition(":")
    path = Path(file)
    found = importlib.util.spec_from_file_location(path.stem, path)
    if not file or found is None or found.loader is None:
        raise SystemExit(f"--model {spec}: write FILE.py:FACTORY")
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    found.loader.exec_module(module)
    made = getattr(module, name)()
    if not isinstance(made, nn.Module):
        raise SystemExit(f"--model {spec}: made a {type(made).__name__}, not a torch module")
    return made.eval().requires_grad_(False)


def options(description: str, limit: int, rounds: int) -> argparse.ArgumentParser:
    """The options that every comparison shares."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", required=True, help="FILE.py:FACTORY")
    parser.add_argument("--limit", type=int, default=limit, help="images")
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch, the same for every contender")
    parser.add_argument("--seed", type=int, default=0, help="seed of every contender")
    return parser


def machine() -> str:
    """One line that says where a number was taken."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator"
    return (
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used, {accelerator}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, {platform.system()}"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned text; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
