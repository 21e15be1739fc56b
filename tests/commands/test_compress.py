"""``audio-lottery compress``: sizes, what is lossy, WER before and after or the command that measures it."""

import json

import pytest

from audio_lottery.commands.compress import main
from audio_lottery.errors import ConfigError, ModelError
from audio_lottery.models.load import load_folder
from audio_lottery.sparse.format import FILE, load
from tests.sparse.format.conftest import tiny_backbone


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_backbone().save(folder)
    return folder


def test_exact(checkpoint, tmp_path, capsys):
    main([str(checkpoint), str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "exact: what loads is the weights, bit for bit" in printed
    size = (tmp_path / "out" / FILE).stat().st_size
    assert f"{size:,} bytes" in printed
    assert "WER" not in printed
    original, loaded = (folder.module.state_dict() for folder in map(load_folder, (checkpoint, tmp_path / "out")))
    assert all(t.numpy().tobytes() == loaded[name].numpy().tobytes() for name, t in original.items())
    load(tmp_path / "out")


def test_lossy_without_test_data_says_what_was_not_measured(checkpoint, tmp_path, capsys):
    main([str(checkpoint), str(tmp_path / "out"), "--values", "int8", "--tensors"])
    printed = capsys.readouterr().out
    assert "rounded to int8" in printed
    assert "WER was not measured again" in printed
    assert f"audio-lottery evaluate {tmp_path / 'out'} --data.test" in printed
    assert "wav2vec2.encoder.layers.0.attention.k_proj.weight" in printed


@pytest.mark.parametrize("how", ["file", "name", "data.test"])
def test_wer_before_and_after(checkpoint, tiny_corpus, tmp_path, capsys, how):
    named = {
        "file": ["--test", str(tiny_corpus / "test.jsonl")],
        "name": ["--test", f"jsonl:test:{tiny_corpus}"],
        "data.test": ["--data.test", json.dumps([{"corpus": "jsonl", "split": "test", "path": str(tiny_corpus)}])],
    }
    main([str(checkpoint), str(tmp_path / "out"), "--values", "fp16", "--suites", "clean", *named[how]])
    printed = capsys.readouterr().out
    assert "WER was not measured" not in printed
    header, ruler, line = printed.splitlines()[-3:]
    assert header.split()[:5] == ["suite", "WER", "%", "before", "95"]
    assert set(ruler) == {"-", " "}
    assert line.startswith("clean")
    assert float(line.split()[1]) > 0


def test_a_dense_model_is_told_that_there_is_nothing_to_gain(tmp_path, capsys):
    backbone = tiny_backbone(density=1.0)
    for parameter in backbone.module.parameters():  # biases start as zeros
        parameter.data.add_(0.1)
    backbone.save(tmp_path / "dense")
    main([str(tmp_path / "dense"), str(tmp_path / "out")])
    assert "no tensor has enough zeros to gain from positions and values" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--values", "fp8"], ConfigError, "--values fp8 is unknown; there are fp32, bf16, fp16, int8"),
        (["--test", "librispeech"], ConfigError, "--test librispeech is neither FILE.jsonl nor CORPUS:SPLIT"),
        (["--valeus", "fp16"], ConfigError, "valeus"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(checkpoint, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        main([str(checkpoint), str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_models_that_are_none(checkpoint, tmp_path):
    with pytest.raises(ModelError, match="is a preset with random weights"):
        main(["w2v2-mini", str(tmp_path / "out")])
    with pytest.raises(ModelError, match="cannot be loaded"):
        main([str(tmp_path / "nothing"), str(tmp_path / "out")])
    encoder = tmp_path / "encoder"
    backbone = tiny_backbone()
    backbone.module.wav2vec2.save_pretrained(encoder)
    backbone.processor.save_pretrained(encoder)
    with pytest.raises(ModelError, match="is Wav2Vec2Model, not a CTC model"):
        main([str(encoder), str(tmp_path / "out")])
    with pytest.raises(ModelError, match="exists and is not an earlier"):
        main([str(checkpoint), str(checkpoint)])
    assert not (tmp_path / "out").exists()
