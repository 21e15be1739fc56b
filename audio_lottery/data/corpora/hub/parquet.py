"""Parquet files row by row, from disk or from the Hub; only the columns asked for are fetched.

Not through ``load_dataset(streaming=True)``: it reads ahead 32 MiB and more in threads of Arrow's, and a process that
ends while they run (after a small ``limit``, say) is aborted with "PyGILState_Release", its work done (apache/arrow
issue 45214, huggingface/datasets issue 7357; seen with pyarrow 26.0.1 and datasets 5.2). It also fetches every row
that it skips, where a row group that is skipped here costs nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from audio_lottery.data.corpora.hub.source import HubSplit, one_line

# Bytes of a column fetched at a time. A row group of a speech set may hold hundreds of megabytes.
_BUFFER = 4 << 20
_BATCH = 16  # rows turned into Python objects at a time


def read_columns(split: HubSplit, file: str) -> list[str]:
    """The names of the columns of a parquet file.

    Raises:
        CorpusError: the file cannot be read.
    """
    with one_line(split), _open(file) as parquet:
        names: list[str] = parquet.schema_arrow.names
        return names


def iterate_rows(split: HubSplit, files: list[str], columns: list[str], skip: int = 0) -> Iterator[dict[str, Any]]:
    """The rows of some files one after another, without the first ``skip``; memory holds a batch of them.

    Raises:
        CorpusError: a file cannot be read, lacks a column, or the connection broke.
    """
    rows = _rows(files, columns, skip)
    while True:
        with one_line(split):
            row = next(rows, None)
        if row is None:
            return
        yield row


def _rows(files: list[str], columns: list[str], skip: int) -> Iterator[dict[str, Any]]:
    for file in files:
        with _open(file) as parquet:
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                if skip >= size:
                    skip -= size
                    continue
                for batch in parquet.iter_batches(_BATCH, row_groups=[group], columns=columns, use_threads=False):
                    rest = batch.slice(skip)
                    skip -= batch.num_rows - rest.num_rows
                    yield from rest.to_pylist()


@contextmanager
def _open(file: str) -> Iterator[pq.ParquetFile]:
    with fsspec.open(file, "rb") as handle, pq.ParquetFile(handle, buffer_size=_BUFFER, pre_buffer=False) as parquet:
        yield parquet
