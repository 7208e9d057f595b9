"""The lower bounds in a run's folder: one shard a job in `bounds/`, and `bounds/index.json`, which names the jobs."""

import json
import logging
import re
from collections.abc import Iterable

import polars as pl
import pyarrow as pa

from atodds.bounds.schema import SCHEMA
from atodds.errors import CorruptShardError, RunError
from atodds.evaluation.folder import Folder
from atodds.evaluation.shards import Footer, pack, unpack

log = logging.getLogger("atodds")

INDEX = "bounds/index.json"
_FORMAT = 1
_KEY = re.compile(r"[0-9a-f]{32}")


def table(folder: Folder, again: str) -> pl.DataFrame:
    """The lower bounds of a run, columns as in `atodds.bounds.schema.SCHEMA`; empty where it was not asked for any.

    Args:
        folder: of the run.
        again: the command that continues it.

    Raises:
        RunError: jobs are missing.
        CorruptShardError: a shard is not whole.
    """
    tables = [SCHEMA.empty_table()]
    for key in index(folder):
        try:
            tables.append(_shard(folder, key))
        except FileNotFoundError:
            raise RunError(f"{folder.place} has not finished its lower bounds. Continue with: {again}") from None
        except CorruptShardError as error:
            raise CorruptShardError(f"{error} This computes it again: {again}") from error
    frame = pl.from_arrow(pa.concat_tables(tables))
    if not isinstance(frame, pl.DataFrame):
        raise CorruptShardError(f"{folder.place} makes no table of bounds.")
    return frame


def index(folder: Folder) -> tuple[str, ...]:
    """The keys of the jobs that the run was asked for; none where that is lost."""
    try:
        said = json.loads(folder.read(INDEX))
        keys = tuple(said["jobs"])
        if said["format"] != _FORMAT or not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys):
            raise ValueError("not a list of jobs")
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        log.warning("%s is damaged (%s). The same command writes it again.", INDEX, error)
        return ()
    return keys


def ask(folder: Folder, keys: Iterable[str]) -> None:
    """Add jobs to those that the run was asked for."""
    known = index(folder)
    every = (*known, *(key for key in dict.fromkeys(keys) if key not in known))
    folder.write(INDEX, json.dumps({"format": _FORMAT, "jobs": every}, indent=1).encode())


def is_there(folder: Folder, key: str) -> bool:
    """Whether a job is finished. A shard that is not whole is reported and removed."""
    try:
        _shard(folder, key)
    except FileNotFoundError:
        return False
    except CorruptShardError as error:
        log.warning("%s It is computed again.", error)
        folder.remove(_name(key))
        return False
    return True


def put(folder: Folder, rows: pa.Table, footer: Footer) -> None:
    """Keep a job's rows."""
    folder.write(_name(footer.job), pack(rows, footer))


def _shard(folder: Folder, key: str) -> pa.Table:
    found, footer = unpack(folder.read(_name(key)), _name(key), SCHEMA)
    if footer.job != key:
        raise CorruptShardError(f"{_name(key)} holds the results of another job.")
    return found


def _name(key: str) -> str:
    return f"bounds/{key}.parquet"
