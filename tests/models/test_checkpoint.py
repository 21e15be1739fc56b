"""Every way a checkpoint can fail to load is one line that names the file, and nothing random takes part unasked."""

import json
import os
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForPreTraining, Wav2Vec2Model

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.load import load_backbone, load_folder, load_trained

LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 377607901\n"
SHARD = "model-0000{}-of-00002.safetensors"


def write(name, content):
    """A change of a folder: the file ``name`` has this text, these bytes, or this JSON."""

    def change(folder):
        data = content if isinstance(content, bytes | str) else json.dumps(content)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return change


def update(name, **fields):
    def change(folder):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | fields))

    return change


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def replace_by_folder(name):
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def dangle(name):
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to("../blobs/0"))


def both(*changes):
    return lambda folder: [change(folder) for change in changes]


def reweight(change):
    """Save the weights again after ``change``."""

    def rewrite(folder):
        weights = load_file(folder / "model.safetensors")
        save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def without(*names):
    return reweight(lambda weights: {name: tensor for name, tensor in weights.items() if name not in names})


def pattern(line):
    """A regular expression of a line in which ... stands for anything."""
    return ".*".join(map(re.escape, line.split("...")))


def shard(folder):
    """As ``save_pretrained`` saves large models."""
    weights = load_file(folder / "model.safetensors")
    places = {name: SHARD.format(1 + number % 2) for number, name in enumerate(sorted(weights))}
    for file in set(places.values()):
        save_file({n: t for n, t in weights.items() if places[n] == file}, folder / file, metadata={"format": "pt"})
    write("model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": places})(folder)
    remove("model.safetensors")(folder)


def pickle_weights(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    remove("model.safetensors")(folder)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def rename_head(weights):
    return {name.replace("lm_head", "classifier"): tensor for name, tensor in weights.items()}


EXTRACTOR = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16_000}
INDEX = "model.safetensors.index.json"
AGAIN = "; get it again"


def extractor(**fields):
    return update("processor_config.json", feature_extractor=EXTRACTOR | fields)


WEIGHT_FILES = {
    "LFS": (
        write("model.safetensors", LFS_POINTER),
        "is a Git LFS pointer and not the file itself; run `git lfs pull` in ",
    ),
    "cut": (cut("model.safetensors", 5000), "not fully covered); it is cut short or damaged: get it again"),
    "cut header": (cut("model.safetensors", 3), "cannot be read (...header too small); it is cut short or damaged: "),
    "empty": (write("model.safetensors", ""), "is empty" + AGAIN),
    "web page": (write("model.safetensors", "<!DOCTYPE html>" * 99), "cannot be read (...header"),
    "zeros": (write("model.safetensors", bytes(999)), "cannot be read (...header"),
    "folder": (replace_by_folder("model.safetensors"), "is a folder where a file should be; get the file again"),
    "dangling link": (dangle("model.safetensors"), "is missing" + AGAIN),
}
SHARDS = {
    "no shard": (remove(SHARD.format(2)), f"/{SHARD.format(2)} is missing, which {INDEX} names{AGAIN}"),
    "LFS shard": (write(SHARD.format(1), LFS_POINTER), f"/{SHARD.format(1)} is a Git LFS pointer"),
    "cut shard": (cut(SHARD.format(1), 999), f"/{SHARD.format(1)} cannot be read ("),
    "cut index": (cut(INDEX, 99), f"/{INDEX}, which should be JSON, cannot be read ("),
    "index list": (write(INDEX, []), f"/{INDEX} is a JSON list and not an object{AGAIN}"),
    "no map": (write(INDEX, {}), f"/{INDEX} has no weight_map of tensors and files{AGAIN}"),
    "bad map": (update(INDEX, weight_map={"a": 3}), f"/{INDEX} has no weight_map of tensors and files{AGAIN}"),
    "no metadata": (update(INDEX, metadata=None), f"/{INDEX}, or its config.json, cannot be read ("),
}
PICKLES = {
    "LFS": (write("pytorch_model.bin", LFS_POINTER), "/pytorch_model.bin is a Git LFS pointer"),
    "empty": (write("pytorch_model.bin", ""), "/pytorch_model.bin is empty" + AGAIN),
    "cut": (cut("pytorch_model.bin", 9000), "/pytorch_model.bin, or its config.json, cannot be read ("),
    "web page": (
        write("pytorch_model.bin", "<html>"),
        "/pytorch_model.bin is damaged, or a pickle with more than tensors",
    ),
}
CONFIGS = {
    "cut": (write("config.json", "{"), "/config.json, which should be JSON, cannot be read (Expecting"),
    "empty": (write("config.json", ""), "/config.json is empty" + AGAIN),
    "list": (write("config.json", [1]), "/config.json is a JSON list and not an object" + AGAIN),
    "bare": (write("config.json", {}), "/config.json names no model_type; get the one that belongs to the weights"),
    "LFS": (write("config.json", LFS_POINTER), "/config.json is a Git LFS pointer"),
    "missing": (remove("config.json"), "model is not a model: it has no config.json"),
    "UTF-16": (
        write("config.json", "{}".encode("utf-16")),
        "/config.json, which should be JSON, cannot be read ('utf-8'",
    ),
    "word for number": (
        update("config.json", hidden_size="big"),
        "config.json cannot be read (...expected int, got str",
    ),
    "no heads": (update("config.json", num_attention_heads=0), "or its config.json, cannot be read (integer division"),
    "negative size": (update("config.json", hidden_size=-4), "or its config.json, cannot be read (...dimension -4"),
    "no such activation": (
        update("config.json", hidden_act="no"),
        "or its config.json, cannot be read (KeyError: 'no')",
    ),
    "other front end": (update("config.json", conv_kernel=[3]), "config.json cannot be read (...convolutional layers"),
    "a classifier": (
        update("config.json", model_type="audio-spectrogram-transformer"),
        "is a model of type audio-spectrogram-transformer, which transformers has no CTC",
    ),
    "unheard of": (
        update("config.json", model_type="zipf"),
        "config.json cannot be read (...has model type `zipf` but",
    ),
    "remote code": (update("config.json", model_type="mine", auto_map={"AutoConfig": "a.B"}), "contains custom code"),
    "no outputs": (
        update("config.json", vocab_size=None),
        "has no vocab_size, the number of the model's outputs; add it",
    ),
    "no list": (update("config.json", architectures="Wav2Vec2ForCTC"), "architectures of ... are not a list of names"),
    "no name": (
        update("config.json", architectures=None),
        'its config.json does not name a CTC model: add "architectures": ["Wav2Vec2ForCTC"] to it, or train',
    ),
}
PROCESSORS = {
    "none": (remove("processor_config.json"), "model has no preprocessor_config.json and no processor_config.json"),
    "cut": (write("processor_config.json", "{,"), "/processor_config.json, which should be JSON, cannot be read ("),
    "list": (write("processor_config.json", []), "/processor_config.json is a JSON list and not an object" + AGAIN),
    "number": (update("processor_config.json", feature_extractor=3), "its feature extractor cannot be read ("),
    "strange": (
        extractor(feature_extractor_type="My"),
        "its feature extractor cannot be read (Unrecognized ...); get it",
    ),
    "8 kHz": (
        extractor(sampling_rate=8000),
        "takes audio at 8000 Hz (sampling_rate of its feature extractor); audio is decoded to 16000 Hz here: use a "
        "model for 16000 Hz",
    ),
    "rate as text": (extractor(sampling_rate="16000"), "takes audio at '16000' Hz"),
    "mel features": (
        extractor(feature_extractor_type="WhisperFeatureExtractor"),
        "the WhisperFeatureExtractor of ... gives input_features, but the model takes input_values; get the "
        "preprocessor_config.json that belongs to the weights",
    ),
}
TOKENIZERS = {
    "no vocabulary": (
        remove("vocab.json"),
        "model has tokenizer_config.json but no vocabulary (vocab.json, tokenizer.json",
    ),
    "cut vocabulary": (cut("vocab.json", 9), "/vocab.json, which should be JSON, cannot be read ("),
    "vocabulary list": (write("vocab.json", ["a"]), "/vocab.json is a JSON list and not an object" + AGAIN),
    "LFS vocabulary": (write("vocab.json", LFS_POINTER), "/vocab.json is a Git LFS pointer"),
    "languages": (
        write("vocab.json", {"eng": {"a": 0}}),
        "its tokenizer (vocab.json, tokenizer_config.json ...) cannot be",
    ),
    "cut": (cut("tokenizer_config.json", 9), "/tokenizer_config.json, which should be JSON, cannot be read ("),
    "list": (write("tokenizer_config.json", []), "/tokenizer_config.json is a JSON list and not an object" + AGAIN),
    "number for token": (
        update("tokenizer_config.json", pad_token=0),
        "its tokenizer ... cannot be read (...pad_token",
    ),
    "added list": (write("added_tokens.json", []), "/added_tokens.json is a JSON list and not an object" + AGAIN),
    "special number": (write("special_tokens_map.json", 3), "/special_tokens_map.json is a JSON int and not an object"),
}
DAMAGED = {
    **{f"weights, {name}": (damage, f"/model.safetensors ...{line}") for name, (damage, line) in WEIGHT_FILES.items()},
    **{f"shards, {name}": (both(shard, damage), line) for name, (damage, line) in SHARDS.items()},
    **{f"pickle, {name}": (both(pickle_weights, damage), line) for name, (damage, line) in PICKLES.items()},
    **{f"config, {name}": row for name, row in CONFIGS.items()},
    **{f"processor, {name}": row for name, row in PROCESSORS.items()},
    **{f"tokenizer, {name}": row for name, row in TOKENIZERS.items()},
    "no weights": (
        remove("model.safetensors"),
        "model has no weights: none of model.safetensors, ... is there; get them",
    ),
}


@pytest.mark.parametrize(("damage", "line"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_checkpoint_is_one_line(folder, damage, line):
    damage(folder)
    with pytest.raises(ModelError, match=pattern(line)) as caught:
        load_folder(folder)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("change", [shard, pickle_weights, reweight(dict)])
def test_whole_checkpoints_of_other_forms_load_bit_for_bit(saved, folder, change):
    change(folder)
    original, loaded = (load_folder(place).module.state_dict() for place in (saved, folder))
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in original.items())


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_pickle_is_not_run(folder, monkeypatch, save):
    monkeypatch.chdir(folder)
    remove("model.safetensors")(folder)
    save({"lm_head.bias": Malicious()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is damaged, or a pickle with more than tensors in it, "):
        load_folder(folder)
    assert not (folder / "executed").exists()


PLACES = {
    "file": ("model/config.json", "/config.json' cannot be loaded: it is a file; give the folder that it is in"),
    "no folder": ("model/nothing/at/all", "/nothing/at/all' cannot be loaded: there is no such folder"),
    "run folder": ("", " is not a model: it has no config.json; there are models inside it: model"),
    "preset": ("w2v2-mini", "'w2v2-mini' is a preset with random weights; give a folder or Hub id of a trained model"),
    "Hub": (
        "nobody/nothing",
        "model 'nobody/nothing' cannot be loaded: its config.json ...; give a Hub id, a folder, or",
    ),
}


@pytest.mark.parametrize(("place", "line"), PLACES.values(), ids=PLACES)
def test_what_is_not_a_checkpoint_is_one_line(folder, place, line):
    init = place if place in ("w2v2-mini", "nobody/nothing") else str(folder.parent / place)
    with pytest.raises(ModelError, match=pattern(line)) as caught:
        load_trained(ModelConfig(init=init))
    assert "\n" not in str(caught.value)


KEY = "wav2vec2.encoder.layers.0.attention.k_proj.weight"
ADAPTER = "wav2vec2.adapter.layers.0.conv.bias"
WEIGHTS = {
    "renamed head": (
        reweight(rename_head),
        "lacks 2 weights of Wav2Vec2ForCTC (lm_head.bias, lm_head.weight), which would be random; it has others that "
        "the model does not have (classifier.bias, classifier.weight): are they renamed?",
    ),
    "no head": (without("lm_head.weight", "lm_head.bias"), "which would be random; fine-tune it first"),
    "half a head": (without("lm_head.bias"), "lacks 1 weights of Wav2Vec2ForCTC (lm_head.bias), which would be random"),
    "no key": (
        without(KEY),
        f"lacks 1 weights of Wav2Vec2ForCTC ({KEY}), which would be random; get the whole checkpoint",
    ),
    "more layers": (
        update("config.json", num_hidden_layers=0),
        "has 16 weights that Wav2Vec2ForCTC does not have as its config.json describes it (wav2vec2.encoder.layers.0..."
        " and 13 more); get the config.json that belongs to the weights",
    ),
    "an adapter": (
        reweight(lambda weights: weights | {ADAPTER: torch.ones(64)}),
        f"has 1 weights that ... ({ADAPTER})",
    ),
    "other shape": (
        reweight(lambda weights: weights | {"lm_head.bias": torch.ones(7)}),
        "do not fit its config.json, its tokenizer or model.overrides: "
        "lm_head.bias has shape [7], and [30] in the model",
    ),
}


@pytest.mark.parametrize(("damage", "line"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_would_be_random_or_left_out_are_named(folder, damage, line):
    damage(folder)
    with pytest.raises(ModelError, match=pattern(line)):
        load_folder(folder)


@pytest.mark.parametrize(
    "change",
    [
        without("wav2vec2.masked_spec_embed"),
        update("config.json", mask_time_prob=0.0, mask_feature_prob=0.0),
    ],
)
def test_the_mask_embedding_may_be_missing_or_too_much(saved, folder, change):
    """It takes part in training alone."""
    change(folder)
    original, loaded = (load_folder(place).module.state_dict() for place in (saved, folder))
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in original.items() if "masked" not in name)


def test_weights_outside_the_model_are_of_no_matter(saved, folder):
    """The quantizer of a pretraining checkpoint."""
    reweight(lambda weights: weights | {"quantizer.codevectors": torch.ones(2, 2)})(folder)
    original, loaded = (load_folder(place).module.state_dict() for place in (saved, folder))
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in original.items())


@pytest.mark.parametrize("encoder_class", [Wav2Vec2Model, Wav2Vec2ForPreTraining])
def test_an_output_layer_is_drawn_only_for_a_training(saved, tmp_path, encoder_class):
    backbone = load_folder(saved)
    encoder_class(backbone.module.config).save_pretrained(tmp_path)
    backbone.processor.save_pretrained(tmp_path)
    source = ModelConfig(init=str(tmp_path))
    line = f"is {encoder_class.__name__}, not a CTC model: its output layer would be random; fine-tune it first$"
    for load in (load_trained, lambda source: load_backbone(source, 0)):
        with pytest.raises(ModelError, match=line):
            load(source)
    assert load_backbone(source, 0, new_head=True).module.lm_head.weight.shape == (30, 32)


def test_a_lost_output_layer_is_told_when_it_is_drawn(folder, caplog):
    reweight(rename_head)(folder)
    backbone = load_backbone(ModelConfig(init=str(folder)), 0, new_head=True)
    assert backbone.module.lm_head.weight.shape == (30, 32)
    assert caplog.messages[-1].startswith(str(folder))
    assert len(caplog.records) == 1
    assert "lacks an output layer (lm_head.bias, lm_head.weight): it is drawn at random" in caplog.text


def test_layers_may_be_left_out_on_purpose(folder):
    config = ModelConfig(init=str(folder), overrides={"num_hidden_layers": 0})
    assert len(load_backbone(config, 0).module.wav2vec2.encoder.layers) == 0


OVERRIDES = {
    "word for number": (
        {"hidden_size": "big"},
        "model.overrides cannot be read (Validation error for field 'hidden_size'",
    ),
    "unknown": ({"hidden_droput": 0.1}, "model.overrides: hidden_droput is not a field of Wav2Vec2Config"),
}


@pytest.mark.parametrize("init", ["w2v2-mini", "saved"])
@pytest.mark.parametrize(("overrides", "line"), OVERRIDES.values(), ids=OVERRIDES)
def test_wrong_overrides_are_one_line(saved, init, overrides, line):
    with pytest.raises(ModelError, match=pattern(line)):
        load_backbone(ModelConfig(init=str(saved) if init == "saved" else init, overrides=overrides), 0)


@pytest.mark.parametrize("attention", ["flash_attention_2", "no_such"])
def test_an_attention_that_is_not_there_is_one_line(saved, attention):
    with pytest.raises(
        ModelError, match=rf"model\.attention '{attention}' cannot be .*; it must be one that Wav2Vec2F"
    ):
        load_backbone(ModelConfig(init=str(saved), attention=attention), 0)
