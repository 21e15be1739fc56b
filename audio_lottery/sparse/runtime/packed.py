"""Replaced layers as the modules around them see them.

A parent may do more with a layer than call it: WavLM's attention hands the weights of its projections to torch's own
attention, `nn.TransformerEncoderLayer` looks at those of its linear layers, Whisper's encoder at the strides of its
convolutions. So what stands in the place of a layer is a layer of the same class with the same attributes, whose
weights have their shape and type but no numbers of their own. Whoever computes with one gets the numbers, and from then
on the layer is dense: a parent that does so once will do so in every call, and two copies of the weights would be kept.
"""

import copy
import threading
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from audio_lottery.sparse.runtime.modules import Accelerated, Packable, matrix_names

_unpacking = threading.Lock()


class Packing:
    """The weights of one layer: packed for a kernel until somebody asks for their numbers, dense from then on.

    Args:
        packed: the layer on its kernel.
        others: what is not packed (biases), by name.

    Attributes:
        packed: as given; None once the layer is dense.
        dense: all parameters by name, once the layer is dense.
    """

    def __init__(self, packed: Packable, others: dict[str, Tensor]) -> None:
        self.packed: Packable | None = packed
        self.dense: dict[str, nn.Parameter] = {}
        self._others = others

    def unpack(self) -> None:
        """Make the layer dense; what is packed is let go of."""
        with _unpacking, torch.inference_mode(False):  # they outlive the call
            if self.packed is not None:
                matrices = {key: torch.from_numpy(matrix) for key, matrix in self.packed.unpack().items()}
                found = matrices | self._others
                self.dense = {key: nn.Parameter(tensor, requires_grad=False) for key, tensor in found.items()}
                self.packed, self._others = None, {}

    def numbers(self, name: str) -> nn.Parameter:
        """A parameter as it was; makes the layer dense."""
        self.unpack()
        return self.dense[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Packing":
        # what is packed never changes; what is dense may be changed in one of the copies
        twin = copy.copy(self)
        twin.dense = copy.deepcopy(self.dense, memo)
        return twin


class PackedWeight(Tensor):
    """A parameter of a replaced layer: what it is costs nothing, what is in it makes the layer dense.

    Args:
        packing: where its numbers come from.
        name: of the parameter in its layer.
        shape: of the parameter, float32 on the CPU.
    """

    _is_param = True  # what `isinstance(…, nn.Parameter)` asks for
    packing: Packing
    key: str

    @staticmethod
    def __new__(cls, packing: Packing, name: str, shape: torch.Size) -> "PackedWeight":
        """A tensor without memory."""
        weight: PackedWeight = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)
        weight.packing, weight.key = packing, name
        return weight

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer what needs no numbers, hand everything else the dense parameter."""
        options = kwargs or {}
        if func in _ITSELF or (func is Tensor.requires_grad_ and args[1:] == (False,)):
            return args[0]
        if func in _SAME_TYPE:
            return func(torch.empty(0), *args[1:], **options)
        if func in _ABOUT:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **options)
        return func(*_numbers(args), **_numbers(options))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """The same where torch's functions are not overridden."""
        return func(*_numbers(args), **_numbers(kwargs or {}))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return PackedWeight, (self.packing, self.key, self.shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> "PackedWeight":
        return PackedWeight(copy.deepcopy(self.packing, memo), self.key, self.shape)


def _numbers(arguments: Any) -> Any:
    return tree_map_only(PackedWeight, lambda weight: weight.packing.numbers(weight.key), arguments)


_PROPERTIES = (
    "device", "dtype", "grad", "grad_fn", "is_cpu", "is_cuda", "is_leaf", "is_meta", "is_mkldnn", "is_mps", "is_nested",
    "is_quantized", "is_sparse", "is_sparse_csr", "is_xla", "is_xpu", "itemsize", "layout", "nbytes", "ndim",
    "requires_grad", "shape",
)  # fmt: skip
_METHODS = (
    "__len__", "dim", "element_size", "get_device", "is_complex", "is_contiguous", "is_floating_point", "ndimension",
    "nelement", "numel", "size", "stride",
)  # fmt: skip
# About a tensor and not what is in it.
_ABOUT = {
    *(getattr(Tensor, name).__get__ for name in _PROPERTIES),
    *(getattr(Tensor, name) for name in _METHODS),
    *(torch.is_complex, torch.is_floating_point, torch.numel),
}
# The same numbers.
_ITSELF = {Tensor.detach, vars(torch._C.TensorBase)["data"].__get__}
# New tensors of the same type.
_SAME_TYPE = {Tensor.new, Tensor.new_empty, Tensor.new_full, Tensor.new_ones, Tensor.new_tensor, Tensor.new_zeros}


class Packed(Accelerated):
    """What `stand_in` makes: a layer of torch's whose weights are packed until somebody computes with them."""

    packing: Packing

    @property
    def kernel(self) -> str:  # type: ignore[override]
        """Of the packed layer; "dense" where its weights were read."""
        packed = self.packing.packed
        return "dense" if packed is None else packed.kernel

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """What the layer computes, on its kernel or, where its weights were read, as torch does."""
        packed = self.packing.packed
        if packed is not None:
            return packed.forward(*arguments, **options)
        self._settle()
        return super().forward(*arguments, **options)

    def _settle(self) -> None:
        """Take over the dense parameters, so that torch computes with them directly."""
        for name, parameter in self.packing.dense.items():
            if isinstance(self._parameters.get(name), PackedWeight):
                self._parameters[name] = parameter

    def _give_up(self) -> None:
        """Become dense, because a parameter will be another one."""
        self.packing.unpack()
        self._settle()

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_parameters", ()) and self.packing.packed is None:
            self._settle()
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__["_parameters"]:
            self._give_up()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._parameters:
            self._give_up()
        super().__delattr__(name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if self.packing.packed is None:
            self._settle()
        weights = copy.deepcopy(self._parameters, memo)
        return _made(type(self), self, copy.deepcopy(self.packing, memo), weights)


class _PackedLinear(Packed, nn.Linear):
    pass


class _PackedConv1d(Packed, nn.Conv1d):
    pass


class _PackedConv2d(Packed, nn.Conv2d):
    pass


class _PackedLSTM(Packed, nn.LSTM):
    def _settle(self) -> None:
        super()._settle()
        _list_weights(self)


_CLASSES: dict[type[nn.Module], type[Packed]] = {
    nn.Linear: _PackedLinear,
    nn.Conv1d: _PackedConv1d,
    nn.Conv2d: _PackedConv2d,
    nn.LSTM: _PackedLSTM,
}


def stand_in(module: nn.Module, packed: Packable) -> Packed:
    """What takes the place of ``module`` in a model.

    Args:
        module: `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` or `nn.LSTM`; it is not changed.
        packed: the same on its kernel.
    """
    matrices = matrix_names(module)
    others = {name: weight.detach().clone() for name, weight in module.named_parameters() if name not in matrices}
    packing = Packing(packed, others)
    weights = {
        name: None if weight is None else PackedWeight(packing, name, weight.shape)
        for name, weight in module._parameters.items()
    }
    made = _made(_CLASSES[type(module)], module, packing, weights)
    made.__dict__ |= {name: getattr(packed, name) for name in ("kind", "kept", "weights", "macs_per_frame")}
    return made


def _made(kind: type[Packed], module: nn.Module, packing: Packing, weights: dict[str, Any]) -> Any:
    """An instance of ``kind`` with the attributes of ``module``, but these weights."""
    made = kind.__new__(kind)
    for name, value in vars(module).items():
        made.__dict__[name] = copy.copy(value) if isinstance(value, dict | list | set) else value
    made.__dict__ |= {"_parameters": weights, "packing": packing, "training": False}
    if isinstance(made, nn.LSTM):
        _list_weights(made)
    return made


def _list_weights(lstm: nn.LSTM) -> None:
    """Torch's LSTM keeps its weights in a list besides."""
    names = lstm._flat_weights_names
    lstm.__dict__ |= {
        "_flat_weights": [lstm._parameters[name] for name in names],
        "_flat_weight_refs": [None] * len(names),
    }
