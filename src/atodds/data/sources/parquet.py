"""Parquet in the layout of the Hugging Face hub's image data sets.

A column of encoded images, struct{bytes, path} or plain binary, and a column of class indices; class names in the
schema's `huggingface` metadata.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atodds.data.arrays import Integers
from atodds.data.encoded import encoded_set
from atodds.data.images import ImageSet
from atodds.data.paths import belongs, set_name, split_in
from atodds.data.source import Source, no_split
from atodds.data.sources.parquet_schema import Columns, columns_of
from atodds.errors import DataError, EmptyDataError

BATCH = 512
"""Rows in memory together while a row group is read."""

FEW_ROWS = 1_000_000
"""So many rows are believed of any file, however well it compresses: their labels take a few megabytes."""

BROKEN = (pa.ArrowException, OSError, MemoryError)


@dataclass(frozen=True)
class Group:
    """One row group.

    Attributes:
        file, number: where it lies.
        first: its first row, counted over all files.
        first_in_file: the same, counted in its file.
        rows: how many it holds.
    """

    file: int
    number: int
    first: int
    first_in_file: int
    rows: int


@dataclass(frozen=True, eq=False)
class ParquetBlobs:
    """Image bytes in Parquet files, read a row group at a time."""

    files: tuple[str, ...]
    column: str
    nested: bool
    groups: tuple[Group, ...]
    rows: Integers

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Integers) -> "ParquetBlobs":
        """Only these rows."""
        return replace(self, rows=self.rows[rows])

    def read(self, rows: Integers) -> Iterator[tuple[int, bytes]]:
        """(k, bytes) of the k-th of these rows, in the order of the files; stops as soon as the last one was read."""
        wanted = self.rows[rows]
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        for group in self.groups:
            start, stop = np.searchsorted(ascending, [group.first, group.first + group.rows])
            if start < stop:
                yield from self._of_group(group, order[start:stop], ascending[start:stop])

    def title(self, row: int) -> str:
        """The file, and the row in it."""
        whole = int(self.rows[row])
        group = self.groups[bisect_right(self.groups, whole, key=lambda group: group.first) - 1]
        return f"{self.files[group.file]} row {whole - group.first + group.first_in_file}"

    def sample(self, count: int) -> Integers:
        """The first rows, which lie together."""
        return np.arange(min(count, len(self)), dtype=np.int64)

    def _of_group(self, group: Group, order: Integers, ascending: Integers) -> Iterator[tuple[int, bytes]]:
        leaf = f"{self.column}.bytes" if self.nested else self.column
        done, first = 0, group.first
        try:
            with pq.ParquetFile(self.files[group.file]) as file:
                for batch in file.iter_batches(BATCH, row_groups=[group.number], columns=[leaf]):
                    column = batch.column(0)
                    if isinstance(column, pa.StructArray):
                        column = column.field("bytes")
                    while done < len(order) and ascending[done] < first + len(column):
                        yield int(order[done]), column[int(ascending[done]) - first].as_py() or b""
                        done += 1
                    first += len(column)
                    if done == len(order):
                        return
        except BROKEN as problem:
            raise _damaged(self.files[group.file], problem) from None
        raise DataError(
            f"{self.files[group.file]}: row group {group.number} holds fewer rows than the file promises. "
            "Download it again."
        )


def _finds(path: Path) -> bool:
    return bool(_files_in(path)) if path.is_dir() else path.is_file() and path.suffix.lower() == ".parquet"


def _load(path: Path, split: str, size: int | None) -> ImageSet:
    """One file, or those of a split in a folder.

    Raises:
        DataError: no such split, no column of images or labels, or a damaged file.
    """
    if path.is_file():
        return load_files([path], split_in(path.name), size)
    files = _files_in(path)
    told = {file: file.relative_to(path).as_posix() for file in files}
    of_split = [file for file in files if belongs(told[file], split)]
    if of_split:
        return load_files(of_split, split, size)
    present = [found for name in told.values() if (found := split_in(name))]
    if present:
        raise no_split(path, split, present)
    return load_files(files, "", size)


def load_files(files: Sequence[Path], split: str = "", size: int | None = None) -> ImageSet:
    """Shards of one split, in the order of their names.

    Raises:
        EmptyDataError: no row.
        DataError: shards that do not belong together, no column of images or labels, a row without a label, or a
            damaged file.
    """
    shards = sorted(files, key=Path.as_posix)
    columns: Columns | None = None
    groups: list[Group] = []
    labels: list[Integers] = []
    for number, shard in enumerate(shards):
        try:
            with pq.ParquetFile(shard) as file:
                found = columns_of(file.schema_arrow, shard)
                if columns is not None and found != columns:
                    raise DataError(
                        f"{shards[0]} and {shard} differ in their columns or class names. Take shards of one data set."
                    )
                columns = found
                first = sum(len(part) for part in labels)
                groups += _groups(file.metadata, number, first, shard)
                labels.append(_labels(file, found.label, shard))
        except BROKEN as problem:
            raise _damaged(shard, problem) from None
    known = np.concatenate(labels) if labels else np.zeros(0, np.int64)
    if columns is None or len(known) == 0:
        raise EmptyDataError(
            f"{', '.join(str(shard) for shard in shards) or 'no file'}: no row, so nothing to measure."
        )
    names = tuple(str(shard.absolute()) for shard in shards)
    blobs = ParquetBlobs(names, columns.image, columns.nested, tuple(groups), np.arange(len(known), dtype=np.int64))
    return encoded_set(set_name(shards[0]), split, blobs, known, columns.class_names(known, shards[0]), size)


def _files_in(folder: Path) -> list[Path]:
    """The Parquet files in a folder, or else in its folders (data/, test/), or else one below (default/test/)."""
    for depth in ("*.parquet", "*/*.parquet", "*/*/*.parquet"):
        found = [
            path
            for path in sorted(folder.glob(depth), key=Path.as_posix)
            if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ]
        if found:
            return found
    return []


def _groups(metadata: pq.FileMetaData, number: int, first: int, shard: Path) -> list[Group]:
    """The row groups of a file, after its promises were held against its size."""
    if metadata.num_rows > max(shard.stat().st_size, FEW_ROWS):
        raise DataError(f"{shard}: promises {metadata.num_rows} rows, more than it has bytes. Download it again.")
    sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    starts = list(accumulate(sizes, initial=0))[:-1]
    if sum(sizes) != metadata.num_rows or min(sizes, default=0) < 0:
        raise DataError(f"{shard}: its row groups do not add up to its rows. Download it again.")
    return [
        Group(number, k, first + start, start, size) for k, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]


def _labels(file: pq.ParquetFile, column: str, shard: Path) -> Integers:
    values = file.read(columns=[column]).column(0)
    if len(values) != file.metadata.num_rows:
        raise DataError(f"{shard}: {len(values)} labels for {file.metadata.num_rows} rows. Download it again.")
    if values.null_count:
        row = next(row for row, value in enumerate(values) if not value.is_valid)
        raise DataError(f"{shard} row {row}: no label. Remove the rows without one, or take another split.")
    return values.cast(pa.int64()).to_numpy()


def _damaged(shard: Path | str, problem: BaseException) -> DataError:
    return DataError(f"{shard}: cannot be read as Parquet ({' '.join(str(problem).split())[:200]}). Download it again.")


SOURCE = Source("parquet", "Parquet as on the Hugging Face hub: one file, or shards in a folder", _finds, _load)
