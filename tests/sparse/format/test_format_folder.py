"""Folders: what loads is what was saved, or an error that names what is wrong; nothing else is ever destroyed."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune
from transformers import AutoModelForCTC, Wav2Vec2Model, pipeline

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError, StorageError
from audio_lottery.models.checkpoint import SPARSE_NAME
from audio_lottery.models.load import load_backbone, load_folder
from audio_lottery.sparse import format as sparse_format
from audio_lottery.sparse.format import container, load, read, save
from tests.sparse.format.conftest import equal, tiny_backbone

HEAD = "lm_head.weight"
LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 377607901\n"


def rewrite(folder, change):
    """Save the weights of ``folder`` again after ``change``: a whole file that does not fit its config.json."""
    state = read(folder)
    change(state)
    (folder / sparse_format.FILE).write_bytes(container.pack(state).data)


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the saved folder that may be damaged."""
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in saved[1].iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def test_a_round_trip_keeps_every_bit(backbone, saved):
    model = load(saved[1])
    assert type(model) is type(backbone.module)
    assert not model.training
    assert equal(model.state_dict(), backbone.module.state_dict())
    assert equal(read(saved[1]), backbone.module.state_dict())
    assert equal(read(saved[1] / sparse_format.FILE), backbone.module.state_dict())
    audio = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(audio).logits, copy.deepcopy(backbone.module).eval()(audio).logits)


@pytest.mark.parametrize("values", ["bf16", "fp16", "int8"])
def test_rounded_values_say_so_and_load_as_rounded(backbone, tmp_path, values):
    report = save(backbone.module, tmp_path / "out", values=values)
    lossy = {name for name, t in backbone.module.state_dict().items() if sum(size > 1 for size in t.shape) > 1}
    assert set(report.lossy) == lossy
    model = load(tmp_path / "out")
    assert equal(model.state_dict(), read(tmp_path / "out"))
    kept = backbone.module.state_dict()
    assert all(torch.equal(t, kept[name]) for name, t in model.state_dict().items() if name not in lossy)
    again = save(model, tmp_path / "again")
    assert not again.lossy
    assert equal(load(tmp_path / "again").state_dict(), model.state_dict())


def test_the_report_adds_up(backbone, saved):
    report, folder = saved
    assert report.path == folder / sparse_format.FILE
    assert report.bytes == report.path.stat().st_size
    assert report.dense_bytes == sum(t.nbytes for t in backbone.module.state_dict().values())
    assert [row.name for row in report.rows] == list(backbone.module.state_dict())
    for row in report.rows:
        tensor = backbone.module.state_dict()[row.name]
        assert row.kept == (tensor.numel() if row.coding == "dense" else int(torch.count_nonzero(tensor)))
        assert row.weights == tensor.numel()
    stored = sum(row.position_bytes + row.value_bytes for row in report.rows)
    assert stored < report.bytes < stored + 500 * len(report.rows)


def test_the_folder_holds_config_and_processor(saved):
    names = {file.name for file in saved[1].iterdir()}
    assert {sparse_format.FILE, "config.json", "vocab.json", "done"} <= names
    assert not any(name in names for name in ("model.safetensors", "pytorch_model.bin"))


def test_its_name_is_known_where_its_code_is_not_loaded():
    assert SPARSE_NAME == sparse_format.FILE


def test_load_backbone_reads_it(backbone, saved):
    loaded = load_folder(saved[1])
    assert equal(loaded.module.state_dict(), backbone.module.state_dict())
    assert loaded.processor.tokenizer.get_vocab() == backbone.processor.tokenizer.get_vocab()


def test_load_backbone_can_draw_a_new_head(saved, backbone):
    config = ModelConfig(init=str(saved[1]), reset_head=True)
    first, again, other = (load_backbone(config, seed).module.state_dict() for seed in (1, 1, 2))
    assert equal(first, again)
    assert not torch.equal(first[HEAD], other[HEAD])
    assert not torch.equal(first[HEAD], backbone.module.state_dict()[HEAD])
    encoder = {name for name in first if not name.startswith("lm_head")}
    assert all(torch.equal(first[name], backbone.module.state_dict()[name]) for name in encoder)


@pytest.mark.parametrize("options", [{}, {"variant": "sparse"}, {"use_safetensors": True}])
@pytest.mark.parametrize("values", ["fp32", "int8"])
def test_plain_from_pretrained_fails(backbone, tmp_path, values, options):
    """With variant="sparse" transformers does find the file: the shapes must refuse it, not the name alone."""
    save(backbone.module, tmp_path / "out", values=values, processor=backbone.processor)
    with pytest.raises((OSError, RuntimeError), match=r"no file named model|mismatched_sizes|size mismatch"):
        AutoModelForCTC.from_pretrained(tmp_path / "out", **options)


def test_a_pipeline_fails_too(saved):
    with pytest.raises((OSError, RuntimeError, ValueError), match=r"no file named|[Cc]ould not load"):
        pipeline("automatic-speech-recognition", model=str(saved[1]))


@pytest.mark.parametrize("reader", [load, load_folder])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("wav2vec2.encoder.layers.0.attention.k_proj.weight"), "attention.k_proj.weight"),
        (lambda state: state.update(extra=torch.ones(3)), "extra"),
        (lambda state: state.update({HEAD: torch.ones(2, 2)}), r"lm_head\.weight|does not fit"),
    ],
)
def test_tensors_that_do_not_fit_the_class_are_named(folder, reader, change, message):
    rewrite(folder, change)
    with pytest.raises(ModelError, match=message) as caught:
        reader(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_head_is_an_error_for_load(folder):
    rewrite(folder, lambda state: state.pop(HEAD))
    with pytest.raises(ModelError, match=r"missing: lm_head\.weight$"):
        load(folder)


def test_other_dtypes_come_back(tmp_path):
    model = tiny_backbone().module.to(torch.bfloat16)
    model.lm_head.to(torch.float32)
    save(model, tmp_path / "mixed")
    loaded = load(tmp_path / "mixed").state_dict()
    assert loaded[HEAD].dtype == torch.float32
    assert all(t.dtype == loaded[name].dtype and torch.equal(t, loaded[name]) for name, t in model.state_dict().items())


def test_tied_weights_are_stored_once(tmp_path):
    model = tiny_backbone().module
    layer = model.wav2vec2.encoder.layers[0].attention
    layer.q_proj.weight = layer.k_proj.weight
    report = save(model, tmp_path / "tied")
    names = [row.name for row in report.rows]
    assert len([name for name in names if name.endswith(("q_proj.weight", "k_proj.weight"))]) == 1
    assert equal(load(tmp_path / "tied").state_dict(), model.state_dict())


def test_a_bare_encoder_is_loaded_and_gets_a_seeded_head(backbone, tmp_path):
    encoder = Wav2Vec2Model(backbone.module.config)
    encoder.load_state_dict(backbone.module.wav2vec2.state_dict())
    save(encoder, tmp_path / "encoder", processor=backbone.processor)
    assert equal(load(tmp_path / "encoder").state_dict(), encoder.state_dict())
    loaded = load_backbone(ModelConfig(init=str(tmp_path / "encoder")), seed=1, new_head=True).module
    assert equal(loaded.wav2vec2.state_dict(), encoder.state_dict())


def test_damage_is_told(folder):
    file = folder / sparse_format.FILE
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)
    for reader in (load, load_folder, read):
        with pytest.raises(ModelError, match=r"model\.sparse\.safetensors is damaged"):
            reader(folder)


@pytest.mark.parametrize("reader", [load, load_folder, read])
@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (
            lambda file: file.write_text(LFS_POINTER),
            r"is a Git LFS pointer and not the file itself; run `git lfs pull`",
        ),
        (lambda file: file.write_bytes(b""), r"is empty; get it again$"),
        (lambda file: file.write_bytes(file.read_bytes()[:5]), r"5 bytes do not hold its header; get it again$"),
        (
            lambda file: file.write_bytes(file.read_bytes()[:-5]),
            r"is damaged: its bytes are not those that were written",
        ),
        (lambda file: file.write_bytes(bytes(4096)), r"or its header is damaged \("),
        (lambda file: (file.unlink(), file.mkdir()), r"is a folder where a file should be; get the file again$"),
        (lambda file: (file.unlink(), file.symlink_to("blob")), r"is missing; get it again$"),
    ],
)
def test_a_file_that_is_not_whole_is_named(folder, reader, damage, line):
    damage(folder / sparse_format.FILE)
    with pytest.raises(ModelError, match=rf"copy/model\.sparse\.safetensors .*{line}"):
        reader(folder)


@pytest.mark.parametrize(
    "change", [{"num_attention_heads": 0}, {"hidden_size": "wide"}, {"hidden_act": "none"}, {"architectures": None}]
)
def test_a_config_that_describes_no_model_is_one_line(folder, change):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    for reader in (load, load_folder):
        with pytest.raises(ModelError, match=r"config\.json"):
            reader(folder)


def test_missing_files_are_told(folder, tmp_path):
    with pytest.raises(ModelError, match=r"nothing is missing; get it again$"):
        read(tmp_path / "nothing")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json of"):
        load(folder)
    (folder / sparse_format.FILE).unlink()
    with pytest.raises(ModelError, match=r"has no model\.sparse\.safetensors"):
        load(folder)
    with pytest.raises(ModelError, match=r"nobody/nothing|no/such/name"):
        load("no/such/name")


def test_an_architecture_that_transformers_lacks(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["MyOwnForCTC"]}))
    with pytest.raises(ModelError, match="names MyOwnForCTC, which transformers"):
        load(folder)


def test_only_an_earlier_sparse_folder_is_replaced(backbone, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    save(backbone.module, target)
    first = (target / sparse_format.FILE).read_bytes()
    save(backbone.module, target, values="fp16")
    assert (target / sparse_format.FILE).read_bytes() != first
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "thesis.tex").write_text("precious")
    for occupied in (precious, precious / "thesis.tex"):
        with pytest.raises(ModelError, match="exists and is not an earlier"):
            save(backbone.module, occupied)
    assert (precious / "thesis.tex").read_text() == "precious"


def test_a_failed_save_leaves_nothing(backbone, tmp_path):
    model = copy.deepcopy(backbone.module)
    model.lm_head.weight.data[0, 0] = 1e6
    with pytest.raises(ModelError, match=r"'lm_head\.weight' has weights up to 1e\+06"):
        save(model, tmp_path / "out", values="fp16")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        save(backbone.module, tmp_path / "file" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_pruning_that_is_still_a_parametrisation_is_refused(backbone, tmp_path):
    model = copy.deepcopy(backbone.module)
    torch_prune.l1_unstructured(model.lm_head, "weight", 0.5)
    with pytest.raises(ModelError, match=r"'lm_head\.weight_orig' is pruned by torch\.nn\.utils\.prune"):
        save(model, tmp_path / "out")


def test_a_plain_module_is_refused(tmp_path):
    with pytest.raises(ModelError, match="Linear is not a transformers model"):
        save(nn.Linear(3, 3), tmp_path / "out")
