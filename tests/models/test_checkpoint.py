"""Every way a checkpoint can fail to load is one line that names the file, and nothing random takes part unasked."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForPreTraining, Wav2Vec2Model

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.ctc import load_folder, load_recogniser, load_trained

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
        save_file(change(weights) or weights, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


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

FILES = {
    "LFS weights": (write("model.safetensors", LFS_POINTER), r"model/model\.safetensors is a Git LFS pointer and not the "
                    r"file itself; run `git lfs pull` in .*/model$"),
    "cut weights": (cut("model.safetensors", 5000), r"model/model\.safetensors cannot be read \(.* not fully covered\); "
                    "it is cut short or damaged: get it again$"),
    "cut header": (cut("model.safetensors", 3), r"model/model\.safetensors cannot be read \(.*header too small\)"),
    "empty weights": (write("model.safetensors", ""), r"model/model\.safetensors is empty; get it again$"),
    "web page": (write("model.safetensors", "<!DOCTYPE html>" * 99), r"model/model\.safetensors cannot be read \(.*header"),
    "zeros": (write("model.safetensors", bytes(999)), r"model/model\.safetensors cannot be read \(.*header"),
    "no weights": (remove("model.safetensors"), r"model has no weights: none of model\.safetensors, .* is there; get "),
    "folder": (replace_by_folder("model.safetensors"), r"model/model\.safetensors is a folder where a file should be"),
    "dangling link": (dangle("model.safetensors"), r"model/model\.safetensors is missing; get it again$"),
    "no shard": (both(shard, remove(SHARD.format(2))), r"model/model-00002-of-00002\.safetensors is missing, which "
                 r"model\.safetensors\.index\.json names; get it again$"),
    "LFS shard": (both(shard, write(SHARD.format(1), LFS_POINTER)), r"model-00001-of-00002\.safetensors is a Git LFS"),
    "cut shard": (both(shard, cut(SHARD.format(1), 999)), r"model-00001-of-00002\.safetensors cannot be read"),
    "cut index": (both(shard, cut("model.safetensors.index.json", 99)), r"model\.safetensors\.index\.json, which should be "
                  r"JSON, cannot be read"),
    "index list": (both(shard, write("model.safetensors.index.json", [])), r"index\.json is a JSON list and not an object"),
    "no map": (both(shard, write("model.safetensors.index.json", {})), r"index\.json has no weight_map of tensors and files"),
    "bad map": (both(shard, update("model.safetensors.index.json", weight_map={"a": 3})), r"index\.json has no weight_map"),
    "no metadata": (both(shard, update("model.safetensors.index.json", metadata=None)), r"index\.json, or its config\.json"),
    "LFS pickle": (both(pickle_weights, write("pytorch_model.bin", LFS_POINTER)), r"pytorch_model\.bin is a Git LFS"),
    "empty pickle": (both(pickle_weights, write("pytorch_model.bin", "")), r"pytorch_model\.bin is empty"),
    "cut pickle": (both(pickle_weights, cut("pytorch_model.bin", 9000)), r"model/pytorch_model\.bin, or its config\.json,"),
    "web page pickle": (both(pickle_weights, write("pytorch_model.bin", "<html>")), r"pytorch_model\.bin is damaged, or "),
    "cut config": (write("config.json", "{"), r"model/config\.json, which should be JSON, cannot be read \(Expecting"),
    "empty config": (write("config.json", ""), r"model/config\.json is empty; get it again$"),
    "config list": (write("config.json", [1]), r"model/config\.json is a JSON list and not an object; get it again$"),
    "bare config": (write("config.json", {}), r"model/config\.json names no model_type; get the one that belongs to "),
    "LFS config": (write("config.json", LFS_POINTER), r"model/config\.json is a Git LFS pointer"),
    "no config": (remove("config.json"), r"model is not a model: it has no config\.json$"),
    "UTF-16": (write("config.json", "{}".encode("utf-16")), r"model/config\.json, which should be JSON, cannot be read"),
    "word for number": (update("config.json", hidden_size="big"), r"config\.json cannot be read \(Validation error for field "
                        r"'hidden_size': TypeError: Field 'hidden_size' expected int, got str"),
    "no heads": (update("config.json", num_attention_heads=0), r"model\.safetensors, or its config\.json, cannot be read"),
    "negative size": (update("config.json", hidden_size=-4), r"config\.json, cannot be read \(.*negative dimension -4"),
    "no such activation": (update("config.json", hidden_act="no"), r"config\.json, cannot be read \(KeyError: 'no'\)"),
    "other front end": (update("config.json", conv_kernel=[3]), r"config\.json cannot be read \(.*Configuration for convolu"),
    "Whisper": (update("config.json", model_type="whisper"), r"is a model of type whisper, which transformers has no CTC "
                r"model for; it has them for data2vec-audio, .* wavlm$"),
    "unheard of": (update("config.json", model_type="zipf"), r"config\.json cannot be read \(.*has model type `zipf` but"),
    "remote code": (update("config.json", model_type="mine", auto_map={"AutoConfig": "a.B"}), r"contains custom code"),
    "no outputs": (update("config.json", vocab_size=None), r"config\.json of .* has no vocab_size, the number of the model's"),
    "no list": (update("config.json", architectures="Wav2Vec2ForCTC"), r"architectures of the config\.json .* not a list"),
    "no name": (update("config.json", architectures=None), r"has an output layer, but its config\.json does not name a CTC "
                r'model: add "architectures": \["Wav2Vec2ForCTC"\] to it'),
    "no extractor": (remove("processor_config.json"), r"model has no preprocessor_config\.json and no processor_config\.json"),
    "cut extractor": (write("processor_config.json", "{,"), r"processor_config\.json, which should be JSON, cannot be read"),
    "extractor list": (write("processor_config.json", []), r"model/processor_config\.json is a JSON list and not an object"),
    "number for extractor": (update("processor_config.json", feature_extractor=3), r"its feature extractor cannot be read"),
    "strange extractor": (update("processor_config.json", feature_extractor=EXTRACTOR | {"feature_extractor_type": "My"}),
                          r"its feature extractor cannot be read \(Unrecognized feature extractor .* \.\.\.\); get it again$"),
    "8 kHz": (update("processor_config.json", feature_extractor=EXTRACTOR | {"sampling_rate": 8000}), r"takes audio at 8000 Hz "
              r"\(sampling_rate of its feature extractor\); audio is decoded to 16000 Hz here: use a model for 16000 Hz$"),
    "rate as text": (update("processor_config.json", feature_extractor=EXTRACTOR | {"sampling_rate": "16000"}), "at '16000' Hz"),
    "mel features": (update("processor_config.json", feature_extractor={"feature_extractor_type": "WhisperFeatureExtractor"}),
                     "the WhisperFeatureExtractor of .* gives input_features, but the model takes input_values; get "),
    "no vocabulary": (remove("vocab.json"), r"model has tokenizer_config\.json but no vocabulary \(vocab\.json, tokenizer\.j"),
    "cut vocabulary": (cut("vocab.json", 9), r"model/vocab\.json, which should be JSON, cannot be read \("),
    "vocabulary list": (write("vocab.json", ["a"]), r"model/vocab\.json is a JSON list and not an object; get it again$"),
    "LFS vocabulary": (write("vocab.json", LFS_POINTER), r"model/vocab\.json is a Git LFS pointer"),
    "languages": (lambda folder: write("vocab.json", {"eng": json.loads((folder / "vocab.json").read_text())})(folder),
                  r"its tokenizer \(vocab\.json, tokenizer_config\.json \.\.\.\) cannot be read"),
    "cut tokenizer": (cut("tokenizer_config.json", 9), r"model/tokenizer_config\.json, which should be JSON, cannot be"),
    "tokenizer list": (write("tokenizer_config.json", []), r"model/tokenizer_config\.json is a JSON list and not an object"),
    "number for token": (update("tokenizer_config.json", pad_token=0), r"its tokenizer .*Special token pad_token has to be"),
    "added list": (write("added_tokens.json", []), r"model/added_tokens\.json is a JSON list and not an object"),
    "special number": (write("special_tokens_map.json", 3), r"model/special_tokens_map\.json is a JSON int and not an object"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "line"), FILES.values(), ids=FILES)
def test_a_damaged_checkpoint_is_one_line(folder, damage, line):
    damage(folder)
    with pytest.raises(ModelError, match=line) as caught:
        load_folder(folder)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("change", [shard, pickle_weights, reweight(dict)])
def test_whole_checkpoints_of_other_forms_load_bit_for_bit(saved, folder, change):
    change(folder)
    original, loaded = (load_folder(place).model.state_dict() for place in (saved, folder))
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in original.items())


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_pickle_is_not_run(folder, monkeypatch, save):
    monkeypatch.chdir(folder)
    remove("model.safetensors")(folder)
    save({"lm_head.bias": Malicious()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is damaged, or a pickle with more than tensors in it, which "):
        load_folder(folder)
    assert not (folder / "executed").exists()


PLACES = {
    "file": ("model/config.json", r"cannot be loaded: it is a file; give the folder that it is in$"),
    "no folder": ("model/nothing/at/all", r"cannot be loaded: there is no such folder$"),
    "run folder": ("", r"is not a model: it has no config\.json; there are models inside it: model$"),
    "preset": ("w2v2-mini", r"^'w2v2-mini' is a preset with random weights; give a folder or Hub id of a trained model$"),
    "Hub": ("nobody/nothing", r"^model 'nobody/nothing' cannot be loaded: its config\.json .*; give a Hub id, a folder, or one "),
}  # fmt: skip


@pytest.mark.parametrize(("place", "line"), PLACES.values(), ids=PLACES)
def test_what_is_not_a_checkpoint_is_one_line(folder, place, line):
    init = place if place in ("w2v2-mini", "nobody/nothing") else str(folder.parent / place)
    with pytest.raises(ModelError, match=line) as caught:
        load_trained(ModelConfig(init=init))
    assert "\n" not in str(caught.value)


KEY = "wav2vec2.encoder.layers.0.attention.k_proj.weight"
WEIGHTS = {
    "renamed head": (reweight(rename_head), r"lacks 2 weights of Wav2Vec2ForCTC \(lm_head\.bias, lm_head\.weight\), which would "
                     r"be random; it has others that the model does not have \(classifier\.bias, classifier\.weight\): are they"),
    "no head": (reweight(lambda weights: (weights.pop("lm_head.weight"), weights.pop("lm_head.bias"), weights)[2]),
                r"lacks 2 weights .* which would be random; fine-tune it first$"),
    "half a head": (reweight(lambda weights: (weights.pop("lm_head.bias"), weights)[1]), r"lacks 1 weights .* \(lm_head\.bias\)"),
    "no key": (reweight(lambda weights: (weights.pop(KEY), weights)[1]), rf"lacks 1 weights .* \({KEY}\), .*; get the whole "),
    "more layers": (update("config.json", num_hidden_layers=0), r"has 16 weights that Wav2Vec2ForCTC does not have as its "
                    r"config\.json describes it \(wav2vec2\.encoder\.layers\.0\..* and 13 more\); get the config\.json"),
    "an adapter": (reweight(lambda weights: weights.update({"wav2vec2.adapter.layers.0.conv.bias": torch.ones(64)})),
                   r"has 1 weights that .* \(wav2vec2\.adapter\.layers\.0\.conv\.bias\)"),
    "other shape": (reweight(lambda weights: weights.update({"lm_head.bias": torch.ones(7)})),
                    r"do not fit its config\.json, .*: lm_head\.bias has shape \[7\], and \[30\] in the model$"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "line"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_would_be_random_or_left_out_are_named(folder, damage, line):
    damage(folder)
    with pytest.raises(ModelError, match=line):
        load_folder(folder)


@pytest.mark.parametrize(
    "change",
    [
        reweight(lambda weights: (weights.pop("wav2vec2.masked_spec_embed"), weights)[1]),
        update("config.json", mask_time_prob=0.0, mask_feature_prob=0.0),
    ],
)
def test_the_mask_embedding_may_be_missing_or_too_much(saved, folder, change):
    """It takes part in training alone."""
    change(folder)
    original, loaded = (load_folder(place).model.state_dict() for place in (saved, folder))
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in original.items() if "masked" not in name)


def test_weights_outside_the_model_are_of_no_matter(saved, folder):
    """The quantizer of a pretraining checkpoint."""
    reweight(lambda weights: weights.update({"quantizer.codevectors": torch.ones(2, 2)}))(folder)
    original, loaded = (load_folder(place).model.state_dict() for place in (saved, folder))
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in original.items())


@pytest.mark.parametrize("encoder_class", [Wav2Vec2Model, Wav2Vec2ForPreTraining])
def test_an_output_layer_is_drawn_only_for_a_training(saved, tmp_path, encoder_class):
    recogniser = load_folder(saved)
    encoder_class(recogniser.model.config).save_pretrained(tmp_path)
    recogniser.processor.save_pretrained(tmp_path)
    source = ModelConfig(init=str(tmp_path))
    line = f"is {encoder_class.__name__}, not a CTC model: its output layer would be random; fine-tune it first$"
    for load in (load_trained, lambda source: load_recogniser(source, 0)):
        with pytest.raises(ModelError, match=line):
            load(source)
    assert load_recogniser(source, 0, new_head=True).model.lm_head.weight.shape == (30, 32)


def test_a_lost_output_layer_is_told_when_it_is_drawn(folder, caplog):
    reweight(rename_head)(folder)
    recogniser = load_recogniser(ModelConfig(init=str(folder)), 0, new_head=True)
    assert recogniser.model.lm_head.weight.shape == (30, 32)
    assert caplog.messages[-1].startswith(str(folder))
    assert len(caplog.records) == 1
    assert "lacks an output layer (lm_head.bias, lm_head.weight): it is drawn at random" in caplog.text


def test_layers_may_be_left_out_on_purpose(folder):
    config = ModelConfig(init=str(folder), overrides={"num_hidden_layers": 0})
    assert len(load_recogniser(config, 0).model.wav2vec2.encoder.layers) == 0


OVERRIDES = {
    "word for number": ({"hidden_size": "big"}, r"model\.overrides cannot be read \(Validation error for field 'hidden_size'"),
    "unknown": ({"hidden_droput": 0.1}, r"model\.overrides: hidden_droput is no field of Wav2Vec2Config$"),
}  # fmt: skip


@pytest.mark.parametrize("init", ["w2v2-mini", "saved"])
@pytest.mark.parametrize(("overrides", "line"), OVERRIDES.values(), ids=OVERRIDES)
def test_wrong_overrides_are_one_line(saved, init, overrides, line):
    with pytest.raises(ModelError, match=line):
        load_recogniser(ModelConfig(init=str(saved) if init == "saved" else init, overrides=overrides), 0)


@pytest.mark.parametrize("attention", ["flash_attention_2", "no_such"])
def test_an_attention_that_is_not_there_is_one_line(saved, attention):
    with pytest.raises(ModelError, match=rf"^model\.attention '{attention}' cannot be .*; it must be one that Wav2Vec2ForCTC"):
        load_recogniser(ModelConfig(init=str(saved), attention=attention), 0)
