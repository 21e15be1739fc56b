"""The mask contract: validated, bit-packed on disk, comparable by hash."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from audio_lottery.errors import MaskError, StorageError
from audio_lottery.pruning import Mask


def random_mask(seed: int, shapes: list[tuple[int, ...]]) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask({f"layer{i}.weight": torch.rand(shape, generator=generator) < 0.4 for i, shape in enumerate(shapes)})


@given(st.integers(0, 1000), st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_file_round_trip(tmp_path_factory, seed, shapes):
    mask = random_mask(seed, shapes)
    path = tmp_path_factory.mktemp("mask") / "mask.safetensors"
    mask.save(path)
    loaded = Mask.load(path)
    assert list(loaded) == list(mask)
    assert all(torch.equal(loaded[name], mask[name]) for name in mask)
    assert loaded.sha256() == mask.sha256()


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_may_be_strings_and_relative(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    mask = random_mask(0, [(3, 5)])
    for path in ("file", "new folder/mask.safetensors", str(tmp_path / "absolute")):
        mask.save(kind(path))
        assert Mask.load(kind(path)) == mask
    with pytest.raises(MaskError, match="none cannot be read as a mask"):
        Mask.load(kind("none"))
    with pytest.raises(StorageError, match=r"cannot write new folder: .*[Dd]irectory"):
        mask.save(kind("new folder"))
    with pytest.raises(StorageError, match=r"cannot write '\.': it names no file"):
        mask.save(kind(""))


def test_a_weight_takes_one_bit_on_disk(tmp_path):
    mask = random_mask(0, [(512, 512)])
    mask.save(tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_size < 512 * 512 / 8 + 400


def test_counts():
    mask = Mask({"a": torch.tensor([True, False, True, True]), "b": torch.tensor([[False, True]])})
    assert (mask.kept, mask.prunable, mask.density()) == (4, 6, 4 / 6)
    assert mask.per_tensor() == {"a": (3, 4), "b": (1, 2)}


def test_hash_depends_on_bits_names_and_shapes_but_not_on_order():
    a, b = torch.tensor([True, False, True, True]), torch.tensor([False, True])
    base = Mask({"a": a, "b": b})
    assert Mask({"b": b, "a": a}).sha256() == base.sha256()
    assert Mask({"a": ~a, "b": b}).sha256() != base.sha256()
    assert Mask({"a": a, "c": b}).sha256() != base.sha256()
    assert Mask({"a": a.reshape(2, 2), "b": b}).sha256() != base.sha256()


def test_overlap_is_intersection_over_union():
    a = Mask({"w": torch.tensor([True, True, False, False])})
    b = Mask({"w": torch.tensor([True, False, True, False])})
    assert a.overlap(b) == 1 / 3
    assert a.overlap(a) == 1.0
    with pytest.raises(MaskError, match="different parameters"):
        a.overlap(Mask({"v": torch.tensor([True])}))


def test_every_misfit_is_listed():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    mask = Mask({"0.weight": torch.ones(3, 4, dtype=torch.bool), "7.weight": torch.ones(1, dtype=torch.bool)})
    with pytest.raises(MaskError, match=r"'0\.weight' is \(3, 4\) here and \(4, 3\).*'7\.weight' is not a parameter"):
        mask.check_fits(model)


def test_not_boolean_and_empty_are_refused():
    with pytest.raises(MaskError, match=r"float32; masks are torch\.bool"):
        Mask({"w": torch.ones(2)})
    with pytest.raises(MaskError, match="at least one tensor"):
        Mask({})


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    random_mask(0, [(64, 64)]).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MaskError, match="missing or damaged"):
        Mask.load(path)
    with pytest.raises(MaskError, match="missing or damaged"):
        Mask.load(tmp_path / "none.safetensors")
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(MaskError, match="not a mask file"):
        Mask.load(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"shapes": "[]"},
        {"shapes": "1"},
        {"shapes": "{"},
        {"shapes": '{"w": "x"}'},
        {"shapes": '{"w": [9]}'},
        {"shapes": '{"w": [-8]}'},
        {"shapes": '{"v": [8]}'},
        {"shapes": '{"w": null}'},
    ],
    ids=str,
)
def test_a_mask_file_whose_shapes_are_wrong_is_refused(tmp_path, metadata):
    path = str(tmp_path / "m.safetensors")
    header = {"format": "audio_lottery.mask", "version": "1", **metadata}
    save_file({"w": torch.zeros(1, dtype=torch.uint8)}, path, metadata=header)
    with pytest.raises(
        MaskError, match=r"m\.safetensors cannot be read as a mask \(.*\); the file is missing or damaged"
    ):
        Mask.load(path)


def test_overlap_per_tensor():
    a = Mask(
        {"w": torch.tensor([True, True, False, False]), "v": torch.tensor([True, False]), "u": torch.tensor([False])}
    )
    b = Mask(
        {"w": torch.tensor([True, False, True, False]), "v": torch.tensor([True, False]), "u": torch.tensor([False])}
    )
    assert a.overlap_per_tensor(b) == {"w": 1 / 3, "v": 1.0, "u": 1.0}
    with pytest.raises(MaskError, match="different parameters"):
        a.overlap_per_tensor(Mask({"w": torch.tensor([True])}))
