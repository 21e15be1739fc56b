"""What accelerated modules have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.elementwise import ACTIVATIONS, ROUGH_ACTIVATIONS

NO_SAVING = "an accelerated model has packed weights: save the model it was made from (`audio-lottery compress`)"


# Frames of the trial that decides whether a module is replaced: two seconds of most recognisers' frames.
TRIAL_FRAMES = 100
_STAYS = "it runs as it is"


Lend = Callable[[nn.Module], AbstractContextManager[None]]
_lend: ContextVar[Lend | None] = ContextVar("lend", default=None)


@contextmanager
def lending(lend: Lend) -> Iterator[None]:
    """Within the block `weights_of` asks ``lend``."""
    token = _lend.set(lend)
    try:
        yield
    finally:
        _lend.reset(token)


@contextmanager
def weights_of(module: nn.Module) -> Iterator[None]:
    """Within the block the parameters of ``module`` have their numbers; outside a model that is read piece by piece has
    none (`lean`)."""
    lend = _lend.get()
    with nullcontext() if lend is None else lend(module):
        yield


class Accelerated(nn.Module):
    """A module that only infers: its weights are packed for the kernels, and are no parameters any more."""

    kind = ""
    kernel = ""
    kept = 0
    weights = 0
    macs_per_frame = 0

    def __init__(self) -> None:
        super().__init__()
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Refuse training.

        Raises:
            ModelError: ``mode`` is true.
        """
        if mode:
            raise ModelError("an accelerated model cannot be trained: train the model it was made from")
        return super().train(False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Accelerated":
        return self  # holds nothing that a call changes

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Of `nn.Module`: what ``to``, ``half`` and the like do; kernels stay as they are."""
        return self

    def _save_to_state_dict(self, *arguments: Any) -> None:
        raise ModelError(NO_SAVING)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        raise ModelError("an accelerated model has packed weights: load them into the model it was made from")


class Runner(Accelerated, ABC):
    """An accelerated module that takes the place of one of torch's or transformers'.

    A class says itself what it takes the place of (`claims`, `misfit`) and on what it is tried (`trial_input`); a line
    in `registry.RUNNERS` makes it known to `accelerate`. Instances are made of the module and a precision.

    ``borrows``: whether it asks for its parts' parameters one after the other, with `weights_of`.
    """

    borrows = False

    @classmethod
    @abstractmethod
    def claims(cls, module: nn.Module) -> bool:
        """Whether ``module`` is of the kind that this class runs, whatever its settings."""

    @classmethod
    @abstractmethod
    def misfit(cls, module: Any) -> str:
        """Why this class cannot run a module that it claims; empty where it can."""

    @classmethod
    @abstractmethod
    def trial_input(cls, module: Any) -> Tensor | tuple[Tensor, ...]:
        """An input of ordinary length, or all inputs, on which ``module`` and its replacement are timed."""


class Packable(Runner):
    """A layer's runner whose matrices can be had back."""

    @abstractmethod
    def unpack(self) -> dict[str, np.ndarray]:
        """The layer's matrices, by their names as parameters; bfloat16 numbers stay rounded."""


def no_kernel(module: nn.Module) -> str:
    """The note on a module that no class claims, or not with its settings."""
    return f"no kernel for {type(module).__name__}: {_STAYS}"


def changed(module: nn.Module) -> str:
    """Why a layer is more than its class says, if it is: its weights are computed in every call, or its outputs are."""
    hooks = (module._forward_pre_hooks, module._forward_hooks)
    if any(hooks) or "forward" in vars(module) or module._modules or module._buffers:
        return f"hooks, parts or another forward were put on it: {_STAYS}"
    weights = [module._parameters.get(name) for name in matrix_names(module)]
    if any(weight is None for weight in weights):
        return f"its weight is not a parameter of its own: {_STAYS}"
    if not all(weight.numel() for weight in weights if weight is not None):
        return f"it has no weights: {_STAYS}"
    return ""


def matrix_names(module: nn.Module) -> list[str]:
    """The matrices of `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` or `nn.LSTM`, which a kernel packs."""
    names: tuple[str, ...] = getattr(module, "_flat_weights_names", ("weight",))
    return [name for name in names if name.startswith("weight")]


def input_array(x: Tensor, where: str) -> np.ndarray:
    """The tensor's numbers, flat and contiguous.

    Raises:
        ModelError: not float32 on the CPU, or part of a graph that would need its gradient.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise ModelError(f"{where} runs on float32 on the CPU, not on {x.dtype} on {x.device}")
    if x.requires_grad and torch.is_grad_enabled():
        raise ModelError(f"{where} computes no gradients: call the model under torch.no_grad()")
    return x.detach().contiguous().numpy().reshape(-1)


def refuse_inner_states(options: Mapping[str, object]) -> None:
    """Tell who asks a runner of several layers, in the options of a call, for what it does not keep.

    Raises:
        ModelError: attentions or hidden states are asked for.
    """
    if options.get("output_attentions") or options.get("output_hidden_states"):
        raise ModelError("an accelerated model keeps no attentions or hidden states: ask the original model")


def features_array(x: Tensor, features: int, where: str) -> np.ndarray:
    """`input_array` of a linear layer's input, […, features].

    Raises:
        ModelError: another number of features; see `input_array`.
    """
    if x.shape[-1] != features:
        raise ModelError(f"a linear layer of {features} inputs got {tuple(x.shape)}")
    return input_array(x, where)


def to_numpy(weight: Tensor) -> np.ndarray:
    """A parameter as float32 numbers."""
    return weight.detach().float().cpu().numpy()


def bias_of(module: nn.Linear | nn.Conv1d | nn.Conv2d) -> np.ndarray | None:
    """A layer's bias, if it has one."""
    return None if module.bias is None else to_numpy(module.bias)


def activation_code(name: str, precision: str) -> int:
    """The kernels' number of an activation; in the lower precisions, whose products round it, of a rougher one."""
    return (ACTIVATIONS if precision == "float32" else ROUGH_ACTIVATIONS)[name]


def activation_name(module: nn.Module) -> str:
    """The name of an activation module in `kernels.elementwise.ACTIVATIONS`; empty where the kernels do not have it."""
    if isinstance(module, nn.ReLU):
        return "relu"
    if isinstance(module, nn.SiLU) or type(module).__name__ == "SiLUActivation":
        return "silu"
    exact = type(module).__name__ == "GELUActivation" and getattr(module, "act", None) is nn.functional.gelu
    return "gelu" if exact or (isinstance(module, nn.GELU) and module.approximate == "none") else ""
