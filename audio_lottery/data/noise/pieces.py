"""Pieces of recordings."""

from pathlib import Path

import numpy as np

from audio_lottery.data.audio import SAMPLE_RATE, read_audio

# Silent pieces in a row before a source is given up; one that is half silence gets there once in four billion times.
MAX_DRAWS = 32


def cut(path: str | Path, start: float, end: float, n: int, rng: np.random.Generator, utterance_id: str) -> np.ndarray:
    """A piece from a random place between ``start`` and ``end`` of a file; what is shorter than ``n`` is looped.

    Args:
        path: the audio file.
        start: in seconds.
        end: in seconds.
        n: number of samples at 16 kHz, 1 or more.
        rng: decides the place.
        utterance_id: named in messages.

    Returns:
        float32 array ``[n]``.

    Raises:
        AudioError: the file cannot be decoded.
    """
    available = int((end - start) * SAMPLE_RATE)
    if available <= n:
        # Looped from a random place, so that a short file does not always start with the same sound.
        whole = read_audio(path, start, end, utterance_id=utterance_id)
        return np.resize(np.roll(whole, -int(rng.integers(len(whole)))), n)
    first = start + int(rng.integers(available - n + 1)) / SAMPLE_RATE
    piece = read_audio(path, first, min(first + n / SAMPLE_RATE, end), utterance_id=utterance_id)
    # Resampling may give a sample more or less than asked for.
    return np.resize(piece, n)
