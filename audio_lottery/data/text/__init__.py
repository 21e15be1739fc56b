"""Transcripts: normalisers that make them comparable, and what a vocabulary is."""

from audio_lottery.data.text.normalize import NORMALIZERS, STEPS, Normalizer, get_normalizer
from audio_lottery.data.text.steps import Step
from audio_lottery.data.text.vocabulary import Vocabulary, check_vocabulary, out_of_vocabulary

__all__ = [
    "NORMALIZERS",
    "STEPS",
    "Normalizer",
    "Step",
    "Vocabulary",
    "check_vocabulary",
    "get_normalizer",
    "out_of_vocabulary",
]
