"""What happens to an utterance in training and in a test suite: one code for both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from audio_lottery.config import AugmentConfig, SuiteConfig
from audio_lottery.data.batching import AudioTransform
from audio_lottery.data.levels import centred, is_silent
from audio_lottery.data.noise.mixing import mix_at_amplitude, mix_at_snr, within_full_scale
from audio_lottery.data.noise.rir import RirSource, get_rir_source, reverberate
from audio_lottery.data.noise.sources import NoiseSource, get_noise_source
from audio_lottery.data.noise.speed import change_speed
from audio_lottery.data.seeds import utterance_rng
from audio_lottery.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Condition:
    """Speed, then reverberation, then noise; an `AudioTransform`.

    Every draw depends on (seed, name, utterance id) alone, and on the epoch where ``every_epoch`` is set; each of the
    three steps has a generator of its own, so that switching one off leaves the others as they were. A digitally silent
    or constant utterance has no level and stays as it is. The result is within ±1 wherever something was changed.

    Attributes:
        name: the suite's name; seeds the draws.
        seed: seeds the draws.
        every_epoch: whether draws differ between epochs.
        speeds: factors, one is drawn.
        rirs: impulse responses; None for none.
        rir_prob: share of utterances that are reverberated.
        noises: sources, one is drawn; none for no noise.
        noise_prob: share of utterances that noise is added to.
        snr_db: lowest and highest SNR, drawn uniformly; active speech level (after reverberation) minus noise level.
        amplitude: instead of snr_db, lowest and highest factor of the noise as it is recorded, drawn uniformly.
    """

    name: str
    seed: int
    every_epoch: bool = False
    speeds: tuple[float, ...] = (1.0,)
    rirs: RirSource | None = None
    rir_prob: float = 1.0
    noises: tuple[NoiseSource, ...] = ()
    noise_prob: float = 1.0
    snr_db: tuple[float, float] = (0.0, 0.0)
    amplitude: tuple[float, float] | None = None

    def __call__(self, samples: np.ndarray, row: Mapping[str, Any], epoch: int) -> np.ndarray:
        """The utterance under this condition.

        Args:
            samples: ``[samples]`` at 16 kHz.
            row: of the manifest; ``id``, and ``speaker`` for babble.
            epoch: of the training.

        Returns:
            float32 array; of another length only where the speed is changed.

        Raises:
            AudioError: a noise or RIR file is silent or cannot be decoded.
        """
        if is_silent(centred(samples)):
            return samples
        rng = self._rng("speed", row, epoch)
        speech = change_speed(samples, self.speeds[rng.integers(len(self.speeds))]) if self._changes_speed else samples
        if self.rirs is not None:
            rng = self._rng("rir", row, epoch)
            if rng.random() < self.rir_prob:
                speech = reverberate(speech, self.rirs.sample(rng))
        if self.noises:
            rng = self._rng("noise", row, epoch)
            if rng.random() < self.noise_prob:
                source = self.noises[rng.integers(len(self.noises))]
                mix, levels = (mix_at_amplitude, self.amplitude) if self.amplitude else (mix_at_snr, self.snr_db)
                level = rng.uniform(*levels)
                speech = mix(speech, source.sample(len(speech), rng, row.get("speaker")), level)
        return samples if speech is samples else within_full_scale(speech)

    @property
    def _changes_speed(self) -> bool:
        return self.speeds != (1.0,)

    def _rng(self, step: str, row: Mapping[str, Any], epoch: int) -> np.random.Generator:
        # A suite's name has no slash, so that no other suite draws the same.
        return utterance_rng(self.seed, f"{self.name}/{step}", row["id"], epoch if self.every_epoch else None)


def make_augmenter(config: AugmentConfig, root: Path, seed: int, manifest: Dataset) -> AudioTransform | None:
    """What training does to its speech; drawn anew in every epoch from (seed, epoch, utterance id).

    Args:
        config: the settings.
        root: folder that relative noise and RIR folders start from.
        seed: of the training.
        manifest: the training set; babble is made of it.

    Returns:
        The transform; None where the settings change nothing.

    Raises:
        ConfigError: a noise or RIR setting is empty.
        CorpusError: a folder is missing or holds nothing of the part, or babble finds too few speakers.
    """
    with_noise = bool(config.noise) and config.noise_prob > 0
    with_rir = config.rirs is not None and config.rir_prob > 0
    speeds = tuple(config.speeds)
    if not (with_noise or with_rir or set(speeds) - {1.0}):
        return None
    part = config.noise_part
    return Condition(
        name="augment",
        seed=seed,
        every_epoch=True,
        speeds=speeds,
        rirs=get_rir_source(config.rirs, root, part) if config.rirs is not None and with_rir else None,
        rir_prob=config.rir_prob,
        noises=tuple(get_noise_source(noise, root, part, manifest) for noise in config.noise) if with_noise else (),
        noise_prob=config.noise_prob,
        snr_db=(config.snr_db[0], config.snr_db[1]),
        amplitude=(config.noise_amplitude[0], config.noise_amplitude[1]) if config.noise_amplitude else None,
    )


def make_condition(suite: SuiteConfig, root: Path, seed: int, manifest: Dataset) -> AudioTransform | None:
    """What a test suite does to speech; drawn from (seed, suite name, utterance id) alone.

    Args:
        suite: the settings.
        root: folder that relative noise and RIR folders start from.
        seed: of the evaluation.
        manifest: the test set; babble is made of it.

    Returns:
        The transform; None for a clean suite.

    Raises:
        ConfigError: noise without SNR or SNR without noise, or a setting is empty.
        CorpusError: a folder is missing or holds nothing of the part, or babble finds too few speakers.
    """
    if (suite.noise is None) != (suite.snr_db is None):
        raise ConfigError(f"evaluation suite '{suite.name}': noise and snr_db go together")
    if suite.noise is None and suite.rir is None:
        return None
    noise = None if suite.noise is None else get_noise_source(suite.noise, root, suite.noise_part, manifest)
    snr_db = 0.0 if suite.snr_db is None else suite.snr_db
    return Condition(
        name=suite.name,
        seed=seed,
        rirs=None if suite.rir is None else get_rir_source(suite.rir, root, suite.noise_part),
        noises=() if noise is None else (noise,),
        snr_db=(snr_db, snr_db),
    )
