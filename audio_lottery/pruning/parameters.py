"""A model's parameters as masks see them: under the names they have without wrappers, and what no mask can hold.

``torch.compile``, DDP, activation checkpointing and the like put a module around another one, and the parameters'
names get a prefix: ``_orig_mod.``, ``module.``. A mask made on the wrapped model must fit the model inside and the
other way round, and ``^lm_head`` must mean the same on both, so names here leave out the step from a wrapper to what
it wraps. A wrapper is known by its type: a submodule that is called ``module`` keeps its name.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from audio_lottery.errors import MaskError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

FSDP1 = ("torch.distributed.fsdp", "FullyShardedDataParallel")
# Where a wrapper's class is defined and its name → the attribute that holds what it wraps. Looked up among the modules
# that are imported: a process that never imported them has no such wrappers, and some take seconds to import.
_WRAPPERS = {
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch.distributed.algorithms._checkpoint.checkpoint_wrapper", "ActivationWrapper"): "_checkpoint_wrapped_module",
    FSDP1: "_fsdp_wrapped_module",
    ("torch.optim.swa_utils", "AveragedModel"): "module",
    ("deepspeed.runtime.engine", "DeepSpeedEngine"): "module",
    ("peft.peft_model", "PeftModel"): "base_model",
    ("peft.mixed_model", "PeftMixedModel"): "base_model",
    ("peft.tuners.tuners_utils", "BaseTuner"): "model",
}
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)


@dataclass(frozen=True)
class Place:
    """A place where a model holds a parameter; a tied parameter has several.

    Attributes:
        name: path to the parameter, wrappers left out.
        full_name: the path with them, as torch's ``named_parameters`` gives it.
        module: the module that holds it.
        local: its name there.
        parameter: the parameter.
    """

    name: str
    full_name: str
    module: nn.Module
    local: str
    parameter: nn.Parameter


def places(model: nn.Module) -> list[Place]:
    """Every place of every parameter, in torch's order.

    Raises:
        MaskError: parameters are flattened or partitioned (FSDP1, DeepSpeed ZeRO 3), so that they have no shape of
            their own; or two have one name once wrappers are left out.
    """
    found: dict[str, Place] = {}
    for module, name, full_name in _walk(model, "", ""):
        for local, parameter in module._parameters.items():
            if parameter is None:
                continue
            place = Place(_join(name, local), _join(full_name, local), module, local, parameter)
            if hasattr(parameter, "ds_id") and not parameter.numel():
                raise MaskError(
                    f"'{place.name}' is partitioned by DeepSpeed ZeRO 3, which is not supported; prune before wrapping"
                )
            other = found.setdefault(place.name, place)
            if other.parameter is not parameter:
                raise MaskError(
                    f"'{other.full_name}' and '{place.full_name}' are both '{place.name}' without wrappers; rename one"
                )
    return list(found.values())


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name without wrappers → parameter, in torch's order; a tied parameter once, under its first name.

    Raises:
        MaskError: as `places`.
    """
    first: dict[int, Place] = {}
    for place in places(model):
        first.setdefault(id(place.parameter), place)
    return {place.name: place.parameter for place in first.values()}


def pick(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """The named parameters.

    Raises:
        MaskError: a name is not a parameter of the model, or a mask cannot hold the parameter.
    """
    parameters, wanted = named_parameters(model), list(names)
    unknown = [name for name in wanted if name not in parameters]
    if unknown:
        raise MaskError(f"no parameters of the model: {', '.join(unknown)}")
    for name in wanted:
        reason = unmaskable(parameters[name])
        if reason is not None:
            raise MaskError(f"'{name}' is {reason}")
    return {name: parameters[name] for name in wanted}


def unmaskable(parameter: nn.Parameter) -> str | None:
    """Why the values of a parameter can be neither ranked nor set to zero one by one; None where they can.

    A quantised weight means something only together with scales that lie elsewhere, and its zero need not be 0.
    """
    if is_lazy(parameter):
        return "without a shape so far (a lazy module); run one batch through the model first"
    kind = type(parameter.data)
    if kind is not Tensor and not is_sharded(parameter):
        return f"stored as {kind.__name__}; masks are for plain tensors"
    if parameter.layout != torch.strided:
        return f"stored as {parameter.layout}; masks are for dense tensors"
    if parameter.dtype not in _DTYPES:
        return f"stored as {parameter.dtype}; masks are for floats of 16 bits and more"
    return None


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether ``tensor`` is a ``DTensor``."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def imported_types(*kinds: tuple[str, str]) -> tuple[type, ...]:
    """The classes among (module, name) whose modules are imported."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in kinds)
    return tuple(kind for kind in found if kind is not None)


def _walk(module: nn.Module, name: str, full_name: str) -> Iterator[tuple[nn.Module, str, str]]:
    wrapped = next((key for kind, key in _WRAPPERS.items() if isinstance(module, imported_types(kind))), None)
    if isinstance(module, imported_types(FSDP1)) and module.training_state.name != "SUMMON_FULL_PARAMS":  # type: ignore[union-attr]
        raise MaskError(
            f"{f'{name!r}' if name else 'the model'} is wrapped in FullyShardedDataParallel (FSDP1), whose parameters "
            "are flat pieces that a mask cannot name; use fully_shard (FSDP2), or prune before wrapping"
        )
    yield module, name, full_name
    for key, child in module._modules.items():
        if child is not None:
            yield from _walk(child, name if key == wrapped else _join(name, key), _join(full_name, key))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
