"""How a result was made: versions, commit, machine."""

import datetime
import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

from atodds.version import __version__

_PACKAGES = ("torch", "numpy", "pyarrow")


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    others = ((package, importlib.metadata.version(package)) for package in _PACKAGES)
    return (("atodds", __version__), ("python", platform.python_version()), *others)


def versions() -> dict[str, str]:
    """The packages that decide numbers, and what they are here."""
    return dict(_versions())


def commit() -> str:
    """The commit of the source tree that this package runs from, with "+" where it was changed since; "" where it is
    installed without one."""
    here = Path(__file__).resolve().parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        inside = _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        return head + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "") if inside else ""
    except (OSError, subprocess.SubprocessError):
        return ""


def machine(device: torch.device) -> dict[str, str]:
    """The machine, as far as it decides time: device, processor, cores, system."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "device": str(device),
        "processor": name,
        "cores": str(cores),
        "system": f"{platform.system()} {platform.machine()}",
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    if about.is_file():
        for line in about.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
