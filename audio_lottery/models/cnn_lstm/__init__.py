"""CNN-LSTM-CTC, the backbone of the published study that transformers does not have."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForCTC

from audio_lottery.models.cnn_lstm.backbone import CnnLstm
from audio_lottery.models.cnn_lstm.configuration import CnnLstmConfig
from audio_lottery.models.cnn_lstm.features import LogSpectrogramFeatureExtractor
from audio_lottery.models.cnn_lstm.modeling import CnnLstmForCTC

__all__ = ["CnnLstm", "CnnLstmConfig", "CnnLstmForCTC", "LogSpectrogramFeatureExtractor"]

# transformers' Auto classes know the family wherever `audio_lottery.models` was imported
AutoConfig.register(CnnLstmConfig.model_type, CnnLstmConfig)
AutoModelForCTC.register(CnnLstmConfig, CnnLstmForCTC)
AutoFeatureExtractor.register(CnnLstmConfig, LogSpectrogramFeatureExtractor)
