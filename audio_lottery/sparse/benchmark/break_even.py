"""From which sparsity on a sparse layer pays on this machine, by kind of layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audio_lottery.errors import ConfigError
from audio_lottery.sparse.benchmark import own
from audio_lottery.sparse.benchmark.crossings import Crossings, crossings
from audio_lottery.sparse.benchmark.interleaved import take_turns, torch_threads
from audio_lottery.sparse.benchmark.settings import BenchmarkSettings

SPARSITIES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Layer:
    """A layer of wav2vec2-base (an LSTM of the size that CNN-LSTM recognisers have), on its own.

    Attributes:
        kind: for the table.
        make: the layer.
        shape: frames of wav2vec2's output (50 a second) → shape of the layer's input.
    """

    kind: str
    make: Callable[[], nn.Module]
    shape: Callable[[int], tuple[int, ...]]


LAYERS = (
    Layer("linear 768x768", lambda: nn.Linear(768, 768), lambda frames: (1, frames, 768)),
    Layer("linear 3072x768", lambda: nn.Linear(768, 3072), lambda frames: (1, frames, 768)),
    Layer("linear 768x3072", lambda: nn.Linear(3072, 768), lambda frames: (1, frames, 3072)),
    # the fifth and the last convolution of the front end
    Layer(
        "conv 512x512x3, stride 2",
        lambda: nn.Conv1d(512, 512, 3, 2, bias=False),
        lambda frames: (1, 512, 8 * frames + 7),
    ),
    Layer(
        "conv 512x512x2, stride 2", lambda: nn.Conv1d(512, 512, 2, 2, bias=False), lambda frames: (1, 512, 2 * frames)
    ),
    # after subsampling by two more
    Layer("lstm 512, 512 in", lambda: nn.LSTM(512, 512, batch_first=True), lambda frames: (1, (frames + 1) // 2, 512)),
)


@dataclass(frozen=True)
class BreakEven:
    """One line of the table.

    Attributes:
        kind: of the layer.
        pattern: key of `PATTERNS`.
        precision: of ours.
        dense: seconds of torch by precision.
        sparse: sparsity → seconds of ours.
        crossings: torch's precision → where ours is as fast.
    """

    kind: str
    pattern: str
    precision: str
    dense: dict[str, float]
    sparse: dict[float, float]
    crossings: dict[str, Crossings]


def break_even(
    settings: BenchmarkSettings,
    seconds: float = 10.0,
    layers: Sequence[Layer] = LAYERS,
    sparsities: Sequence[float] = SPARSITIES,
) -> list[BreakEven]:
    """Time every kind of layer at a few sparsities and find where ours crosses torch.

    Layers run on their own, so what packs and unpacks activations around a kernel counts in full.

    Args:
        settings: threads, repeats, patterns, precisions and seed.
        seconds: of audio.
        layers: what is measured.
        sparsities: where it is measured.

    Raises:
        ConfigError: impossible settings.
    """
    settings.check()
    if not seconds >= 0.1:
        raise ConfigError(f"--seconds {seconds:g}: lengths of audio of 0.1 seconds or more are expected")
    found = []
    with torch_threads(settings.threads), torch.random.fork_rng(devices=[]):
        for layer in layers:
            torch.manual_seed(settings.seed)
            found += _of_layer(layer, settings, round(50 * seconds) - 1, sorted(sparsities))
    return found


def _of_layer(layer: Layer, settings: BenchmarkSettings, frames: int, sparsities: Sequence[float]) -> list[BreakEven]:
    module = layer.make().eval()
    inputs = torch.randn(layer.shape(frames))
    half, half_inputs = layer.make().eval().to(torch.bfloat16), inputs.to(torch.bfloat16)
    calls: dict[Any, Callable[[], object]] = {
        "float32": lambda: module(inputs),
        "bfloat16": lambda: half(half_inputs),
    }
    contestants = [(pattern, precision) for pattern in settings.patterns for precision in settings.precisions]
    for pattern in settings.patterns:
        for sparsity in sparsities:
            pruned = own.pruned(module, pattern, sparsity)
            for precision in settings.precisions:
                fast = own.accelerated(pruned, precision, force=True)
                calls[pattern, precision, sparsity] = _bind(fast, inputs)
    times = take_turns(calls, settings.repeats, settings.seed, settings.rest, progress=layer.kind)
    dense = {precision: times[precision].median for precision in ("float32", "bfloat16")}
    lines = []
    for pattern, precision in contestants:
        sparse = {sparsity: times[pattern, precision, sparsity].median for sparsity in sparsities}
        found = {name: crossings(sparse, seconds) for name, seconds in dense.items()}
        lines.append(BreakEven(layer.kind, pattern, precision, dense, sparse, found))
    return lines


def _bind(module: nn.Module, inputs: Tensor) -> Callable[[], object]:
    return lambda: module(inputs)
