"""Augmentation and test conditions: noise at an exact SNR, reverberation and speed, seeded per utterance."""

from audio_lottery.data.levels import SILENCE_POWER, active_power, centred, is_silent, mean_power
from audio_lottery.data.noise.babble import Babble
from audio_lottery.data.noise.conditions import Condition, make_augmenter, make_condition
from audio_lottery.data.noise.folders import Part, audio_files
from audio_lottery.data.noise.generated import pink_noise, white_noise
from audio_lottery.data.noise.mixing import mix_at_snr, within_full_scale
from audio_lottery.data.noise.parts import check_parts, check_recordings
from audio_lottery.data.noise.rir import GeneratedRirs, RirFolder, get_rir_source, reverberate
from audio_lottery.data.noise.sources import GeneratedNoise, NoiseFolder, NoiseSource, get_noise_source
from audio_lottery.data.noise.speed import change_speed
from audio_lottery.data.noise.suites_spec import parse_suites
from audio_lottery.data.seeds import utterance_rng

__all__ = [
    "SILENCE_POWER",
    "Babble",
    "Condition",
    "GeneratedNoise",
    "GeneratedRirs",
    "NoiseFolder",
    "NoiseSource",
    "Part",
    "RirFolder",
    "active_power",
    "audio_files",
    "centred",
    "change_speed",
    "check_parts",
    "check_recordings",
    "get_noise_source",
    "get_rir_source",
    "is_silent",
    "make_augmenter",
    "make_condition",
    "mean_power",
    "mix_at_snr",
    "parse_suites",
    "pink_noise",
    "reverberate",
    "utterance_rng",
    "white_noise",
    "within_full_scale",
]
