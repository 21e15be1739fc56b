"""Noise at a stated signal-to-noise ratio, the same for the same utterance in every run, round and process.

Pure numpy. SNR is 10·log10(P_speech / P_noise) with mean powers over the whole utterance, pauses included; that is the
plain definition, not the active-speech level of ITU-T P.56, which reads a few dB higher on speech with long pauses.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from audio_lottery.data.audio import SAMPLE_RATE, probe, read_audio
from audio_lottery.errors import AudioError, ConfigError, CorpusError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".sph"})

# Mean power of -100 dB re full scale, less than dither of one step in 16-bit audio. Not exactly zero: a click of one
# step in a second of digital silence would pass for noise, and be amplified to the level of speech.
SILENCE_POWER = 1e-10

# Silent pieces in a row before a folder is given up; one that is half silence gets there once in four billion times.
MAX_DRAWS = 32


# --- mixing -------------------------------------------------------------------------------------------------------


def mean_power(signal: np.ndarray) -> float:
    """Mean of the squared samples in float64; 0 for no samples."""
    return float(np.mean(np.square(signal, dtype=np.float64))) if signal.size else 0.0


def is_silent(signal: np.ndarray) -> bool:
    """Whether a signal has no usable power (mean below ``SILENCE_POWER``), so that no SNR can be set with it."""
    return mean_power(signal) < SILENCE_POWER


def mix_at_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech with noise added, scaled so that 10·log10(P_speech / P_noise) is ``snr_db`` over the utterance.

    The result is not clipped to ±1: clipping would change the SNR, and models take any amplitude.

    Args:
        speech: ``[samples]``, floating point. Where `is_silent` is true of it there is no level to set the noise
            against, and it comes back unchanged; callers that count such utterances ask `is_silent` first.
        noise: ``[samples]``, the same length.
        snr_db: signal-to-noise ratio in dB.

    Returns:
        float32 array ``[samples]``, always a new one.

    Raises:
        AudioError: the noise is silent.
        ValueError: speech and noise differ in shape.
    """
    if speech.shape != noise.shape:
        raise ValueError(f"speech {speech.shape} and noise {noise.shape} must have the same shape")
    if is_silent(speech):
        return speech.astype(np.float32)
    if is_silent(noise):
        raise AudioError(f"cannot mix at {snr_db:g} dB: the noise is silent; use other noise")
    scale = np.sqrt(mean_power(speech) / mean_power(noise)) * 10.0 ** (-snr_db / 20.0)
    return (speech.astype(np.float64) + scale * noise.astype(np.float64)).astype(np.float32)


def utterance_rng(seed: int, suite: str, utterance_id: str) -> np.random.Generator:
    """The random generator of one utterance in one test suite.

    Seeded by SHA-256 of the three and not by Python's ``hash``, which differs between processes: an utterance meets
    the same noise whatever the order, the batch size, the worker or the round.
    """
    key = json.dumps([seed, suite, utterance_id]).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest(), "big"))


# --- generated noise ----------------------------------------------------------------------------------------------


def white_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian white noise: float32 ``[n]``, expected mean 0 and power 1."""
    return rng.standard_normal(n, dtype=np.float32)


def pink_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Pink noise, power falling as 1/f (-10 dB a decade): float32 ``[n]``, mean 0 and power 1.

    White Gaussian noise shaped in the frequency domain, each bin k divided by √k and the constant removed (Timmer and
    König 1995, "On generating power law noise"). A single sample has no spectrum: it is white.
    """
    if n < 2:
        return white_noise(n, rng)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[0] = 0.0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, n)
    return (noise / np.sqrt(mean_power(noise))).astype(np.float32)


GENERATORS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {"white": white_noise, "pink": pink_noise}
_GENERATED = ", ".join(GENERATORS)


# --- sources ------------------------------------------------------------------------------------------------------


class NoiseSource(Protocol):
    """Where noise comes from. The samples depend on ``n`` and the state of ``rng`` alone."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Noise at 16 kHz that is not silent: float32 ``[n]``."""
        ...


@dataclass(frozen=True, slots=True)
class GeneratedNoise:
    """Noise from a formula.

    Attributes:
        generate: makes ``n`` samples from a generator.
    """

    generate: Callable[[int, np.random.Generator], np.ndarray]

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Noise at 16 kHz: float32 ``[n]``."""
        return self.generate(n, rng)


class NoiseFolder:
    """Noise cut from the recordings in a folder (MUSAN, DEMAND, one's own), every file equally likely.

    Attributes:
        path: the folder.
        files: its audio files at any depth, hidden ones left out, in the order of their relative paths, so that the
            same folder gives the same noise wherever it lies.
    """

    def __init__(self, path: str | Path) -> None:
        """List the folder.

        Raises:
            CorpusError: there is no such folder, or no audio file in it.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise CorpusError(
                f"{self.path}: no such noise folder; give a folder of audio files, or one of: {_GENERATED}"
            )
        self.files = _audio_files(self.path)
        if not self.files:
            raise CorpusError(f"{self.path}: no audio files for noise ({', '.join(sorted(AUDIO_SUFFIXES))}) in it")
        self._samples: dict[Path, int] = {}

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """A piece of a random file from a random place; a file shorter than ``n`` is looped.

        A silent piece (recordings often start with digital zeros) is drawn again, file and place.

        Args:
            n: number of samples at 16 kHz, 1 or more.
            rng: decides the file and the place.

        Returns:
            float32 array ``[n]``.

        Raises:
            AudioError: a file cannot be decoded, or ``MAX_DRAWS`` pieces in a row were silent.
        """
        for _ in range(MAX_DRAWS):
            file = self.files[rng.integers(len(self.files))]
            snippet = self._cut(file, n, rng)
            if not is_silent(snippet):
                return snippet
        raise AudioError(
            f"{self.path}: {MAX_DRAWS} pieces of noise in a row were silent, the last one from {file}; "
            "remove silent files from the folder"
        )

    def _cut(self, file: Path, n: int, rng: np.random.Generator) -> np.ndarray:
        available = self._length(file)
        if available <= n:
            # Looped from a random place, so that a short file does not always start with the same sound.
            whole = read_audio(file, utterance_id="noise", sample_rate=SAMPLE_RATE)
            return np.resize(np.roll(whole, -int(rng.integers(len(whole)))), n)
        first = int(rng.integers(available - n + 1))
        piece = read_audio(
            file, first / SAMPLE_RATE, (first + n) / SAMPLE_RATE, utterance_id="noise", sample_rate=SAMPLE_RATE
        )
        # Resampling may give a sample more or less than asked for.
        return np.resize(piece, n)

    def _length(self, file: Path) -> int:
        """Whole samples at 16 kHz in a file; remembered, because probing an MP3 decodes part of it."""
        if file not in self._samples:
            self._samples[file] = int(probe(file).duration * SAMPLE_RATE)
        return self._samples[file]


def get_noise_source(spec: str) -> NoiseSource:
    """The noise that a setting names: ``white``, ``pink`` or the path of a folder of recordings.

    Raises:
        ConfigError: the setting is empty.
        CorpusError: it is neither a name nor a folder that holds audio.
    """
    if not spec.strip():
        raise ConfigError(f"the noise setting is empty; give a folder of audio files, or one of: {_GENERATED}")
    if spec in GENERATORS:
        return GeneratedNoise(GENERATORS[spec])
    return NoiseFolder(spec)


def _audio_files(folder: Path) -> list[Path]:
    """Audio files at any depth, without hidden ones (macOS leaves ``._name.wav`` beside ``name.wav``)."""
    files = [
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in AUDIO_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    return sorted(files, key=lambda file: file.relative_to(folder).as_posix())
