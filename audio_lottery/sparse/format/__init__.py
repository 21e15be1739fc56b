"""A compact file for models whose weights are mostly zero: kept positions and values, exact or honestly rounded.

``save(model, folder, values="fp16")`` writes ``model.sparse.safetensors`` beside config and processor; ``load`` gives
the transformers model back, bit for bit, or raises; ``read`` gives the state dict; ``export_csr`` and ``read_csr``
exchange scipy's containers. docs/sparse-file.md describes the format.
"""

from audio_lottery.sparse.format.csr import export_csr, read_csr
from audio_lottery.sparse.format.folder import (
    FILE,
    SavedFile,
    TensorRow,
    check_loaded,
    find_file,
    load,
    read,
    save,
)
from audio_lottery.sparse.format.values import VALUES

__all__ = [
    "FILE",
    "VALUES",
    "SavedFile",
    "TensorRow",
    "check_loaded",
    "export_csr",
    "find_file",
    "load",
    "read",
    "read_csr",
    "save",
]
