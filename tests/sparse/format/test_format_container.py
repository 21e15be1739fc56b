"""The file: the same bytes for the same weights; any damage is told; nothing but what was written is ever read."""

import hashlib
import json
import zlib

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format import container
from audio_lottery.sparse.format.tensors import Entry, decode


def state(seed=0):
    """Unstructured, in blocks, dense, a bias, an integer; two names for one tensor."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(48, 64, generator=generator)
    blocks = (torch.rand(3, 64, generator=generator) < 0.1).repeat_interleave(16, 0)
    head = torch.where(torch.rand(48, 64, generator=generator) < 0.1, weight, 0.0)
    return {
        "first.weight": torch.where(torch.rand(48, 64, generator=generator) < 0.5, weight, 0.0),
        "blocks.weight": torch.where(blocks, weight, 0.0),
        "head.weight": head,
        "tied.weight": head,
        "dense.weight": weight,
        "dense.bias": torch.randn(48, generator=generator),
        "empty.weight": torch.zeros(20, 20),
        "none": torch.zeros(0, 4),
        "steps": torch.tensor(17),
    }


@pytest.mark.parametrize("values", ["fp32", "fp16", "bf16", "int8"])
def test_the_same_weights_give_the_same_bytes(values):
    packed = container.pack(state(), values)
    assert container.pack(state(), values).data == packed.data
    assert container.pack(state(1), values).data != packed.data
    once, _ = container.unpack(packed.data, "file")
    again, _ = container.unpack(packed.data, "file")
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_what_comes_back_is_what_was_saved():
    back, entries = container.unpack(container.pack(state()).data, "file")
    assert back.keys() == state().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state().items())
    assert "tied.weight" not in entries
    assert back["tied.weight"].data_ptr() == back["head.weight"].data_ptr()


def test_order_threads_and_strides_do_not_matter():
    data = container.pack(state()).data
    strided = {name: t.T.contiguous().T if t.ndim == 2 else t for name, t in state().items() if name != "tied.weight"}
    strided["tied.weight"] = strided["head.weight"]
    ordered = {name: strided[name] for name in state()}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert container.pack(ordered).data == data
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("values", ["fp32", "int8"])
def test_every_flipped_bit_is_detected(values):
    data = container.pack(state(), values).data
    header = int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(1)
    places = [*rng.integers(0, 64, 8), *rng.integers(64, 8 * header, 60), *rng.integers(0, 8 * len(data), 100)]
    for place in map(int, places):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(ModelError, match="file"):
            container.unpack(bytes(flipped), "file")


def test_every_truncation_is_detected():
    data = container.pack(state()).data
    for length in [0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1]:
        with pytest.raises(ModelError, match=r"truncated|damaged"):
            container.unpack(data[:length], "file")
    with pytest.raises(ModelError, match="damaged"):
        container.unpack(data + b"\0", "file")


def resealed(data, change):
    """The file with another header, and a digest that fits it: as another program could have written it."""
    with_parts = load(data)
    header = container.read_header(data, "file")
    change(header, with_parts)
    header = {"sha256": "0" * 64, **{key: value for key, value in header.items() if key != "sha256"}}
    written = bytearray(save(with_parts, metadata={container.FORMAT: json.dumps(header)}))
    place = written.index(b"0" * 64)

    written[place : place + 64] = hashlib.sha256(written).hexdigest().encode()
    return bytes(written)


def set_entry(name, **values):
    return lambda header, parts: header["tensors"][name].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, parts: header.update(version=2), "version 2 of the sparse format; this release reads up to 1"),
        (lambda header, parts: header.update(format="other"), "is not a sparse model file"),
        (lambda header, parts: header.pop("tied"), "was not written by audio_lottery"),
        (lambda header, parts: parts.pop("head.weight:positions"), "tensor 'head.weight' is damaged"),
        (lambda header, parts: parts.pop("dense.bias"), "tensor 'dense.bias' is damaged"),
        (lambda header, parts: parts.update(more=torch.zeros(3)), "does not know: more"),
        (lambda header, parts: header["tied"].update(x="nobody"), "does not know: x"),
        (lambda header, parts: parts["dense.bias"].add_(1), "'dense.bias' does not have the bits that were saved"),
        (set_entry("head.weight", kept=3), "tensor 'head.weight' is damaged"),
        (set_entry("head.weight", kept=-3), "was not written by audio_lottery"),
        (set_entry("head.weight", unit=[0, 1]), "was not written by audio_lottery"),
        (set_entry("blocks.weight", unit=[7, 1]), "units of 7x1 do not fit"),
        (set_entry("head.weight", coding="morse"), "tensor 'head.weight' is damaged"),
        (set_entry("head.weight", shape=[4, 4]), "tensor 'head.weight' is damaged"),
        (set_entry("head.weight", stored="float16"), "tensor 'head.weight' is damaged"),
        (set_entry("head.weight", dtype="load"), "tensor 'head.weight' is damaged"),
        (set_entry("dense.bias", stored="float64"), "tensor 'dense.bias' is damaged"),
        (set_entry("dense.bias", dtype="float64"), "'dense.bias' does not have the bits"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ModelError, match=message) as caught:
        container.unpack(resealed(container.pack(state()).data, change), "file")
    assert "\n" not in str(caught.value)


def test_an_unchanged_file_can_be_resealed():
    data = resealed(container.pack(state()).data, lambda header, parts: None)
    assert torch.equal(container.unpack(data, "file")[0]["head.weight"], state()["head.weight"])


def test_other_safetensors_files_are_refused():
    for data in (save({"w": torch.ones(3)}), save({"w": torch.ones(3)}, metadata={"format": "pt"})):
        with pytest.raises(ModelError, match="is not a sparse model file"):
            container.unpack(data, "file")


def test_any_reader_of_safetensors_opens_the_file(tmp_path):
    (tmp_path / "file").write_bytes(container.pack(state()).data)
    with safe_open(tmp_path / "file", framework="pt") as file:
        assert torch.equal(file.get_tensor("dense.weight"), state()["dense.weight"])
        header = json.loads(file.metadata()[container.FORMAT])
        assert file.get_tensor("head.weight").ndim == 1, "values alone do not pass for the weights"
    assert header["tensors"]["head.weight"]["shape"] == [48, 64]
    assert header["tensors"]["head.weight"]["kept"] == int(torch.count_nonzero(state()["head.weight"]))


def test_what_cannot_be_saved():
    with pytest.raises(ModelError, match="'w' has no data"):
        container.pack({"w": torch.zeros(3, device="meta")})
    with pytest.raises(ModelError, match="names that end in :positions"):
        container.pack({"w:positions": torch.zeros(3)})


def test_a_zip_bomb_is_not_unpacked():
    packed = container.pack({"w": torch.where(torch.arange(4096).reshape(64, 64) % 4 == 0, 1.5, 0.0)})
    entry = packed.entries["w"]
    assert entry.coded

    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    blob = bomb.compress(bytes(50_000_000)) + bomb.flush()
    parts = {"w": torch.frombuffer(bytearray(blob), dtype=torch.uint8), "w:positions": load(packed.data)["w:positions"]}
    wrong = Entry(**{**entry.to_dict(), "coded": len(blob)})
    with pytest.raises(ModelError, match="do not hold 1024 values"):
        decode("w", wrong, parts)
