"""Sizes of a CNN-LSTM, as a transformers configuration."""

from transformers import PretrainedConfig


class CnnLstmConfig(PretrainedConfig):
    """Two convolutions over a log spectrogram, bidirectional LSTM layers, one linear output layer.

    The defaults are Deep Speech 2 (Amodei et al. 2016, arXiv:1512.02595) as the published study of winning tickets in
    speech used it: 86,618,429 parameters with 29 outputs.

    Attributes:
        vocab_size: outputs, the blank among them.
        num_frequency_bins: bins of the spectrogram.
        conv_channels: channels of both convolutions.
        hidden_size: of an LSTM direction; the two directions are summed.
        num_hidden_layers: LSTM layers.
        hidden_dropout: dropout on what enters an LSTM layer, but the first.
        pad_token_id: the CTC blank.
    """

    model_type = "cnn_lstm_ctc"

    vocab_size: int = 29
    num_frequency_bins: int = 161
    conv_channels: int = 32
    hidden_size: int = 1024
    num_hidden_layers: int = 5
    hidden_dropout: float = 0.0
    pad_token_id: int | None = 0
