"""Whisper on disk: languages, what a checkpoint says about generating, and what is refused in one line."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import (
    Speech2TextFeatureExtractor,
    Speech2TextForConditionalGeneration,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from audio_lottery.cli import main
from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.load import family_of, load_backbone, load_folder, load_trained
from audio_lottery.models.whisper import Whisper, byte_tokenizer
from tests.lottery.test_backbones import TINY
from tests.models.families import feature_extractor, tiny_config
from tests.models.test_transducer import AUDIO, SAMPLES


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    folder = tmp_path_factory.mktemp("english")
    load_backbone(TINY["whisper"], seed=1).save(folder)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """As openai/whisper-small: languages and tasks have tokens, and nothing says which language is spoken."""
    folder = tmp_path_factory.mktemp("published")
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<|en|>", "<|de|>"], special_tokens=True)
    ids = tokenizer.get_vocab()
    architecture = tiny_config("whisper", len(tokenizer))
    architecture.update({"eos_token_id": 256, "pad_token_id": 256, "bos_token_id": 256, "decoder_start_token_id": 257})
    architecture.update({"encoder_layerdrop": 0.1, "apply_spec_augment": True})
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(architecture).half()
    settings = model.generation_config
    settings._from_model_config = False
    settings.is_multilingual = True
    settings.lang_to_id = {name: ids[name] for name in ("<|en|>", "<|de|>")}
    settings.task_to_id = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    settings.no_timestamps_token_id = ids["<|notimestamps|>"]
    settings.forced_decoder_ids = [[1, None], [2, ids["<|transcribe|>"]]]
    settings.suppress_tokens, settings.begin_suppress_tokens = [5, 6, *range(257, 266)], [256]
    settings.max_length = 40
    model.save_pretrained(folder)
    WhisperProcessor(feature_extractor("whisper"), tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("language", "code"), [("de", "de"), ("German", "de"), ("<|en|>", "en")])
def test_a_multilingual_model_is_told_the_language(published, language, code, tmp_path):
    backbone = load_trained(ModelConfig(init=str(published), language=language))
    assert family_of(published) is Whisper
    module, tokenizer = backbone.module, backbone.processor.tokenizer
    assert next(module.parameters()).dtype == torch.float32
    assert (module.config.encoder_layerdrop, module.config.apply_spec_augment) == (0.0, False)
    names = tokenizer.convert_ids_to_tokens(list(backbone._prompt.tokens))
    assert names == ["<|startoftranscript|>", f"<|{code}|>", "<|transcribe|>", "<|notimestamps|>"]
    backbone.save(tmp_path)
    inputs, samples = backbone.features(AUDIO[:1]), SAMPLES[:1]
    text = backbone.search(backbone.emit(inputs, samples))[0][0].text
    again = load_folder(tmp_path)
    assert again._prompt == backbone._prompt, "a round's folder says it"
    plain = WhisperForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert tokenizer.decode(plain.generate(**inputs)[0], skip_special_tokens=True).strip() == text
    assert plain.generation_config.suppress_tokens == [5, 6, *range(257, 266)]


def edit(source, target, file, **changes):
    """A copy of a checkpoint with other fields in one of its files."""
    folder = shutil.copytree(source, target / "model")
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


GENERATION = "generation_config.json"
CONTRADICTIONS = [
    ({"num_beams": 5}, r"num_beams 5 and not 1 \(the beam is evaluation\.decoder\.beam_size\)"),
    ({"do_sample": True}, "do_sample True and not False"),
    ({"return_timestamps": True}, "return_timestamps True"),
    ({"task": "translate"}, "task 'translate' and not 'transcribe'"),
    ({"no_repeat_ngram_size": 3}, "no_repeat_ngram_size 3 and not 0"),
    ({"language": "de"}, r"language 'de' and not 'en' \(the language is model\.language\)"),
    ({"forced_decoder_ids": [[1, 265]]}, r"forced_decoder_ids \[1, 265\], and the prompt is \[257, 264, "),
    ({"decoder_start_token_id": 3}, "decoder_start_token_id 3, which is 257 in its tokenizer"),
    ({"suppress_tokens": [9, 51864]}, "suppress_tokens has 51864, and the model has 266 outputs"),
    ({"suppress_tokens": [256]}, "suppress_tokens has 256, the end, so that no text would end"),
    ({"max_length": 448}, "max_length 448, and the decoder has 40 positions"),
]


@pytest.mark.parametrize(("change", "message"), CONTRADICTIONS)
def test_generation_settings_that_contradict_the_recipe(published, tmp_path, change, message):
    folder = edit(published, tmp_path, GENERATION, **change)
    with pytest.raises(ModelError, match=rf"{GENERATION} of .* contradicts .*: {message}.*correct it") as caught:
        load_trained(ModelConfig(init=str(folder), language="en"))
    assert "\n" not in str(caught.value)


def test_several_contradictions_are_told_at_once(published, tmp_path):
    folder = edit(published, tmp_path, GENERATION, num_beams=5, do_sample=True)
    with pytest.raises(ModelError, match="do_sample True and not False; num_beams 5"):
        load_trained(ModelConfig(init=str(folder), language="en"))


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        ("english", {"window": 1.5}, r"model\.window is 1\.5; it must lie between 2 and the 2\.5 s .* 1 s longer than"),
        ("english", {"window": 30}, r"model\.window is 30; it must lie between"),
        ("english", {"language": "de"}, "knows English only, and model.language is 'de'; leave it out"),
        ("english", {"reset_head": True}, r"model\.reset_head: .* leave it out"),
        ("published", {}, r"is multilingual, and nothing says .*: set model\.language, e\.g\. --model\.language en"),
        ("published", {"language": "klingon"}, "model.language is 'klingon', which Whisper has no token for"),
        ("published", {"language": "fr"}, r"WhisperTokenizer of .* has no token <\|fr\|>"),
    ],
)
def test_settings_that_do_not_go_with_a_model(request, which, change, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_trained(ModelConfig(init=str(request.getfixturevalue(which)), **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", [{"window": 18.0}, {"language": "en"}])
def test_other_families_refuse_what_they_do_not_take(field):
    name, value = next(iter(field.items()))
    with pytest.raises(ModelError, match=rf"model\.{name} is {value!r}, which w2v2-mini \(wav2vec2\) has no use for"):
        load_backbone(ModelConfig(**field), seed=0)


@pytest.mark.parametrize(
    ("seconds", "labels", "message"),
    [
        (1.6, 3, r"lasts 1\.60 s, and a window of 2\.5 s takes 1\.5 s and 1 s of silence; lower data\.max_seconds or"),
        (1.0, 15, r"has 15 labels; the decoder takes 1 to 14 beside the prompt of 2 tokens"),
        (1.0, 0, "has no labels"),
    ],
)
def test_utterances_that_cannot_be_trained_on(english, seconds, labels, message):
    backbone, samples = load_folder(english), torch.tensor([8_000, int(seconds * 16_000)])
    inputs = backbone.features([torch.zeros(int(count)).numpy() for count in samples])
    with pytest.raises(ModelError, match=f"utterance 1 of a batch {message}"):
        backbone.loss(inputs, samples, [torch.tensor([7]), torch.full((labels,), 7)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / GENERATION).write_text("{"), rf"{GENERATION}, which should be JSON, cannot be read"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has tokenizer_config.json but no vocabulary"),
        (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "has no tokenizer, so nothing says"),
    ],
)
def test_damaged_checkpoints(english, tmp_path, damage, message):
    folder = shutil.copytree(english, tmp_path / "model")
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_trained(ModelConfig(init=str(folder)))
    assert "\n" not in str(caught.value)


def test_without_generation_settings_nothing_is_suppressed_and_that_is_told(english, tmp_path, caplog):
    folder = shutil.copytree(english, tmp_path / "model")
    (folder / GENERATION).unlink()
    assert load_trained(ModelConfig(init=str(folder))).module.generation_config.suppress_tokens is None
    assert f"has no {GENERATION}: nothing is suppressed" in caplog.text


def test_another_kind_of_sequence_to_sequence_model(tmp_path, capsys):
    Speech2TextForConditionalGeneration(tiny_config("speech_to_text")).save_pretrained(tmp_path)
    Speech2TextFeatureExtractor(feature_size=16, num_mel_bins=16).save_pretrained(tmp_path)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is a sequence-to-sequence model of type speech_to_text; of those only whisper is known here" in error
    assert error.strip().count("\n") == 0


def test_a_whisper_that_writes_no_text(english, tmp_path):
    shutil.copytree(english, tmp_path / "model")
    WhisperForAudioClassification(tiny_config("whisper")).save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match="is WhisperForAudioClassification, which writes no text; give a WhisperFor"):
        load_backbone(ModelConfig(init=str(tmp_path / "model")), 0, new_head=True)


def test_weights_are_drawn_anew_when_asked(english):
    drawn = load_backbone(ModelConfig(init=str(english), random_init=True), seed=4).module.state_dict()
    kept = load_folder(english).module.state_dict()
    assert not torch.equal(drawn["model.encoder.conv1.weight"], kept["model.encoder.conv1.weight"])
    positions = "model.encoder.embed_positions.weight"
    assert torch.equal(drawn[positions], kept[positions]), "sinusoids"
    with pytest.raises(ModelError, match=r"model\.tokenizer: 'whisper-mini' writes bytes; leave it out"):
        load_backbone(replace(TINY["whisper"], tokenizer="there"), seed=0)
