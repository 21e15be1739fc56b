"""From emissions to words, the one place: greedy, or prefix beam search with an n-gram language model."""

from pathlib import Path

from audio_lottery.config import DecoderConfig
from audio_lottery.evaluation.decoding.beam import BeamSearch
from audio_lottery.evaluation.decoding.greedy import GreedyDecoder, OwnBeamDecoder
from audio_lottery.evaluation.decoding.hypothesis import NOTHING, Decoder, Hypothesis
from audio_lottery.evaluation.decoding.load import load_search
from audio_lottery.evaluation.decoding.workers import available_cores
from audio_lottery.models.base import Backbone

__all__ = [
    "NOTHING",
    "BeamSearch",
    "Decoder",
    "GreedyDecoder",
    "Hypothesis",
    "OwnBeamDecoder",
    "available_cores",
    "load_search",
    "make_decoder",
]


def make_decoder(config: DecoderConfig, backbone: Backbone, root: Path, *, processes: int | None = None) -> Decoder:
    """The decoder that a configuration names.

    Call it on the main thread: beam search starts its processes here.

    Args:
        config: kind, language model, lexicon and search settings.
        backbone: gives blank, vocabulary and spelling.
        root: folder that relative paths of ``config`` start from.
        processes: processes of beam search, which never lets go of Python's lock; 0 searches in the calling thread.
            None takes the cores that this process of the launch has to itself.

    Raises:
        ConfigError: beam search without the extra ``decode``, a setting out of range, or a file that is not there.
        ModelError: a language model that cannot be read.
        TextError: a lexicon that cannot be read, or words that the model cannot spell.
    """
    if config.kind == "greedy":
        return GreedyDecoder(backbone)
    if backbone.blank is None and config.lm is None and config.lexicon is None:
        return OwnBeamDecoder(backbone, config.beam_size, config.nbest)
    search = load_search(config, backbone, root)
    return search.decoder(available_cores() if processes is None else processes)
