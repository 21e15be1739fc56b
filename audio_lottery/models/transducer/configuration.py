"""Sizes of an LSTM transducer, as a transformers configuration."""

from transformers import PretrainedConfig


class TransducerConfig(PretrainedConfig):
    """LSTM layers over log-mel features that lower the rate, an LSTM over the labels, and a joint network.

    The defaults are a model of about 130 M parameters.

    Attributes:
        vocab_size: outputs, the blank among them.
        num_mel_bins: bins of a feature frame.
        hidden_size: of an encoder LSTM; two directions are summed.
        num_hidden_layers: encoder layers.
        time_reduction: how many frames each of the first layers takes as one; the other layers take them singly.
        bidirectional: whether the encoder reads an utterance from both ends, which excludes streaming.
        hidden_dropout: dropout behind every encoder layer.
        decoder_hidden_size: of the prediction network and the joint network.
        num_decoder_layers: LSTM layers of the prediction network.
        hidden_act: of the joint network.
        max_symbols_per_step: most labels that are written at one frame.
        joint_cells: most numbers (frames × labels × outputs) that the joint network computes at once in training. More
            are computed in pieces of whole utterances, and again in the backward pass; 1: every utterance by itself.
        blank_token_id: the label that moves on to the next frame.
        pad_token_id: the same, for tokenizers.
    """

    model_type = "lstm_transducer"

    vocab_size: int = 29
    num_mel_bins: int = 80
    hidden_size: int = 1024
    num_hidden_layers: int = 7
    time_reduction: list[int] | tuple[int, ...] = (3, 2)
    bidirectional: bool = True
    hidden_dropout: float = 0.0
    decoder_hidden_size: int = 1024
    num_decoder_layers: int = 1
    hidden_act: str = "tanh"
    max_symbols_per_step: int = 10
    joint_cells: int = 2**25
    blank_token_id: int = 0
    pad_token_id: int | None = 0
