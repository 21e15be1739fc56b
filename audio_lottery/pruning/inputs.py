"""Sums over the inputs that each weight multiplies, seen by forward hooks: L2 norms, and products of all pairs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from audio_lottery.errors import MaskError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Most inputs of a weight whose pairs are summed: 8,192 take half a gigabyte.
_MOST_INPUTS = 8192
# Rows of inputs that are multiplied at once.
_ROWS = 8192
# Windows of a convolution and utterance whose pairs are summed: more of them cost more than they tell.
_WINDOWS = 4096
# Sums of pairs that are added up in float32 before they go to float64, which takes as long as a sum itself.
_RECENT = 16
Sums = Iterator[tuple[str, Tensor]]
Measure = Callable[[Tensor], Tensor]


class InputSums(ABC):
    """Context manager: while it is open, every forward pass adds to what is summed over the inputs of given weights.

    Args:
        model: the model that will run.
        parameters: name → parameter, each a weight of a linear, convolution or recurrent module.

    Raises:
        MaskError: a parameter whose inputs no forward hook sees.
    """

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        names = {id(parameter): name for name, parameter in parameters.items()}
        self._order = list(parameters)
        self._totals: dict[str, Tensor] = {}
        self._watched: list[tuple[nn.Module, Callable[..., Sums], dict[str, str]]] = []
        self._hooks: list[Any] = []
        for module in model.modules():  # a tied weight has several modules: the inputs of all of them count
            own = {local: names[id(p)] for local, p in module.named_parameters(recurse=False) if id(p) in names}
            if own:
                self._watched.append((module, self._reader(module, own), own))

    @staticmethod
    @abstractmethod
    def measure(values: Tensor) -> Tensor:
        """What is summed over rows of inputs, float64."""

    @staticmethod
    @abstractmethod
    def convolution(module: Any, values: Tensor, _: Any) -> Sums:
        """The same over the windows of a convolution, in the order of ``weight.reshape(out, -1)``."""

    def add(self, name: str, sums: Tensor) -> None:
        """Add to the total of a parameter; ``sums`` may be kept."""
        if name in self._totals:
            self._totals[name] += sums
        else:
            self._totals[name] = sums

    def finish(self, total: Tensor) -> Tensor:
        """What is asked for, of the sum."""
        return total

    def __enter__(self) -> "InputSums":
        for module, reader, own in self._watched:
            self._hooks.append(module.register_forward_pre_hook(self._hook(reader, own), with_kwargs=True))
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def result(self) -> dict[str, Tensor]:
        """Parameter name → what was summed, float32 on the CPU.

        Raises:
            MaskError: a module was never called (its weight is used by other code, or not at all), or saw values that
                are not finite.
        """
        unseen = [name for name in self._order if name not in self._totals]
        if unseen:
            raise MaskError(
                f"the forward pass never called the module of {', '.join(unseen)}, so its inputs cannot be seen; "
                "leave it out of the scope, or score by something else than activations"
            )
        wrong = [name for name in self._order if not torch.isfinite(self._totals[name]).all()]
        if wrong:
            raise MaskError(f"inputs of {', '.join(wrong)} are NaN or infinite on the calibration set")
        return {name: self.finish(self._totals[name]).float().cpu() for name in self._order}

    def _hook(self, reader: Callable[..., Sums], own: dict[str, str]) -> Callable[..., None]:
        @torch.no_grad()
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = args[0] if args else kwargs["input"]
            state = args[1] if len(args) > 1 else kwargs.get("hx")
            for local, sums in reader(module, values, state):
                if local in own:
                    self.add(own[local], sums)

        return hook

    def _reader(self, module: nn.Module, own: Mapping[str, str]) -> Callable[..., Sums]:
        if isinstance(module, nn.Linear):
            reader: Callable[..., Sums] = partial(_linear, self.measure)
            known = set(own) <= {"weight"}
        elif isinstance(module, _CONVOLUTIONS):
            reader = self.convolution
            known = set(own) <= {"weight"}
        elif isinstance(module, nn.RNNBase):
            reader = partial(_recurrent, self.measure)
            known = all(local.startswith(("weight_ih", "weight_hh")) for local in own)
        else:
            raise MaskError(
                f"{', '.join(own.values())}: the inputs of a {type(module).__name__} cannot be seen by a hook; leave "
                "it out of the scope, or score by something else than activations"
            )
        if not known:
            raise MaskError(
                f"{', '.join(own.values())}: only the inputs of weights of a {type(module).__name__} can be seen, not "
                "those of biases and LSTM projections (weight_hr); leave them out of the scope"
            )
        return reader


class InputNorms(InputSums):
    """L2 norms; shapes are those that `audio_lottery.pruning.calibrate.collect` states."""

    @staticmethod
    def measure(values: Tensor) -> Tensor:
        """Sum of squares per feature (the last dimension)."""
        return _rows(values).square().sum(0, dtype=torch.float64)

    @staticmethod
    def convolution(module: Any, values: Tensor, _: Any) -> Sums:
        """Without writing the windows out: squaring and summing commute."""
        kernel = module.kernel_size
        squared = _padded(module, values.float().square())
        columns = torch.empty(squared.shape[1], prod(kernel), dtype=torch.float64, device=values.device)
        for column, offsets in enumerate(product(*(range(size) for size in kernel))):
            window = squared
            for axis, (offset, size, step, spread) in enumerate(
                zip(offsets, kernel, module.stride, module.dilation, strict=True), 2
            ):
                last = squared.shape[axis] - spread * (size - 1)  # one past the last start of the kernel
                start = offset * spread
                window = window[(slice(None),) * axis + (slice(start, start + last, step),)]
            columns[:, column] = window.sum((0, *range(2, window.ndim)), dtype=torch.float64)
        per_group = columns.reshape(module.groups, -1)
        per_output = per_group.repeat_interleave(module.out_channels // module.groups, 0)
        yield "weight", per_group[0] if module.groups == 1 else per_output

    def finish(self, total: Tensor) -> Tensor:
        """Root of the sum, which rounding may have left below zero."""
        return total.clamp_min(0.0).sqrt()


class InputGrams(InputSums):
    """Σ x xᵀ over all inputs x; shapes are those that `audio_lottery.pruning.calibrate.collect` states."""

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__(model, parameters)
        self._recent: dict[str, tuple[Tensor, int]] = {}

    def add(self, name: str, sums: Tensor) -> None:
        """Add to what came last, and that to the total when it is `_RECENT` sums."""
        recent, count = self._recent.pop(name, (None, 0))
        if recent is None:
            recent = sums
        elif recent.dtype == sums.dtype:
            recent += sums
        else:  # one of them is of so many rows that it is float64 already
            recent = recent + sums
        if count + 1 < _RECENT:
            self._recent[name] = recent, count + 1
        else:
            super().add(name, recent.double())

    def result(self) -> dict[str, Tensor]:
        """See `InputSums.result`."""
        for name, (recent, _) in self._recent.items():
            super().add(name, recent.double())
        self._recent.clear()
        return super().result()

    @staticmethod
    def measure(values: Tensor) -> Tensor:
        """[in, in], float32 of up to `_ROWS` rows, and of more summed in float64 over products in float32."""
        rows = _rows(values)
        if rows.shape[1] > _MOST_INPUTS:
            raise MaskError(
                f"a weight with {rows.shape[1]} inputs has {rows.shape[1] ** 2 * 8 / 1e9:.1f} GB of products of pairs; "
                "leave it out of the scope, or score by something else than obs"
            )
        first, *others = rows.split(_ROWS)
        total = first.T @ first
        if others:
            total = total.double()
        for part in others:
            total += part.T @ part
        return total

    @staticmethod
    def convolution(module: Any, values: Tensor, _: Any) -> Sums:
        """[in, in], or [groups, in, in]: windows of one utterance after the other.

        Of more than `_WINDOWS`, every second, third … along the longest axis stands for those between.
        """
        for item in _padded(module, values.float()):
            windows = item
            for axis, (size, step, spread) in enumerate(
                zip(module.kernel_size, module.stride, module.dilation, strict=True), 1
            ):
                windows = windows.unfold(axis, spread * (size - 1) + 1, step)[..., ::spread]
            axes = len(module.kernel_size)  # now [channels, *positions, *kernel]
            positions = windows.shape[1 : axes + 1]
            longest = positions.index(max(positions))
            each = ceil(prod(positions) / _WINDOWS)
            windows = windows[(slice(None),) * (longest + 1) + (slice(None, None, each),)]
            share = positions[longest] / windows.shape[longest + 1]
            windows = windows.movedim(0, axes).flatten(0, axes - 1).flatten(1)
            groups = windows.unflatten(1, (module.groups, -1)).unbind(1)
            found = torch.stack([InputGrams.measure(group) for group in groups])
            if share > 1:
                found *= share
            yield "weight", found[0] if module.groups == 1 else found


def _rows(values: Tensor) -> Tensor:
    """[positions, features] in float32."""
    return values.reshape(values.numel() // max(1, values.shape[-1]), values.shape[-1]).float()


def _padded(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, values: Tensor) -> Tensor:
    """A batch as the layer pads it."""
    if values.ndim == len(module.kernel_size) + 1:
        values = values.unsqueeze(0)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    # torch's own list, which also knows what "same" and "valid" mean
    return functional.pad(values, module._reversed_padding_repeated_twice, mode=mode)


def _linear(measure: Measure, module: nn.Linear, values: Tensor, _: Any) -> Sums:
    yield "weight", measure(values)


def _recurrent(measure: Measure, module: nn.RNNBase, values: Tensor | PackedSequence, state: Any) -> Sums:
    """Inputs and hidden states of every layer: the layers run once more, one by one, to see what lies between them."""
    directions = 2 if module.bidirectional else 1
    width = module.proj_size or module.hidden_size
    for layer in range(module.num_layers):
        own = slice(layer * directions, (layer + 1) * directions)
        before = None if state is None else tuple(s[own] for s in state) if isinstance(state, tuple) else state[own]
        outputs, after = _single_layer(module, layer)(values, before)
        first = before[0] if isinstance(before, tuple) else before
        last = after[0] if isinstance(after, tuple) else after
        seen = outputs.data if isinstance(outputs, PackedSequence) else outputs
        for direction in range(directions):
            suffix = f"l{layer}{'_reverse' if direction else ''}"
            yield f"weight_ih_{suffix}", measure(values.data if isinstance(values, PackedSequence) else values)
            # The recurrent weights see the state before each step: every output but the last, and the first state.
            hidden = measure(seen[..., direction * width : (direction + 1) * width]) - measure(last[direction])
            if first is not None:
                hidden = hidden + measure(first[direction])
            yield f"weight_hh_{suffix}", hidden
        values = outputs


def _single_layer(module: nn.RNNBase, layer: int) -> nn.RNNBase:
    """Layer ``layer`` of ``module`` as a module of its own, sharing the weights."""
    directions = 2 if module.bidirectional else 1
    options: dict[str, Any] = {
        "bias": module.bias,
        "batch_first": module.batch_first,
        "bidirectional": module.bidirectional,
        "device": "meta",  # no memory, no random numbers: the weights are set below
    }
    kind: type[nn.RNNBase]
    if isinstance(module, nn.LSTM):
        kind = nn.LSTM
        options["proj_size"] = module.proj_size
    elif isinstance(module, nn.GRU):
        kind = nn.GRU
    else:
        kind = nn.RNN
        options["nonlinearity"] = module.mode.removeprefix("RNN_").lower()
    width = (module.proj_size or module.hidden_size) * directions
    single = kind(module.input_size if layer == 0 else width, module.hidden_size, **options)
    for name, _ in list(single.named_parameters()):
        setattr(single, name, getattr(module, name.replace("_l0", f"_l{layer}")))
    return single.eval()
