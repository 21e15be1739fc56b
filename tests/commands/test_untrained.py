"""Commands that train nothing refuse a model with anything random in it, before they measure."""

import json

import pytest
from safetensors.torch import load_file, save_file

from audio_lottery.commands import bench, compress, evaluate, tune_decoder
from audio_lottery.errors import ModelError
from tests.sparse.format.conftest import tiny_backbone


@pytest.fixture(scope="module")
def renamed(tmp_path_factory):
    """A CTC checkpoint whose output layer has another name."""
    folder = tmp_path_factory.mktemp("renamed")
    tiny_backbone().save(folder)
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace("lm_head", "classifier"): tensor for name, tensor in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """An encoder with a tokenizer."""
    folder = tmp_path_factory.mktemp("bare")
    backbone = tiny_backbone()
    backbone.module.wav2vec2.save_pretrained(folder)
    backbone.processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("command", [evaluate, tune_decoder, compress, bench])
@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("renamed", r"lacks 2 weights of Wav2Vec2ForCTC \(lm_head\.bias, lm_head\.weight\), which would be random; "),
        ("bare", r"is Wav2Vec2Model, not a CTC model: its output layer would be random; fine-tune it first$"),
        ("w2v2-mini", r"^'w2v2-mini' is a preset with random weights; give a folder or Hub id of a trained model$"),
    ],
)
def test_nothing_is_measured_with_random_weights(command, model, line, tiny_corpus, tmp_path, request):
    checkpoint = model if model == "w2v2-mini" else str(request.getfixturevalue(model))
    data = json.dumps([{"corpus": "jsonl", "split": "test", "path": str(tiny_corpus)}])
    options = {
        evaluate: ["--data.test", data, "--out", str(tmp_path / "out")],
        tune_decoder: ["--data.dev", data, "--lm", str(tiny_corpus / "lm.arpa"), "--out", str(tmp_path / "out.yaml")],
        compress: [str(tmp_path / "out"), "--test", str(tiny_corpus / "test.jsonl")],
        bench: ["--repeats", "1", "--threads", "1", "--runtimes", "torch", "--json", str(tmp_path / "out")],
    }
    with pytest.raises(ModelError, match=line):
        command.main([checkpoint, *options[command]])
    assert not list(tmp_path.iterdir())
