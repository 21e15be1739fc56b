"""What kind of work a module of a recogniser does, for tables of time and multiply-adds."""

import re

from torch import nn

ATTENTION = "attention itself"

# Searched in a module's dotted name, in this order; the first that fits names the kind.
_BY_NAME = (
    (re.compile(r"pos_conv_embed"), "positional convolution"),
    (
        re.compile(r"(^|\.)(q|k|v|out|linear_q|linear_k|linear_v|linear_out|linear_pos)_?(proj)?$"),
        "attention projections",
    ),
    (re.compile(r"feature_projection\."), "feature projection"),
    (re.compile(r"feed_forward|(^|\.)ffn?\d?\.|intermediate_dense|output_dense"), "feed-forward"),
    (re.compile(r"(^|\.)(lm_head|ctc_head|classifier)$"), "head"),
)
_CONVOLUTION = re.compile(r"(?:feature_extractor|subsampling|encoder)?.*conv_layers\.(\d+)\.")


def kind_of(name: str, module: nn.Module) -> str:
    """The kind of the module ``name``; class names for what no rule knows, ``other`` for containers.

    Kinds tell linear layers by their place in the model, and norms and activations by their class.
    """
    if isinstance(module, nn.GroupNorm):
        return "group norm"
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return "batch norm"
    if isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm"):
        return "layer norm"
    if re.search(r"GELU|SiLU|ReLU|Swish|GLU|activation", type(module).__name__, re.IGNORECASE):
        return "GELU" if "GELU" in type(module).__name__ else "activation"
    if re.search("Dropout", type(module).__name__):
        return "dropout"
    if type(module).__name__.endswith("Attention"):
        return ATTENTION
    if isinstance(module, nn.Conv1d | nn.Conv2d) and "pos_conv_embed" not in name:
        place = _CONVOLUTION.match(name)
        return f"feature extractor conv {place[1]}" if place else "convolution"
    for expression, kind in _BY_NAME:
        if expression.search(name):
            return kind
    if isinstance(module, nn.RNNBase):
        return type(module).__name__
    return "linear" if isinstance(module, nn.Linear) else "other"
