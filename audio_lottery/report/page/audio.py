"""Utterances as ``data:`` addresses, within a budget of bytes."""

import base64
import io
import re
from collections.abc import Collection, Iterable
from pathlib import Path

import datasets
import numpy as np
import soundfile

from audio_lottery.data.audio import SAMPLE_RATE, read_audio
from audio_lottery.data.manifest import Utterance, iterate
from audio_lottery.errors import AudioError

# Lossless where it is small, and Opus where it is not: every browser plays the first, all present ones the second.
_FORMATS = (("audio/flac", "FLAC", "PCM_16"), ("audio/ogg", "OGG", "OPUS"))


def find_utterances(folder: Path, ids: Collection[str]) -> dict[str, Utterance]:
    """The rows of a run's test manifest by id; nothing where the manifest is not there."""
    if not folder.is_dir():
        return {}
    wanted = set(ids)
    return {row.id: row for row in iterate(datasets.load_from_disk(str(folder))) if row.id in wanted}


def encode(rows: Iterable[tuple[str, Utterance | None]], budget: int) -> dict[str, tuple[str, str]]:
    """Audio of utterances in order, until the budget is spent.

    Args:
        rows: id and its row of the manifest, most important first.
        budget: bytes of all addresses together, base64 included.

    Returns:
        id → (``data:`` address, or empty; why it is empty, or what is heard).
    """
    rows = list(rows)
    share, left = budget // max(len(rows), 1), budget
    found = {}
    for utterance_id, row in rows:
        if row is None:
            found[utterance_id] = ("", "audio: not in the run's manifest")
            continue
        try:
            samples = read_audio(row.audio, row.start, row.end)
        except AudioError as error:
            # The page may leave the machine: a reason, without the place where the corpus lies.
            reason = re.sub(r"\S*/\S*", "the file", str(error))
            found[utterance_id] = ("", f"audio left out: {reason}")
            continue
        address = _address(samples, share, left)
        left -= len(address)
        found[utterance_id] = (address, "" if address else "audio left out: the page would grow too large")
    return found


def _address(samples: np.ndarray, share: int, left: int) -> str:
    """The first format that keeps to its share, the last where it fits into what is left; else nothing."""
    address = ""
    for media_type, container, codec in _FORMATS:
        buffer = io.BytesIO()
        soundfile.write(buffer, np.clip(samples, -1, 1), SAMPLE_RATE, format=container, subtype=codec)
        address = f"data:{media_type};base64,{base64.b64encode(buffer.getvalue()).decode()}"
        if len(address) <= min(share, left):
            return address
    return address if len(address) <= left else ""
