"""`load_accelerated`: the accelerated model of a sparse file, without the dense one."""

import json

import pytest
import torch

from audio_lottery.errors import ModelError
from audio_lottery.sparse import accelerate, load_accelerated
from audio_lottery.sparse.format import save
from audio_lottery.sparse.format.folder import FILE
from audio_lottery.sparse.format.reader import SparseFile
from audio_lottery.sparse.runtime.conformer import ConformerEncoder
from audio_lottery.sparse.runtime.modules import weights_of
from tests.sparse.runtime.test_runtime_families import LENGTHS, emissions, recogniser


def saved(name, folder):
    backbone = recogniser(name)
    save(backbone.module, folder)
    return backbone


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["conformer", "parakeet-rnnt", "cnn_lstm", "transducer of one direction"])
def test_it_is_what_accelerate_makes(name, precision, tmp_path):
    backbone = saved(name, tmp_path / "model")
    audio = [torch.randn(length, generator=torch.Generator().manual_seed(length)).numpy() for length in LENGTHS]
    expected, found = (
        emissions(type(backbone)(module, backbone.processor), audio)[0]
        for module in (
            accelerate(backbone.module, precision=precision, force=True),
            load_accelerated(tmp_path / "model", precision=precision),
        )
    )
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


def test_plan_and_what_is_left(tmp_path):
    backbone = saved("conformer", tmp_path / "model")
    fast = load_accelerated(tmp_path / "model")
    assert [entry.name for entry in fast.plan] == ["encoder", "ctc_head"]
    assert isinstance(fast.encoder, ConformerEncoder)
    assert not any(parameter.is_meta for parameter in fast.parameters())
    with pytest.raises(ModelError, match="save the model it was made from"):
        fast.state_dict()
    with weights_of(backbone.module):  # nothing is read: it has its numbers
        pass


@pytest.mark.parametrize("name", ["conformer", "parakeet-rnnt", "cnn_lstm"])
def test_what_may_be_words_is_read_to_be_looked_at(name, tmp_path, monkeypatch):
    monkeypatch.setattr("audio_lottery.sparse.runtime.words._WIDE", 1)
    backbone = saved(name, tmp_path / "model")
    expected, found = accelerate(backbone.module, force=True).plan, load_accelerated(tmp_path / "model").plan
    assert [(entry.name, entry.kernel) for entry in found] == [(entry.name, entry.kernel) for entry in expected]


def test_one_layer_at_a_time(tmp_path, monkeypatch):
    """No more than a layer's weights are dense at any time."""
    saved("conformer with relu", tmp_path / "model")
    sizes = []
    read = SparseFile.read

    def counted(self, names):
        found = read(self, names)
        sizes.append(sum(tensor.numel() for tensor in found.values()))
        return found

    monkeypatch.setattr(SparseFile, "read", counted)
    fast = load_accelerated(tmp_path / "model")
    assert max(sizes) < 0.5 * fast.encoder.weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / FILE).unlink(), f"has no {FILE}"),
        (lambda folder: _damage(folder / FILE), "is damaged"),
        (lambda folder: _config(folder, hidden_size=24), "does not fit ParakeetForCTC of its config.json: of another"),
        (lambda folder: _config(folder, num_hidden_layers=2), "missing: encoder.layers.1"),
    ],
)
def test_refused_files(change, message, tmp_path):
    saved("conformer", tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(ModelError, match=message):
        load_accelerated(tmp_path / "model")


def test_unknown_precision(tmp_path):
    with pytest.raises(ModelError, match="precision 'int4' is unknown"):
        load_accelerated(tmp_path, precision="int4")


def _damage(file):
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)


def _config(folder, **fields):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["encoder_config"] |= fields
    path.write_text(json.dumps(config))
