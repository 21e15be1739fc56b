"""A CNN-LSTM for CTC: Deep Speech 2's bidirectional model (Amodei et al. 2016, arXiv:1512.02595)."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from audio_lottery.models.batch_norm import batch_norm
from audio_lottery.models.cnn_lstm.configuration import CnnLstmConfig
from audio_lottery.models.initialise import draw_weights
from audio_lottery.models.loss import ctc_loss

# (frequency, time) of the two convolutions
_KERNELS = ((41, 11), (21, 11))
_STRIDES = ((2, 2), (2, 1))


class BidirectionalLstm(nn.Module):
    """A bidirectional LSTM layer whose directions are summed.

    Two layers of one direction, the second on reversed utterances: equal to a packed bidirectional LSTM, whose backward
    pass is six to eight times slower on a CPU.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.forward_lstm = nn.LSTM(inputs, hidden, batch_first=True)
        self.backward_lstm = nn.LSTM(inputs, hidden, batch_first=True)

    def forward(self, x: Tensor, backwards: Tensor) -> Tensor:
        """[batch, frames, inputs] → [batch, frames, hidden].

        Args:
            x: one utterance a row.
            backwards: [batch, frames], index of the frame that comes at this place when an utterance is reversed.
        """
        return self.forward_lstm(x)[0] + _take(self.backward_lstm(_take(x, backwards))[0], backwards)


def _take(x: Tensor, frames: Tensor) -> Tensor:
    return x.gather(1, frames.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def reversal(frames: Tensor, longest: int) -> Tensor:
    """[batch, longest] indices that reverse the first ``frames`` entries of every row and leave the rest."""
    steps = torch.arange(longest, device=frames.device)
    last = frames[:, None] - 1
    return torch.where(steps <= last, last - steps, steps)


class CnnLstmPreTrainedModel(PreTrainedModel):
    """Loading and saving."""

    config_class = CnnLstmConfig
    base_model_prefix = ""
    main_input_name = "input_features"
    supports_gradient_checkpointing = False

    def _get_subsampling_output_length(self, input_lengths: Tensor) -> Tensor:
        """Frames behind the convolutions, which halve the rate; named as transformers names it."""
        return torch.div(input_lengths - 1, 2, rounding_mode="floor") + 1

    def _init_weights(self, module: nn.Module) -> None:
        draw_weights(module)


class CnnLstmForCTC(CnnLstmPreTrainedModel):
    """Log spectrogram → logits [batch, frames / 2, outputs]. Padding changes nothing: it counts in no batch norm and
    reaches no valid frame."""

    def __init__(self, config: CnnLstmConfig) -> None:
        super().__init__(config)
        channels, hidden = config.conv_channels, config.hidden_size
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, channels, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2))
            for inputs, kernel, stride in zip((1, channels), _KERNELS, _STRIDES, strict=True)
        )
        self.conv_norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in _KERNELS)
        bins = config.num_frequency_bins
        for _ in _KERNELS:
            bins = (bins - 1) // 2 + 1
        sizes = [bins * channels] + [hidden] * (config.num_hidden_layers - 1)
        self.lstms = nn.ModuleList(BidirectionalLstm(size, hidden) for size in sizes)
        # between the layers, and before the output layer
        self.lstm_norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in sizes)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.lm_head = nn.Linear(hidden, config.vocab_size)
        self.post_init()

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> CausalLMOutput:
        """Logits, and with ``labels`` the mean CTC loss per label.

        Args:
            input_features: [batch, frames, bins].
            attention_mask: [batch, frames], 1 for valid frames; None: all are.
            labels: [batch, labels], padded with -100.
            return_dict: accepted, as everywhere in transformers; the output is always an object.
            options: accepted by other models and meaningless here.
        """
        batch, longest, _ = input_features.shape
        full = torch.full((batch,), longest, device=input_features.device)
        lengths = full if attention_mask is None else attention_mask.sum(-1)
        frames = self._get_subsampling_output_length(lengths)
        x = input_features.transpose(1, 2).unsqueeze(1)  # [batch, 1, bins, frames]
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            x = conv(x)
            valid = torch.arange(x.shape[-1], device=x.device) < frames[:, None]
            x = nn.functional.hardtanh(batch_norm(norm, x, frames), 0.0, 20.0)
            x = x * valid[:, None, None, :]
        x = x.flatten(1, 2).transpose(1, 2)  # [batch, frames, channels · bins]
        backwards = reversal(frames, x.shape[1])
        for lstm, norm in zip(self.lstms, self.lstm_norms, strict=True):
            x = lstm(x, backwards)
            x = batch_norm(norm, x.transpose(1, 2), frames).transpose(1, 2)
            x = self.dropout(x)
        logits = self.lm_head(x)
        loss = None
        if labels is not None:
            targets = [row[row >= 0] for row in labels.cpu()]
            losses = ctc_loss(logits, frames, targets, self.config.pad_token_id)
            loss = (losses / torch.tensor([max(1, len(row)) for row in targets]).to(losses)).mean()
        return CausalLMOutput(loss=loss, logits=logits)
