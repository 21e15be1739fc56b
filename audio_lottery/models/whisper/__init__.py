"""Whisper: audio in windows of one length, words from a decoder that writes them one after the other."""

from audio_lottery.models.whisper.backbone import Whisper
from audio_lottery.models.whisper.features import WindowFeatures
from audio_lottery.models.whisper.tokenizer import WhisperVocabulary, byte_tokenizer

__all__ = ["Whisper", "WhisperVocabulary", "WindowFeatures", "byte_tokenizer"]
