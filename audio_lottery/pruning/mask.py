"""`Mask`: which weights of which parameters are kept."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from audio_lottery.errors import MaskError
from audio_lottery.pruning.parameters import named_parameters, pick, unmaskable
from audio_lottery.storage import write_bytes

_FORMAT = {"format": "audio_lottery.mask", "version": "1"}


class Mask(Mapping[str, Tensor]):
    """One boolean tensor per prunable parameter, keyed by parameter name; true where the weight is kept.

    Names are those without wrappers, so a mask made on a model inside ``torch.compile`` or DDP fits the model itself
    and the other way round. Immutable by convention: every operation returns a new mask. Iteration is in the order
    given, which is the order of the model's parameters and decides ties.

    Args:
        tensors: parameter name → bool tensor of the parameter's shape, on the CPU.

    Raises:
        MaskError: no tensors, or one that is not boolean or has no values.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        if not tensors:
            raise MaskError("a mask needs at least one tensor; check that the scope matches parameters of the model")
        for name, tensor in tensors.items():
            if tensor.dtype != torch.bool:
                raise MaskError(f"mask of '{name}' has dtype {tensor.dtype}; masks are torch.bool")
            if tensor.is_meta:
                raise MaskError(f"mask of '{name}' is on the meta device and has no values")
        self._tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.sha256() == other.sha256()

    def __hash__(self) -> int:
        return int(self.sha256()[:16], 16)

    def __repr__(self) -> str:
        return f"Mask({len(self)} tensors, {self.kept} of {self.prunable} weights kept, density {self.density():.4f})"

    @classmethod
    def dense(cls, model: nn.Module, names: list[str]) -> "Mask":
        """The mask that keeps every weight of the named parameters of ``model``.

        Raises:
            MaskError: a name is not a parameter of the model, or a mask cannot hold the parameter.
        """
        return cls({name: torch.ones(p.shape, dtype=torch.bool) for name, p in pick(model, names).items()})

    @property
    def prunable(self) -> int:
        """How many weights the mask decides over."""
        return sum(tensor.numel() for tensor in self.values())

    @property
    def kept(self) -> int:
        """How many of them it keeps."""
        return sum(_count(tensor) for tensor in self.values())

    def density(self) -> float:
        """Kept / prunable, between 0 and 1; 1 where all tensors are empty, since nothing is pruned."""
        return self.kept / self.prunable if self.prunable else 1.0

    def per_tensor(self) -> dict[str, tuple[int, int]]:
        """Parameter name → (kept, prunable)."""
        return {name: (_count(tensor), tensor.numel()) for name, tensor in self.items()}

    def sha256(self) -> str:
        """SHA-256 over names, shapes and bits; independent of the order of the tensors."""
        digest = hashlib.sha256()
        for name in sorted(self):
            digest.update(f"{name}{tuple(self[name].shape)}".encode())
            digest.update(_pack(self[name]).tobytes())
        return digest.hexdigest()

    def is_subset_of(self, other: "Mask") -> bool:
        """Whether every weight kept here is kept in ``other`` too."""
        self._require_same_tensors(other)
        return all(bool((~tensor | other[name]).all()) for name, tensor in self.items())

    def overlap(self, other: "Mask") -> float:
        """Intersection over union of the kept weights of two masks over the same parameters.

        Raises:
            MaskError: the masks have different names or shapes.
        """
        pairs = self._both_and_union(other).values()
        return _iou(sum(both for both, _ in pairs), sum(union for _, union in pairs))

    def overlap_per_tensor(self, other: "Mask") -> dict[str, float]:
        """Intersection over union of the kept weights, parameter by parameter; 1 where both keep nothing.

        Two independent random masks of densities p and q overlap by p·q / (p + q - p·q): compare with that.

        Raises:
            MaskError: the masks have different names or shapes.
        """
        return {name: _iou(both, union) for name, (both, union) in self._both_and_union(other).items()}

    def check_fits(self, model: nn.Module) -> None:
        """Compare names and shapes with the parameters of ``model``, wrapped or not.

        Raises:
            MaskError: lists every name the model lacks, every shape that differs, and every parameter that a mask
                cannot hold (quantised, sparse, lazy).
        """
        parameters = named_parameters(model)
        wrong = []
        for name, tensor in self.items():
            if name not in parameters:
                wrong.append(f"'{name}' is not a parameter of the model")
            elif (reason := unmaskable(parameters[name])) is not None:
                wrong.append(f"'{name}' is {reason}")
            elif parameters[name].shape != tensor.shape:
                wrong.append(f"'{name}' is {tuple(tensor.shape)} here and {tuple(parameters[name].shape)} in the model")
        if wrong:
            raise MaskError(f"the mask does not fit the model: {'; '.join(wrong)}")

    def save(self, path: str | Path) -> None:
        """Write the mask, one bit a weight, as a safetensors file (whole or not at all)."""
        shapes = json.dumps({name: list(tensor.shape) for name, tensor in self.items()})
        packed = {name: _pack(tensor) for name, tensor in self.items()}
        write_bytes(path, save(packed, metadata={**_FORMAT, "shapes": shapes}))

    @classmethod
    def load(cls, path: str | Path) -> "Mask":
        """Read what `save` wrote.

        Raises:
            MaskError: the file is missing, damaged, or not a mask.
        """
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT["format"]:
                    raise MaskError(f"{path} is not a mask file of audio_lottery")
                if metadata.get("version") != _FORMAT["version"]:
                    raise MaskError(f"{path} has mask version {metadata.get('version')}; this release reads version 1")
                shapes = json.loads(metadata["shapes"])
                return cls({name: _unpack(file.get_tensor(name), shape) for name, shape in shapes.items()})
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise MaskError(f"{path} cannot be read as a mask ({error}); the file is missing or damaged") from error

    def _both_and_union(self, other: "Mask") -> dict[str, tuple[int, int]]:
        self._require_same_tensors(other)
        return {name: (_count(tensor & other[name]), _count(tensor | other[name])) for name, tensor in self.items()}

    def _require_same_tensors(self, other: "Mask") -> None:
        shapes = {name: tuple(tensor.shape) for name, tensor in self.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in other.items()}:
            raise MaskError("the two masks are over different parameters or shapes and cannot be compared")


def _count(tensor: Tensor) -> int:
    return int(np.count_nonzero(tensor.numpy()))


def _iou(both: int, union: int) -> float:
    return both / union if union else 1.0


def _pack(tensor: Tensor) -> np.ndarray:
    return np.packbits(tensor.numpy().reshape(-1))


def _unpack(packed: np.ndarray, shape: list[int]) -> Tensor:
    count = int(np.prod(shape, dtype=np.int64))
    if packed.dtype != np.uint8 or packed.size != (count + 7) // 8:
        raise ValueError(f"{packed.size} bytes for the {count} bits of a tensor of shape {shape}")
    return torch.from_numpy(np.unpackbits(packed, count=count).astype(bool).reshape(shape))
