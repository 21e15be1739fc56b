"""What is timed: a model, audio for it, and what of the model is compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

SAMPLE_RATE = 16_000
# Logits of trained wav2vec2 recognisers spread about this much; differences are then judged on a realistic scale.
_LOGIT_STD = 3.0


@dataclass(frozen=True)
class Subject:
    """A model in float32 and evaluation mode, and the inputs that it is timed on.

    Attributes:
        name: for titles.
        model: returns an object with ``logits`` [batch, frames, characters].
        input_name: keyword of its input: ``input_values`` [batch, samples] or ``input_features``
            [batch, frames, features].
        make_inputs: seconds of audio → the input tensor of one utterance.
        wrap: makes of a model (this one, or a pruned or accelerated copy) the map from the input tensor to what is
            compared; by default to its logits.
        runtimes: its dense contestants, see `contestants.Runtime`; None: `contestants.RUNTIMES`.
        agree: compares what two contestants give; None: `agreement.compare`.
        seconds: lengths of audio that it is for; None: any.
    """

    name: str
    model: nn.Module
    input_name: str
    make_inputs: Callable[[float], Tensor]
    wrap: Callable[[nn.Module], nn.Module] | None = None
    runtimes: Sequence[Any] | None = None
    agree: Callable[[Tensor, Tensor, str], Any] | None = None
    seconds: tuple[float, ...] | None = None

    def logits(self, model: nn.Module) -> Any:
        """``model`` (this one, or a pruned or accelerated copy) as a map from the input tensor to logits."""
        return Logits(model, self.input_name) if self.wrap is None else self.wrap(model)

    def profiled(self, model: nn.Module) -> nn.Module:
        """An accelerated ``model`` as what has ``profile``, which takes the input tensor."""
        return model if self.wrap is None else self.wrap(model)


class Logits(nn.Module):
    """A transformers CTC model as a plain map from one tensor to one tensor, which every exporter can take.

    One utterance has no padding, so no attention mask is passed.
    """

    def __init__(self, model: nn.Module, input_name: str = "input_values") -> None:
        super().__init__()
        self.model = model
        self.input_name = input_name

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [batch, frames, characters]."""
        return self.model(**{self.input_name: inputs}).logits


def noise(seconds: float, seed: int = 0) -> Tensor:
    """White noise of unit variance, [samples]: the time of a forward pass does not depend on what is said."""
    return torch.randn(round(seconds * SAMPLE_RATE), generator=torch.Generator().manual_seed(seed))


def wav2vec2_base(seed: int = 0, **changes: Any) -> Subject:
    """wav2vec2-base shapes (Baevski et al. 2020, arXiv:2006.11477; 94 M parameters) with random weights.

    Untrained weights must not hide errors: with transformers' own initialisation the convolutions pass on a constant
    that grows from layer to layer, and logits barely depend on the audio. Convolution weights are therefore centred,
    and the output layer is scaled until logits spread as those of a trained model.

    Args:
        seed: of the weights.
        changes: fields of ``Wav2Vec2Config`` that differ from wav2vec2-base.
    """
    config = Wav2Vec2Config(**changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Wav2Vec2ForCTC(config).eval()
    with torch.inference_mode(False), torch.no_grad():
        for layer in model.wav2vec2.feature_extractor.conv_layers[1:]:
            layer.conv.weight -= layer.conv.weight.mean(dim=(1, 2), keepdim=True)
        spread = model(noise(1.0, seed)[None]).logits.std()
        model.lm_head.weight *= _LOGIT_STD / spread
    return Subject("wav2vec2-base shapes", model, "input_values", lambda seconds: noise(seconds, seed)[None])
