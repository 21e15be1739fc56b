"""Reverberation: room impulse responses (RIRs) from files, or generated."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from scipy.signal import oaconvolve

from audio_lottery.data.audio import SAMPLE_RATE, read_channels
from audio_lottery.data.levels import active_power, mean_power, without_offset
from audio_lottery.data.noise.folders import Part, audio_files
from audio_lottery.data.resample import resample
from audio_lottery.errors import AudioError, ConfigError, CorpusError

GENERATED = "generated"

T60_SECONDS = (0.2, 0.8)
DIRECT_TO_REVERBERANT_DB = (0.0, 10.0)

# A peak below one step of 16-bit audio is not an impulse response.
_LOWEST_PEAK = 2.0**-15


def reverberate(speech: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """Speech in a room, at the active level of the dry speech, in time with it and as long as it.

    The direct path is taken to be the largest magnitude of the response (as Kaldi's ``wav-reverberate`` does); the
    delay before it is removed, so that word times stay true. The tail after the last sample is cut. A constant offset
    of the speech, which comes from the recorder and not from the room, is taken out first.

    Args:
        speech: ``[samples]``, neither silent nor constant.
        rir: ``[taps]`` at the same rate.

    Returns:
        float32 array ``[samples]``; a peak above 1 is left as it is.
    """
    speech = without_offset(speech)
    direct = int(np.argmax(np.abs(rir)))
    wet = oaconvolve(speech, rir / np.abs(rir[direct]))[direct : direct + len(speech)]
    return (wet * np.sqrt(active_power(speech) / active_power(wet))).astype(np.float32)


class RirSource(Protocol):
    """Where impulse responses come from."""

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """An impulse response at 16 kHz: float32 ``[taps]``."""
        ...


@dataclass(frozen=True, slots=True)
class GeneratedRirs:
    """Impulse responses from a formula: a direct path of 1, then white Gaussian noise that decays exponentially.

    The statistical model of a diffuse field (Polack 1988, "La transmission de l'énergie sonore dans les salles"). T60,
    the time in which it falls by 60 dB, is drawn from 0.2-0.8 s, and the direct-to-reverberant ratio from 0-10 dB.
    It has no early reflections; use measured or simulated responses for results that stand for real rooms.
    """

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """An impulse response at 16 kHz: float32 ``[T60]``."""
        t60 = rng.uniform(*T60_SECONDS)
        ratio_db = rng.uniform(*DIRECT_TO_REVERBERANT_DB)
        taps = int(t60 * SAMPLE_RATE)
        tail = rng.standard_normal(taps - 1) * 10.0 ** (-3.0 * np.arange(1, taps) / taps)
        tail *= np.sqrt(10.0 ** (-ratio_db / 10.0) / (mean_power(tail) * len(tail)))
        return np.concatenate([[1.0], tail]).astype(np.float32)


class RirFolder:
    """The impulse responses in a folder, every file equally likely.

    Attributes:
        path: the folder.
        files: the files of the part that was asked for, see `audio_files`.
    """

    def __init__(self, path: str | Path, part: Part = "all") -> None:
        """List the folder.

        Raises:
            CorpusError: there is no such folder, or no audio file in that part of it.
        """
        self.path = Path(path)
        self.files = audio_files(self.path, part, "RIR")

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """An impulse response at 16 kHz: float32 ``[taps]``.

        Raises:
            AudioError: the file cannot be decoded, or holds no response, see `read_rir`.
        """
        return read_rir(self.files[rng.integers(len(self.files))])

    def check(self) -> None:
        """Read every file once, so that one that is of no use is found before it is drawn.

        Raises:
            AudioError: as `sample` does.
        """
        for file in self.files:
            _read_rir(file)


@lru_cache(maxsize=256)
def read_rir(path: Path) -> np.ndarray:
    """The first channel of an impulse response, resampled to 16 kHz: float32 ``[taps]``, not to be written to.

    Not the mean of the channels, as for speech: the direct path reaches microphones at different times, and their
    mean is a comb filter.

    Raises:
        AudioError: the file cannot be decoded, holds NaN or infinite samples, or is silent or constant.
    """
    rir = _read_rir(path)
    rir.flags.writeable = False
    return rir


def _read_rir(path: Path) -> np.ndarray:
    samples, rate = read_channels(path)
    rir = samples[:, 0]
    if not np.isfinite(rir).all():
        raise AudioError(f"{path}: the impulse response holds NaN or infinite samples; remove it or convert it again")
    if np.abs(rir).max() < _LOWEST_PEAK:
        raise AudioError(f"{path}: the impulse response is silent; remove it")
    if len(rir) > 1 and rir.min() == rir.max():
        raise AudioError(f"{path}: the impulse response is constant; remove it")
    return np.array(resample(rir, rate, SAMPLE_RATE))


def get_rir_source(spec: str, root: Path = Path(), part: Part = "all") -> RirSource:
    """The impulse responses that a setting names: ``generated``, or the path of a folder.

    Raises:
        ConfigError: the setting is empty.
        CorpusError: it is neither, or that part of the folder holds no audio.
    """
    if not spec.strip():
        raise ConfigError(f"the RIR setting is empty; give a folder of impulse responses, or {GENERATED}")
    if spec == GENERATED:
        return GeneratedRirs()
    folder = root / Path(spec).expanduser()
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such RIR folder; give a folder of impulse responses, or {GENERATED}")
    return RirFolder(folder, part)
