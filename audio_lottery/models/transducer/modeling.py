"""An LSTM transducer (Graves 2012, "Sequence Transduction with Recurrent Neural Networks", arXiv:1211.3711)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.parakeet.modeling_parakeet import ParakeetRNNTDecoder, ParakeetRNNTJointNetwork
from transformers.utils import ModelOutput

from audio_lottery.models.initialise import draw_weights
from audio_lottery.models.transducer.configuration import TransducerConfig
from audio_lottery.models.transducer.encoder import LstmEncoder
from audio_lottery.models.transducer.loss import transducer_loss


@dataclass
class TransducerOutput(ModelOutput):
    """What `TransducerForRNNT` gives.

    Attributes:
        loss: mean negative log-likelihood per label; None without labels.
        logits: [batch, frames, decoder inputs, outputs] of the joint network.
        frames: [batch], valid frames of each utterance.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    frames: Tensor | None = None


class TransducerForRNNT(PreTrainedModel):
    """Log-mel features → encoder frames, which a prediction network over the labels is joined with.

    Prediction and joint network are those of transformers' `ParakeetForRNNT`, under the same names.
    """

    config_class = TransducerConfig
    base_model_prefix = ""
    main_input_name = "input_features"
    supports_gradient_checkpointing = False

    def __init__(self, config: TransducerConfig) -> None:
        super().__init__(config)
        self.encoder = LstmEncoder(config)
        self.encoder_projector = nn.Linear(config.hidden_size, config.decoder_hidden_size)
        self.decoder = ParakeetRNNTDecoder(config)
        self.joint = ParakeetRNNTJointNetwork(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        draw_weights(module)

    def encode(self, input_features: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features → frames as the joint network takes them.

        Args:
            input_features: [batch, frames, bins].
            attention_mask: [batch, frames], 1 for valid frames; None: all are.

        Returns:
            [batch, frames, decoder size], and [batch] the valid ones of each utterance.
        """
        batch, longest, _ = input_features.shape
        full = torch.full((batch,), longest, device=input_features.device)
        encoded, frames = self.encoder(input_features, full if attention_mask is None else attention_mask.sum(-1))
        return self.encoder_projector(encoded), frames

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> TransducerOutput:
        """Logits behind every prefix of some labels, and with ``labels`` the loss.

        Args:
            input_features: [batch, frames, bins].
            attention_mask: [batch, frames], 1 for valid frames; None: all are.
            decoder_input_ids: [batch, labels + 1], the blank before the labels; None: the blank alone.
            labels: [batch, labels], padded with -100.
            return_dict: accepted, as everywhere in transformers; the output is always an object.
            options: accepted by other models and meaningless here.
        """
        encoded, frames = self.encode(input_features, attention_mask)
        start = torch.full((len(encoded), 1), self.config.blank_token_id, device=encoded.device)
        predicted = self.decoder(start if decoder_input_ids is None else decoder_input_ids)
        logits = self.joint(predicted[:, None], encoded[:, :, None])
        loss = None
        if labels is not None:
            targets = [row[row >= 0] for row in labels.cpu()]
            losses = transducer_loss(self, encoded, frames, targets, self.config.joint_cells)
            loss = (losses / torch.tensor([max(1, len(row)) for row in targets]).to(losses)).mean()
        return TransducerOutput(loss=loss, logits=logits, frames=frames)
