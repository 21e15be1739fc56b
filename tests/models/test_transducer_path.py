"""The best path of a transducer's lattice, against all paths there are; what the module says along it."""

from collections.abc import Iterator

import pytest
import torch

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.load import load_backbone
from audio_lottery.models.transducer import path
from audio_lottery.models.transducer.path import best_paths, output_parts, outputs_along

Nodes = list[tuple[int, int]]
TINY = {"decoder_hidden_size": 8}
MODELS = {
    "rnn-t": ModelConfig(
        init="rnnt-mini", overrides=TINY | {"hidden_size": 12, "num_hidden_layers": 2, "time_reduction": [2, 3]}
    ),
    "tdt": ModelConfig(
        init="parakeet-tdt-mini",
        overrides=TINY
        | {
            "encoder_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 24,
                "subsampling_factor": 8,
                "subsampling_conv_channels": 4,
            }
        },
    ),
}


def all_paths(frames: int, labels: list[int], durations: list[int] | None, at=(0, 0)) -> Iterator[list[tuple]]:
    """Every way through a lattice, as steps (frame, labels before, output, index of the duration)."""
    frame, written = at
    if frame == frames:
        if written == len(labels):
            yield []
        return
    ways: list[tuple[int | None, int, int | None]] = (
        [(None, 1, None), (written, 0, None)]
        if durations is None
        else [(None, d, i) for i, d in enumerate(durations) if d] + [(written, d, i) for i, d in enumerate(durations)]
    )
    for label, jump, index in ways:
        after = (frame + jump, written + (label is not None))
        if after[0] > frames or after[1] > len(labels) or (after[0] == frames and label is not None):
            continue
        output = None if label is None else labels[label]
        for rest in all_paths(frames, labels, durations, after):
            yield [(frame, written, output, index), *rest]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("cells", [1, 2**20])
def test_the_best_of_all_paths(kind, cells):
    module = load_backbone(MODELS[kind], seed=3).module.eval()
    durations = list(module.config.durations) if kind == "tdt" else None
    generator = torch.Generator().manual_seed(0)
    encoded = 3 * torch.randn(3, 4, 8, generator=generator)
    labels = [torch.tensor([4, 4, 7]), torch.tensor([5]), torch.tensor([9, 3])]
    frames = torch.tensor([4, 3, 2])
    module.requires_grad_(False)
    found, points = best_paths(module, encoded, frames, labels, cells)
    assert output_parts(module) == (() if durations is None else (module.config.vocab_size, len(durations)))
    logits = outputs_along(module, encoded, labels, found)
    assert logits.shape == (3, int(points.max()), module.joint.head.out_features)
    for row, (count, target) in enumerate(zip(frames.tolist(), labels, strict=True)):
        decoded = module.decoder(torch.cat([torch.tensor([module.config.blank_token_id]), target])[None])
        joint = module.joint(decoded[:, None], encoded[row : row + 1, :, None])[0]
        outputs = joint[..., : module.config.vocab_size].log_softmax(-1)
        times = joint[..., module.config.vocab_size :].log_softmax(-1)

        def score(steps, outputs=outputs, times=times) -> float:
            total = 0.0
            for frame, written, output, index in steps:
                total += float(outputs[frame, written, module.config.blank_token_id if output is None else output])
                total += 0.0 if index is None else float(times[frame, written, index])
            return total

        best = max(all_paths(count, target.tolist(), durations), key=score)
        nodes: Nodes = [(frame, written) for frame, written, _, _ in best]
        assert [tuple(node) for node in found[row, : points[row]].tolist()] == nodes
        for place, (frame, written) in enumerate(nodes):
            assert torch.allclose(logits[row, place], joint[frame, written], atol=1e-5)


def test_durations_that_cannot_end_there_are_refused():
    scores = torch.zeros(1, 3, 2)
    with pytest.raises(ModelError, match="no path of 1 labels ends behind frame 3; the model's durations"):
        path._search([path._Step(0, 2, scores), path._Step(1, 2, scores)], [3], [1])
