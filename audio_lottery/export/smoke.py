"""Whether an exported file computes what torch computes: alone at several lengths, and all in one padded batch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.export.recognise import Recogniser, Run
from audio_lottery.models.base import Backbone, Emission
from audio_lottery.models.graph import Graph
from audio_lottery.sparse.benchmark.agreement import Agreement, compare

# Largest difference in float32 as a share of the logits' standard deviation; rounding came to 1e-5.
TOLERANCE = 1e-3
# Lengths whose halves, quarters and so on are whole and not: runtimes differ in how they round a number of frames.
_SECONDS = (0.9, 0.91, *(0.92 + 0.0125 * step for step in range(7)), 2.3)


@dataclass(frozen=True)
class Trial:
    """One batch through both.

    Attributes:
        seconds: of its utterances.
        largest: the largest difference of a logit, over frames that are no padding.
        spread: standard deviation of torch's logits.
        error: root mean square of the differences / spread.
        same_labels: share of frames whose best output is the same.
        same_text: whether both spell the same.
        fault: what is wrong; empty where nothing is.
    """

    seconds: tuple[float, ...]
    largest: float
    spread: float
    error: float
    same_labels: float
    same_text: bool
    fault: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"seconds": list(self.seconds)}


def noise() -> list[np.ndarray]:
    """Utterances of noise that is not centred, so that normalisation shows."""
    return [
        np.random.default_rng(number).normal(0.01, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)
        for number, seconds in enumerate(_SECONDS)
    ]


def graph_inputs(backbone: Backbone, graph: Graph, audio: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
    """What the graph takes of some utterances: the backbone's features, masks as int64."""
    given = backbone.features(audio)
    return tuple(given[name] if given[name].is_floating_point() else given[name].long() for name in graph.names)


def smoke(backbone: Backbone, exported: Recogniser, audio: Sequence[np.ndarray], precision: str) -> list[Trial]:
    """Compare the file on its runtime with the module, in float32 on torch.

    Args:
        backbone: in evaluation mode.
        exported: the file.
        audio: utterances of different lengths; the first two and the last go through alone, then all together.
        precision: float32 or int8.
    """
    graph = backbone.graph()
    alone = [audio[:1], audio[1:2], *([audio[-1:]] if len(audio) > 2 else [])]
    return [_trial(backbone, graph, exported, batch, precision) for batch in (*alone, audio)]


def run_inputs(graph: Graph, run: Run, tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Logits and frames of the exported file."""
    arrays = {name: tensor.numpy() for name, tensor in zip(graph.names, tensors, strict=True)}
    logits, frames = run(arrays)
    return torch.from_numpy(np.asarray(logits)), torch.from_numpy(np.asarray(frames))


def _trial(
    backbone: Backbone, graph: Graph, exported: Recogniser, audio: Sequence[np.ndarray], precision: str
) -> Trial:
    seconds = tuple(len(samples) / SAMPLE_RATE for samples in audio)
    tensors = graph_inputs(backbone, graph, audio)
    with torch.no_grad():
        reference, counts = graph(*tensors)
    found, frames = run_inputs(graph, exported.run, tensors)
    frames = frames.to(torch.long)
    if found.shape != reference.shape or frames.tolist() != counts.tolist():
        shapes = f"logits {tuple(found.shape)} with {frames.tolist()} frames"
        fault = f"{shapes}, where torch has {tuple(reference.shape)} with {counts.tolist()}"
        return Trial(seconds, float("inf"), float(reference.std()), float("inf"), 0.0, False, fault)
    rows = [(row[:count], other[:count]) for row, other, count in zip(found, reference, counts.tolist(), strict=True)]
    agreement = compare(torch.cat([row for row, _ in rows]), torch.cat([other for _, other in rows]), precision)
    spread = float(torch.cat([other for _, other in rows]).std())
    emission = Emission(reference.clone(), counts.tolist())
    texts = [" ".join(hypotheses[0].text.split()) for hypotheses in backbone.search(emission)]
    same = texts == [exported.spell(row.numpy()) for row, _ in rows]
    largest = float("inf") if agreement.largest is None else agreement.largest
    fault = _fault(agreement, largest, spread, precision)
    return Trial(seconds, largest, spread, agreement.share, agreement.same_labels, same, fault)


def _fault(agreement: Agreement, largest: float, spread: float, precision: str) -> str:
    if precision != "float32" or not np.isfinite(largest):
        return agreement.verdict
    if largest > TOLERANCE * spread:
        return f"a logit differs by {largest:.1e}, more than {TOLERANCE:g} of the logits' spread {spread:.2g}"
    return ""
