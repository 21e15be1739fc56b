"""What a model runs on while it is evaluated: torch, or the kernels that it would be deployed on."""

from audio_lottery.config import EvaluationConfig
from audio_lottery.models.base import Backbone

# Names of `EvaluationConfig.precision` → those of the sparse runtime.
_PRECISIONS = {"no": "float32", "bf16": "bfloat16", "int8": "int8"}


def on_runtime(backbone: Backbone, settings: EvaluationConfig) -> Backbone:
    """The recogniser as ``settings.runtime`` runs it; ``backbone`` itself for torch.

    Args:
        backbone: left in evaluation mode.
        settings: ``runtime``, and ``precision``, which is that of the runtime.

    Raises:
        ModelError: the sparse runtime cannot take the model, see `audio_lottery.sparse.accelerate`.
    """
    if settings.runtime == "torch":
        return backbone
    from audio_lottery.sparse import accelerate  # numba takes a second to load

    module = accelerate(backbone.module.eval(), precision=_PRECISIONS[settings.precision])
    return type(backbone)(module, backbone.processor)
