"""Recordings in blocks: the samples of the whole, and the same refusals."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audio_lottery.data.audio import read_audio, read_blocks
from audio_lottery.errors import AudioError
from tests.data.test_audio import FORMATS, cut, speechlike


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (8_000, 2), (48_000, 1)])
def test_blocks_are_the_whole(tmp_path: Path, ending: str, rate: int, channels: int) -> None:
    samples = np.stack([speechlike(2.3, rate, seed) for seed in range(channels)], axis=1)
    path = tmp_path / f"speech.{ending}"
    sf.write(path, samples, rate, **FORMATS[ending])
    blocks = list(read_blocks(path, 0.5))
    assert len(blocks) > 4
    # mpg123 rounds in another way behind a seek
    np.testing.assert_allclose(np.concatenate(blocks), read_audio(path), rtol=0, atol=1e-6 if ending == "mp3" else 0)


@pytest.mark.parametrize("rate", [11_025, 44_100, 192_000])
def test_of_many_channels_and_any_rate(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "eight.wav"
    sf.write(path, np.stack([speechlike(0.7, rate, seed) for seed in range(8)], axis=1), rate)
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, 0.1))), read_audio(path))


def test_what_is_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "nothing.wav", np.zeros(0), 16_000)
    sf.write(tmp_path / "nan.wav", np.array([0.0] * 9_000 + [np.nan]), 16_000, subtype="FLOAT")
    sf.write(tmp_path / "short.flac", speechlike(), 16_000)
    cut(tmp_path / "short.flac", 0.5)  # makes cut.flac
    for name, message in (
        ("nothing.wav", r"nothing\.wav: holds no audio \(zero frames\)"),
        ("nan.wav", r"nan\.wav: holds NaN or infinite samples"),
        ("cut.flac", r"cut\.flac: "),
        ("gone.wav", r"gone\.wav: no such audio file"),
    ):
        with pytest.raises(AudioError, match=message):
            list(read_blocks(tmp_path / name, 0.5))
