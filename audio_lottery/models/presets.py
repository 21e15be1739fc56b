"""Recognisers small enough to train from scratch on a CPU, as transformers configurations."""

from typing import Any

# feat_extract_norm="layer" with an attention mask keeps outputs independent of padding; layerdrop breaks DDP.
_COMMON: dict[str, Any] = {
    "model_type": "wav2vec2",
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "layerdrop": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "num_conv_pos_embedding_groups": 16,
}

PRESETS: dict[str, dict[str, Any]] = {
    # 0.8 M parameters, 50 frames a second. transformers' own initialisation (0.02) is made for widths of 768 and leaves
    # layers of 128 nearly silent: with 0.08, about 1/sqrt(width), the CTC plateau ends after a third of the steps.
    "w2v2-mini": _COMMON
    | {
        "conv_dim": [32, 64, 128, 128],
        "conv_kernel": [16, 10, 8, 4],
        "conv_stride": [8, 5, 4, 2],
        "num_feat_extract_layers": 4,
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "num_conv_pos_embeddings": 32,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "initializer_range": 0.08,
        "feat_extract_activation": "relu",
    },
}
