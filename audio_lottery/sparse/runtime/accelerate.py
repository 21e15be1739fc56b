"""`accelerate`: a copy of a sparse model whose layers run on the kernels where that is faster."""

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.runtime.convolution import SparseConv1d
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.lstm import SparseLSTM
from audio_lottery.sparse.runtime.matrix import best_time
from audio_lottery.sparse.runtime.modules import Accelerated
from audio_lottery.sparse.runtime.semi_structured import accelerate_on_gpu
from audio_lottery.sparse.runtime.threads import recording
from audio_lottery.sparse.runtime.wav2vec2 import runner_for

logger = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16")
# Below this share of zeros a model counts as dense.
_DENSE = 0.01
# Frames of the trial that decides whether a layer is replaced: two seconds of most recognisers' frames, and a second
# of audio for a front end.
_FRAMES, _SAMPLES = 100, 16000


@dataclass(frozen=True)
class Replacement:
    """What became of one module.

    Attributes:
        name: the module's name in the model.
        kind: "linear", "convolution", "lstm" or "encoder".
        kernel: "csr", "block16x1", … or "dense" where the module was left as it is.
        density: kept / all of its weights.
        macs_per_frame: multiply-adds of the dense module for one of its output frames (0 where it has several rates).
        note: why it was left, or what was measured.
    """

    name: str
    kind: str
    kernel: str
    density: float
    macs_per_frame: int
    note: str


def accelerate(model: nn.Module, *, precision: str = "float32", force: bool = False) -> nn.Module:
    """A model that computes the same, faster where weights are zero; ``model`` stays as it is.

    The encoder and the front end of wav2vec2-like models run as a whole; elsewhere linear layers, one-dimensional
    convolutions and LSTMs are replaced one by one, each only where a trial on this machine is faster than the module.
    Kept weights are copied once; the dense ones are freed with ``model``. Threads follow `torch.get_num_threads`.

    On an NVIDIA GPU, linear layers kept 2:4 use its sparse matrix units (`semi_structured`).

    Args:
        model: in evaluation mode, float32, on the CPU (or in half precision on a GPU); pruned weights are zeros.
        precision: "float32": outputs as those of ``model`` up to rounding. "bfloat16": attention, and weights kept in
            whole 16×2 blocks, are multiplied in bfloat16 and summed in float32, where the CPU can.
        force: replace every module that can be, measured or not.

    Returns:
        The new model, with the list of `Replacement` as its ``plan`` and ``profile(inputs)``, the seconds that its
        parts take; ``model`` itself if it has nothing to gain.

    Raises:
        ModelError: in training mode, not float32 on the CPU, an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r} is unknown; there are {', '.join(PRECISIONS)}")
    if model.training:
        raise ModelError("the model is in training mode; an accelerated model only infers: call model.eval() first")
    if any(parameter.is_cuda for parameter in model.parameters()):
        return _on_gpu(model)
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            raise ModelError(f"'{name}' is {parameter.dtype} on {parameter.device}; call model.float().cpu() first")
    targets = list(_targets(model))
    weights = [
        weight
        for _, module, build in targets
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
    memo: dict[int, Any] = {}
    plan = []
    trials: dict[Any, tuple[float, float]] = {}
    with torch.no_grad():
        for name, module, build in targets:
            if id(module) in memo:
                continue
            if build is None:
                plan.append(_left(name, module))
                continue
            fast = build(module, precision)
            note, faster = "forced", True
            if not force:
                times = _trial(name, module, fast, trials)
                faster = times[1] < times[0]
                note = f"{times[0] * 1e3:.2f} ms before, {times[1] * 1e3:.2f} ms after, in a trial"
            if faster:
                memo[id(module)] = fast
            kernel = fast.kernel if faster else "dense"
            plan.append(Replacement(name, fast.kind, kernel, fast.kept / fast.weights, fast.macs_per_frame, note))
    # deepcopy takes a module that it has "copied before" from the memo: replaced modules are never copied
    fast_model = memo.get(id(model)) or copy.deepcopy(model, memo)
    fast_model.requires_grad_(False)
    fast_model.plan = plan
    fast_model.profile = partial(_profile, fast_model)
    if hasattr(fast_model, "save_pretrained"):
        fast_model.save_pretrained = _refuse_to_save
    if hasattr(fast_model, "forward") and not isinstance(fast_model, Accelerated):
        fast_model.register_forward_pre_hook(_refuse_inner_states, with_kwargs=True)
    return fast_model


Build = Callable[[Any, str], Accelerated]
_KINDS: dict[type[nn.Module], Build] = {
    nn.Linear: SparseLinear,
    nn.Conv1d: SparseConv1d,
    nn.LSTM: SparseLSTM,
}


def _targets(module: nn.Module, prefix: str = "") -> "list[tuple[str, nn.Module, Build | None]]":
    """Name, module and how to replace it, for everything with a matrix; not what lies within such a module."""
    runner = runner_for(module)
    if runner is not None:
        return [(prefix, module, runner)]
    build = _KINDS.get(type(module))  # a subclass may do more than its base
    if build is not None:
        fits = not (isinstance(module, nn.Conv1d) and module.padding_mode != "zeros")
        return [(prefix, module, build if fits and not getattr(module, "proj_size", 0) else None)]
    own = [parameter for parameter in module.parameters(recurse=False) if parameter.dim() > 1]
    # attention of torch's own reads the weights of its children itself
    found: list[tuple[str, nn.Module, Build | None]] = [(prefix, module, None)] if own else []
    if isinstance(module, nn.MultiheadAttention):
        return found
    for name, child in module.named_children():
        found += _targets(child, f"{prefix}.{name}" if prefix else name)
    return found


def _left(name: str, module: nn.Module) -> Replacement:
    """A module that there is no kernel for; it stays as it is."""
    weights = [weight for weight in module.parameters() if weight.dim() > 1]
    total = sum(weight.numel() for weight in weights)
    kept = sum(int((weight != 0).sum()) for weight in weights)
    kind = type(module).__name__
    return Replacement(name, kind, "dense", kept / total, 0, f"no kernel for {kind}: it runs as it is")


def _trial(
    name: str, module: nn.Module, fast: Accelerated, done: dict[Any, tuple[float, float]]
) -> tuple[float, float]:
    """Seconds of the module and of its replacement on an input of ordinary length; once for modules that are alike."""
    key = (type(module), fast.kernel, round(fast.kept / fast.weights, 2), str(module))
    if key not in done:
        inputs = _input(module)
        done[key] = best_time(lambda: module(inputs), 3), best_time(lambda: fast(inputs), 3)
    return done[key]


def _input(module: Any) -> Tensor:
    if isinstance(module, nn.Linear):
        return torch.randn(_FRAMES, module.in_features)
    if isinstance(module, nn.Conv1d):
        reach = (module.kernel_size[0] - 1) * module.dilation[0]
        return torch.randn(1, module.in_channels, _FRAMES * module.stride[0] + reach)
    if isinstance(module, nn.LSTM):
        shape = (1, _FRAMES) if module.batch_first else (_FRAMES, 1)
        return torch.randn(*shape, module.input_size)
    if hasattr(module, "conv_layers"):
        return torch.randn(1, _SAMPLES)
    return torch.randn(1, _FRAMES, module.config.hidden_size)


def _on_gpu(model: nn.Module) -> nn.Module:
    fast: Any
    fast, layers = accelerate_on_gpu(model)
    if all(note for _, _, note in layers):
        logger.warning("nothing to gain: no linear layer is kept 2:4; the model is returned as it is")
        return model
    fast.plan = [
        Replacement(
            name,
            "linear",
            "dense" if note else "semi_structured",
            int((layer.weight != 0).sum()) / layer.weight.numel(),
            layer.weight.numel(),
            note,
        )
        for name, layer, note in layers
    ]
    return fast


def _profile(model: nn.Module, *inputs: Any, **options: Any) -> list[tuple[str, float]]:
    """Seconds by part of one call, longest first; what is in no part (norms, copies, modules left as they are) last."""
    with torch.no_grad(), recording() as times:
        begin = time.perf_counter()
        model(*inputs, **options)
        total = time.perf_counter() - begin
    rest = total - sum(times.values())
    return [*sorted(times.items(), key=lambda item: -item[1]), ("everything else", rest)]


def _refuse_to_save(*arguments: object, **options: object) -> None:
    raise ModelError(
        "an accelerated model has packed weights: save the model it was made from (`audio-lottery compress`)"
    )


def _refuse_inner_states(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    config = getattr(module, "config", None)
    for name in ("output_attentions", "output_hidden_states"):
        wanted = options.get(name)
        if wanted or (wanted is None and getattr(config, name, False)):
            raise ModelError(f"{name}: an accelerated model keeps no inner states; ask the model it was made from")
