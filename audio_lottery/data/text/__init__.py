"""Transcripts: normalisers that make them comparable, and the vocabulary that turns them into CTC labels."""

from audio_lottery.data.text.labels import (
    LabelEncoder,
    check_vocabulary,
    min_ctc_frames,
    out_of_vocabulary,
)
from audio_lottery.data.text.normalize import NORMALIZERS, STEPS, Normalizer, get_normalizer
from audio_lottery.data.text.processor import (
    DEFAULT_CHARACTERS,
    PAD_TOKEN,
    UNKNOWN_TOKEN,
    WORD_DELIMITER,
    build_processor,
)
from audio_lottery.data.text.steps import Step
from audio_lottery.data.text.vocabulary import Vocabulary

__all__ = [
    "DEFAULT_CHARACTERS",
    "NORMALIZERS",
    "PAD_TOKEN",
    "STEPS",
    "UNKNOWN_TOKEN",
    "WORD_DELIMITER",
    "LabelEncoder",
    "Normalizer",
    "Step",
    "Vocabulary",
    "build_processor",
    "check_vocabulary",
    "get_normalizer",
    "min_ctc_frames",
    "out_of_vocabulary",
]
