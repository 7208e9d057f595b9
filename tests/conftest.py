"""What every test may ask for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from atodds import batching

SHARED = Path(os.environ.get("ATODDS_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and real pretrained networks, where they lie."""
    if not (SHARED / "models" / "zoo.py").is_file():
        pytest.skip(f"no real data at {SHARED}; set ATODDS_SHARED to the folder that holds data/ and models/")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def hasty() -> Iterator[None]:
    """Batch sizes from fewer tries: they change no verdict, and measuring takes longer than most of what is tested.
    tests/test_batching.py has a clock of its own, and all tries."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batching, "TIMED", batching.TIMED / 10)
        patched.setattr(batching, "MOST", batching.MOST // 10)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take more than a few seconds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
