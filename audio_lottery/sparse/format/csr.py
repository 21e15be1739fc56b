"""The standard containers: one scipy ``.npz`` per pruned tensor, and back, bit for bit."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import scipy.sparse
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format.folder import check_target, read
from audio_lottery.sparse.format.units import matrix_shape
from audio_lottery.sparse.format.values import bits, from_bits
from audio_lottery.storage import read_json, sealed_folder, write_json

INDEX = "index.json"
LAYOUTS = ("csr", "csc")

_DENSE = "dense.safetensors"


def export_csr(model_or_folder: PreTrainedModel | Path | str, path: Path | str, layout: str = "csr") -> list[str]:
    """Write every matrix and kernel with more zeros than other weights as ``NAME.npz``, in one folder.

    A tensor [out, in, k, …] becomes the matrix [out, in·k]. ``scipy.sparse.load_npz`` reads the files. scipy has no
    16-bit floats: those tensors are widened to float32, which is exact. The other tensors are in ``dense.safetensors``,
    shapes and dtypes in ``index.json``.

    Args:
        model_or_folder: a model, or a folder or file that `save` wrote.
        path: folder to write; new, empty, or an earlier export.
        layout: csr (rows compressed) or csc (columns compressed).

    Returns:
        Names of the tensors that have a ``.npz``.

    Raises:
        ModelError: an unknown layout, a damaged folder, or ``path`` holds something else.
        StorageError: a file could not be written.
    """
    if layout not in LAYOUTS:
        raise ModelError(f"layout '{layout}' is unknown; there are {', '.join(LAYOUTS)}")
    target = Path(path).absolute()
    check_target(target, INDEX)
    state = model_or_folder.state_dict() if isinstance(model_or_folder, PreTrainedModel) else read(model_or_folder)
    pruned, dense, index = [], {}, {}
    with sealed_folder(target) as temporary:
        for name, given in state.items():
            tensor = given.detach().cpu().contiguous()
            if not _is_pruned(tensor):
                dense[name] = tensor.clone()  # safetensors refuses tensors that share memory
                continue
            matrix = _to_csr(tensor)
            scipy.sparse.save_npz(
                temporary / f"{name}.npz", matrix.tocsc() if layout == "csc" else matrix, compressed=False
            )
            index[name] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            pruned.append(name)
        save_file(dense, temporary / _DENSE)
        write_json(temporary / INDEX, {"format": "audio_lottery.csr", "layout": layout, "tensors": index})
    return pruned


def read_csr(path: Path | str) -> dict[str, Tensor]:
    """The state dict that `export_csr` wrote, bit for bit; tied weights are separate tensors.

    Raises:
        ModelError: a file is missing or damaged.
        RunError: the index is missing.
    """
    folder = Path(path)
    index = read_json(folder / INDEX)
    try:
        state = load_file(folder / _DENSE)
        for name, entry in index["tensors"].items():
            matrix = scipy.sparse.load_npz(folder / f"{name}.npz")
            state[name] = _from_sparse(matrix, torch.Size(entry["shape"]), getattr(torch, entry["dtype"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, BadZipFile) as error:
        raise ModelError(f"{folder} is not a whole export ({error}); export the model again") from error
    return state


def _is_pruned(tensor: Tensor) -> bool:
    matrix = tensor.is_floating_point() and sum(size > 1 for size in tensor.shape) >= 2
    return matrix and 2 * int(np.count_nonzero(bits(tensor))) < tensor.numel()


def _to_csr(tensor: Tensor) -> scipy.sparse.csr_array:
    rows, columns = matrix_shape(tensor.shape)
    places = np.flatnonzero(bits(tensor))
    starts = np.concatenate([[0], np.cumsum(np.bincount(places // columns, minlength=rows))])
    kept = from_bits(bits(tensor)[places], tensor.dtype)
    wide = kept if tensor.dtype.itemsize >= 4 else kept.float()
    return scipy.sparse.csr_array((wide.numpy(), places % columns, starts), shape=(rows, columns))


def _from_sparse(matrix: Any, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    # Not toarray(): it adds values to zeros, and 0.0 + -0.0 is 0.0.
    triples = matrix.tocoo()
    if triples.shape != matrix_shape(shape):
        raise ValueError(f"a matrix of {triples.shape} for a tensor of {tuple(shape)}")
    tensor = torch.zeros(shape, dtype=dtype)
    places = triples.row.astype(np.int64) * triples.shape[1] + triples.col
    bits(tensor)[places] = bits(torch.from_numpy(triples.data).to(dtype))
    return tensor
