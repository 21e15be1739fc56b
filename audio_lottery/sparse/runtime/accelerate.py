"""`accelerate`: a copy of a sparse model whose layers run on the kernels where that is faster."""

import copy
import functools
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.vector import HAS_BF16_DOT, HAS_INT8_DOT
from audio_lottery.sparse.precision import PRECISIONS
from audio_lottery.sparse.runtime.matrix import best_time
from audio_lottery.sparse.runtime.model import as_accelerated
from audio_lottery.sparse.runtime.modules import Accelerated, Packable, Runner, no_kernel
from audio_lottery.sparse.runtime.packed import Packed, Packing, stand_in
from audio_lottery.sparse.runtime.plan import Plan, Replacement
from audio_lottery.sparse.runtime.registry import runner_of
from audio_lottery.sparse.runtime.semi_structured import accelerate_on_gpu

logger = logging.getLogger(__name__)

# Below this share of zeros a model counts as dense.
_DENSE = 0.01
# Seconds before and after.
Times = tuple[float, float]


def accelerate(model: nn.Module, *, precision: str = "float32", force: bool = False) -> nn.Module:
    """A model that computes the same, faster where weights are zero; ``model`` stays as it is.

    The encoder and the front end of wav2vec2-like models run as a whole, and so do Whisper's encoder and each layer of
    its decoder; elsewhere linear layers, one-dimensional
    convolutions and LSTMs are replaced one by one, each only where a trial on this machine is faster than the module.
    Kept weights are copied once; the dense ones are freed with ``model``. Threads follow `torch.get_num_threads`.

    A layer that was replaced looks as it did to the modules around it. Where one of them computes with its weight
    itself, the layer becomes dense again in the first call, and the plan says so (`packed`).

    On an NVIDIA GPU, linear layers kept 2:4 use its sparse matrix units (`semi_structured`).

    Args:
        model: in evaluation mode, float32, on the CPU (or in half precision on a GPU); pruned weights are zeros.
        precision: "float32": outputs as those of ``model`` up to rounding. "bfloat16": attention, and weights kept in
            whole 16×2 blocks, are multiplied in bfloat16 and summed in float32, where the CPU can. "int8": weights and
            what they multiply are rounded to 8 bits, with a scale for each output row and each frame (each tile of
            frames in convolutions), attention's softmax weights and values to bfloat16; where the CPU has no
            AVX512-VNNI, "bfloat16" or "float32" takes its place, and a line says so once.
        force: replace every module that can be, measured or not.

    Returns:
        The new model, still of the class of ``model`` and an `AcceleratedModel` besides (``plan``, ``profile``);
        ``model`` itself if it has nothing to gain.

    Raises:
        ModelError: in training mode, not float32 on the CPU, an unknown precision.
    """
    precision = usable(precision)
    if model.training:
        raise ModelError("the model is in training mode; an accelerated model only infers: call model.eval() first")
    if any(parameter.is_cuda for parameter in model.parameters()):
        return _on_gpu(model)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise ModelError(f"'{name}' has no shape yet; call the model once before it is accelerated")
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            raise ModelError(f"'{name}' is {parameter.dtype} on {parameter.device}; call model.float().cpu() first")
    targets = list(targets_of(model))
    weights = [
        weight
        for _, module, build, _ in targets
        if build is not None
        for weight in module.parameters()
        if weight.dim() > 1
    ]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    if not force and zeros < _DENSE * sum(weight.numel() for weight in weights):
        logger.warning(
            "nothing to gain: the model is dense (%d of its weights are zero); it is returned as it is", zeros
        )
        return model
    memo = _computed(model)
    plan: list[tuple[Replacement, Packing | None]] = []
    owners = _owners(model)
    trials: dict[Any, Times] = {}
    with torch.no_grad():
        for name, module, build, why in targets:
            if id(module) in memo:
                continue
            if build is None:
                plan.append((_left(name, module, why), None))
                continue
            fast: Any = build(module, precision)
            note, faster = "forced", True
            if not force:
                times = _trial(module, fast, build, trials)
                faster = times[1] < times[0]
                note = f"{times[0] * 1e3:.2f} ms before, {times[1] * 1e3:.2f} ms after, in a trial"
            if faster:
                note += _sharing(name, module, owners)
                fast = memo[id(module)] = stand_in(module, fast) if isinstance(fast, Packable) else fast
            kernel = fast.kernel if faster else "dense"
            entry = Replacement(name, fast.kind, kernel, fast.kept / fast.weights, fast.macs_per_frame, note)
            plan.append((entry, fast.packing if isinstance(fast, Packed) else None))
    # deepcopy takes a module that it has "copied before" from the memo: replaced modules are never copied
    fast_model = memo.get(id(model)) or copy.deepcopy(model, memo)
    fast_model.requires_grad_(False)
    for module in fast_model.modules():
        if isinstance(module, nn.TransformerEncoder):
            # nested tensors are for torch's fused layers alone, and it asks the first layer only whether all are
            module.use_nested_tensor = False
    return as_accelerated(fast_model, Plan(plan))


def usable(precision: str) -> str:
    """``precision``, or the next best one where this CPU cannot multiply bytes.

    Raises:
        ModelError: an unknown one.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r} is unknown; there are {', '.join(PRECISIONS)}")
    if precision != "int8" or HAS_INT8_DOT:
        return precision
    instead = "bfloat16" if HAS_BF16_DOT else "float32"
    _say_once(f"this CPU has no AVX512-VNNI, which int8 needs: {instead} takes its place")
    return instead


@functools.cache
def _say_once(message: str) -> None:
    logger.warning("%s", message)


Target = tuple[str, nn.Module, Any, str]


def targets_of(module: nn.Module, prefix: str = "") -> list[Target]:
    """Name, module and its runner or why not, for all that has a matrix; not what lies within such a module."""
    if isinstance(module, Accelerated):
        return []
    runner, why = runner_of(module)
    if runner is not None and not why:
        return [(prefix, module, runner, "")]
    if runner is not None and issubclass(runner, Packable):
        return [(prefix, module, None, why)]
    own = [parameter for parameter in module.parameters(recurse=False) if parameter.dim() > 1]
    # attention of torch's own reads the weights of its children itself
    found: list[Target] = [(prefix, module, None, why or no_kernel(module))] if own else []
    if isinstance(module, nn.MultiheadAttention):
        return found
    for name, child in module.named_children():
        found += targets_of(child, f"{prefix}.{name}" if prefix else name)
    return found


def _computed(model: nn.Module) -> dict[int, Any]:
    """Copies of weights that old-style reparametrisations computed, which deepcopy refuses to make, by their ids."""
    tensors = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return {id(tensor): tensor.detach().clone() for tensor in tensors if not tensor.is_leaf}


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Names of the modules that have each matrix."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for weight in module.parameters(recurse=False):
            if weight.dim() > 1:
                owners.setdefault(id(weight), []).append(name)
    return owners


def _sharing(name: str, module: nn.Module, owners: dict[int, list[str]]) -> str:
    others = {other for weight in module.parameters(recurse=False) for other in owners.get(id(weight), ())} - {name}
    return f"; its weight is also that of {', '.join(sorted(others))}, and is kept there as well" if others else ""


def _left(name: str, module: nn.Module, why: str) -> Replacement:
    """A module that stays as it is."""
    weights = [weight for weight in module.parameters() if weight.dim() > 1]
    total = sum(weight.numel() for weight in weights)
    kept = sum(int((weight != 0).sum()) for weight in weights)
    return Replacement(name, type(module).__name__, "dense", kept / total if total else 1.0, 0, why)


def _trial(module: nn.Module, fast: Runner, runner: type[Runner], done: dict[Any, Times]) -> Times:
    """Seconds of the module and of its replacement on an input of ordinary length; once for modules that are alike."""
    key = (type(module), fast.kernel, round(fast.kept / fast.weights, 2), str(module))
    if key not in done:
        given = runner.trial_input(module)
        inputs = given if isinstance(given, tuple) else (given,)
        done[key] = best_time(lambda: module(*inputs), 3), best_time(lambda: fast(*inputs), 3)
    return done[key]


def _on_gpu(model: nn.Module) -> nn.Module:
    fast: Any
    fast, layers = accelerate_on_gpu(model)
    if all(note for _, _, note in layers):
        logger.warning("nothing to gain: no linear layer is kept 2:4; the model is returned as it is")
        return model
    return as_accelerated(fast, Plan([(_semi_structured(*layer), None) for layer in layers]))


def _semi_structured(name: str, layer: nn.Linear, note: str) -> Replacement:
    total = layer.weight.numel()
    kept = int((layer.weight != 0).sum())
    return Replacement(name, "linear", "dense" if note else "semi_structured", kept / total, total, note)
