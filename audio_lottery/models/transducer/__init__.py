"""Transducers: the third backbone of the published study, which transformers has no LSTM model for."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForRNNT

from audio_lottery.models.transducer.backbone import Transducer, TransducerBackbone
from audio_lottery.models.transducer.configuration import TransducerConfig
from audio_lottery.models.transducer.features import LogMelFeatureExtractor
from audio_lottery.models.transducer.modeling import TransducerForRNNT

__all__ = [
    "LogMelFeatureExtractor",
    "Transducer",
    "TransducerBackbone",
    "TransducerConfig",
    "TransducerForRNNT",
]

# transformers' Auto classes know the family wherever `audio_lottery.models` was imported
AutoConfig.register(TransducerConfig.model_type, TransducerConfig)
AutoModelForRNNT.register(TransducerConfig, TransducerForRNNT)
AutoFeatureExtractor.register(TransducerConfig, LogMelFeatureExtractor)
