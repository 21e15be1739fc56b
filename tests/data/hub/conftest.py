"""A small set on disk, and a cache of its own for every test."""

from pathlib import Path

import pytest

from tests.data.hub.sets import LIBRISPEECH, librispeech_row, write


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """``data/test-00000-of-00001.parquet`` with ten rows in four row groups."""
    rows = [librispeech_row(number) for number in range(10)]
    write(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", rows, LIBRISPEECH, row_group_size=3)
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIO_LOTTERY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
