"""Models of known sizes: random, yet alive."""

import pytest
import torch
from transformers import AutoModelForCTC, AutoModelForRNNT

from audio_lottery.models.cnn_lstm import CnnLstm
from audio_lottery.models.conformer import Conformer
from audio_lottery.models.shapes import SHAPES, _subject
from audio_lottery.models.transducer import Transducer

MINI = {
    "conformer": (Conformer.presets["conformer-mini"], AutoModelForCTC, "ctc_head", 64),
    "cnn_lstm": (CnnLstm.presets["cnn-lstm-mini"], AutoModelForCTC, "lm_head", 161),
    "transducer": (Transducer.presets["rnnt-mini"], AutoModelForRNNT, "joint.head", 40),
}


@pytest.mark.parametrize("name", MINI)
def test_outputs_follow_the_input_and_the_seed(name):
    state = torch.random.get_rng_state()
    one, again, other = (_subject(name, *MINI[name], seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    with torch.inference_mode():
        found, same, another = (
            subject.logits(subject.model)(subject.make_inputs(1.5)) for subject in (one, again, other)
        )
        louder = one.logits(one.model)(one.make_inputs(1.5) * 2)
    assert torch.equal(found, same)
    assert found.shape == another.shape
    assert 1.5 < float(found.std()) < 6
    # along the frames, not only from output to output
    assert float(found.flatten(0, -2).std(0).mean()) > 0.1
    assert float((found - louder).abs().mean()) > 0.1
    assert not any(module.training for module in one.model.modules())


def test_names_and_sizes():
    assert list(SHAPES) == ["wav2vec2-base", "parakeet-ctc-0.6b", "conformer-small", "cnn-lstm", "rnnt"]
    subject = SHAPES["conformer-small"](0)
    assert subject.make_inputs(2.0).shape == (1, 200, 64)
    assert 3e6 < sum(parameter.numel() for parameter in subject.model.parameters()) < 4e6
