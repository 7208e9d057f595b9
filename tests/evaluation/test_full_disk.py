"""A full disk ends a run with a clear error, and the run continues when there is room."""

import subprocess
import sys
from pathlib import Path

import pytest

FULL = """
import logging, os, subprocess, sys
from pathlib import Path
import torch
import atodds
from atodds.errors import StoreFullError
from atodds.evaluation.store import Store

class Net(torch.nn.Linear):
    def forward(self, images):
        return super().forward(images.flatten(1))

images, net = atodds.data.load("digits", limit=40), Net(64, 10).double()
torch.nn.init.orthogonal_(net.weight, generator=torch.Generator().manual_seed(0))
torch.nn.init.zeros_(net.bias)

def run(place):
    return atodds.evaluate(
        net, images, eps="0:0.2:0.04", attacks="fgsm,pgd(steps=5)", out=place, batch_size=8, chunk=10, keep=True
    )

def shards(place):
    return {path.name: path.stat().st_mtime_ns for path in Path(place).glob("jobs/*")}

def mount(*words):
    subprocess.run(["mount", *words], check=True)

disk, expected = sys.argv[1], run(sys.argv[2])
kept = []
for size in ("4k", "100k", "250k"):
    mount("-t", "tmpfs", "-o", f"size={size}", "none", disk)
    place = f"{disk}/run"
    for attempt in range(2):
        try:
            run(place)
        except StoreFullError as error:
            print(error)
        else:
            sys.exit(f"{size} was enough")
        assert not any(path.name.startswith(".") for path in Path(disk).rglob("*")), "halves of files were left"
    before = shards(place)
    if before:
        assert not Store.open(place).complete
    mount("-o", "remount,size=64m", disk)
    again = run(place)
    after = shards(place)
    assert again.table.equals(expected.table), "another table"
    assert again.audit == expected.audit
    assert sorted(after) == sorted(shards(sys.argv[2]))
    whole = [name for name in before if after[name] == before[name]]
    assert len(before) - len(whole) <= 1, "finished work was done again"  # pictures whose verdicts found no room
    kept.append(len(whole))
    subprocess.run(["umount", disk], check=True)
assert kept[0] == 0 < kept[1] < kept[2], kept
print("continued")
"""


def _mounts(way: list[str], place: Path) -> bool:
    try:
        return subprocess.run([*way, "mount", "-t", "tmpfs", "none", place], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def test_a_full_disk_is_told_and_the_run_continues_when_there_is_room(tmp_path: Path) -> None:
    disk, room = tmp_path / "disk", tmp_path / "room"
    disk.mkdir()
    ways = (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"])
    way = next((way for way in ways if _mounts(way, disk)), None)
    if way is None:
        pytest.skip("no leave to mount a small disk, neither as root nor in a namespace of users")
    done = subprocess.run(
        [*way, sys.executable, "-c", FULL, disk, room], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    *told, last = done.stdout.splitlines()
    assert last == "continued"
    assert len(told) == 6
    for message in told:
        assert message.startswith("No room left for ")
        assert f"in {disk}/run (" in message
        assert message.endswith("Make room, then give the same command again: it continues where it stopped.")
