"""Parquet speech sets in the shapes of the Hub."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
from datasets import Audio, Features, Value

from audio_lottery.config import CorpusConfig

RATE = 16_000


def encoded(seconds: float = 0.2, seed: int = 0, ending: str = "FLAC", rate: int = RATE) -> bytes:
    file = io.BytesIO()
    sf.write(file, np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate)), rate, format=ending)
    return file.getvalue()


def librispeech_row(number: int, **other: Any) -> dict[str, Any]:
    name = f"84-121-{number:04d}"
    audio = {"bytes": encoded(0.1 * (1 + number % 5), number), "path": f"{name}.flac"}
    row = {"file": f"{name}.flac", "audio": audio, "text": f"WORD {number}", "speaker_id": 84 + number % 2}
    return row | {"chapter_id": 121, "id": name} | other


LIBRISPEECH = Features(
    file=Value("string"),
    audio=Audio(RATE),
    text=Value("string"),
    speaker_id=Value("int64"),
    chapter_id=Value("int64"),
    id=Value("string"),
)
ESB = Features(
    audio=Audio(RATE),
    dataset=Value("string"),
    text=Value("string"),
    id=Value("string"),
    audio_length_s=Value("float64"),
)


def write(path: Path, rows: list[dict[str, Any]], features: Features | None = None, **options: Any) -> Path:
    """A parquet file as ``Dataset.push_to_hub`` writes one: with ``features``, in its schema's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema if features else None)
    pq.write_table(table, path, **options)
    return path


def hub(path: Path | str, split: str = "test", **other: Any) -> CorpusConfig:
    return CorpusConfig(corpus="hub", path=str(path), split=split, **other)
