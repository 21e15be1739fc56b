"""Whisper: the loss and the texts of plain transformers, windows, languages, what is saved and what is refused."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, GenerationMixin, WhisperForConditionalGeneration, WhisperProcessor

from audio_lottery.config import DataConfig, ModelConfig, SpecAugmentConfig
from audio_lottery.data.filters import prepare_training
from audio_lottery.data.manifest import Utterance, build_manifest
from audio_lottery.errors import CorpusError, TextError
from audio_lottery.models.load import load_backbone, load_folder, load_trained
from audio_lottery.models.whisper import WhisperVocabulary, byte_tokenizer
from audio_lottery.models.whisper.features import OWNERS, cut
from audio_lottery.pruning import find_scope
from audio_lottery.sparse.format import load, save
from tests.lottery.test_backbones import TINY
from tests.models.test_transducer import bursts

# Loud weights, so that texts depend on the audio; 3 s, of which the window takes 2.5.
LIVELY = replace(
    TINY["whisper"],
    overrides=TINY["whisper"].overrides | {"init_std": 0.6, "max_source_positions": 150, "max_target_positions": 24},
)
AUDIO = [bursts(samples) for samples in (16_000, 9_001, 23_011)]
SAMPLES = torch.tensor([len(audio) for audio in AUDIO])
LABELS = [torch.tensor(list(range(10, 10 + length))) for length in (5, 1, 12)]


@pytest.fixture(scope="module")
def backbone():
    found = load_backbone(replace(LIVELY, window=2.5), seed=2)
    found.module.eval()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory, backbone):
    """The same weights with the whole window, and as plain transformers loads them."""
    folder = tmp_path_factory.mktemp("whole")
    backbone.save(folder)
    ours = load_trained(ModelConfig(init=str(folder), window=3.0))
    return ours, WhisperForConditionalGeneration.from_pretrained(folder).eval()


def alone(index):
    return AUDIO[index : index + 1], SAMPLES[index : index + 1]


def test_what_is_pruned(backbone):
    scope = find_scope(backbone.module, exclude=list(backbone.heads))
    kinds = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "conv1", "conv2")
    assert all(name.split(".")[-2] in kinds for name in scope.names)
    assert len(scope.names) == 2 + 4 + 2 + 8 + 2
    assert not any("embed" in name or "proj_out" in name for name in scope.names)
    trained = {name for name, parameter in backbone.module.named_parameters() if parameter.requires_grad}
    assert "model.encoder.embed_positions.weight" not in trained
    assert "model.decoder.embed_positions.weight" in trained


def test_the_loss_is_that_of_transformers_with_the_prompt_masked(whole):
    ours, plain = whole
    together = ours.loss(ours.features(AUDIO), SAMPLES, LABELS)
    assert (together.shape, together.dtype) == ((3,), torch.float32)
    for index, labels in enumerate(LABELS):
        audio, samples = alone(index)
        inputs = ours.features(audio)
        torch.testing.assert_close(ours.loss(inputs, samples, [labels])[0], together[index], rtol=1e-5, atol=1e-5)
        target = torch.tensor([[-100, *labels.tolist(), plain.generation_config.eos_token_id]])
        full = target.clone()
        full[0, 0] = plain.generation_config.no_timestamps_token_id
        start = torch.tensor([[plain.generation_config.decoder_start_token_id]])
        theirs = plain(**inputs, decoder_input_ids=torch.cat([start, full[:, :-1]], 1), labels=target).loss.detach()
        assert float(together[index].detach()) == pytest.approx(float(theirs) * (len(labels) + 1), rel=1e-5)


def test_gradients_reach_everything_that_is_trained(backbone):
    backbone.loss(backbone.features(AUDIO), SAMPLES, LABELS).sum().backward()
    for name, parameter in backbone.module.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    backbone.module.zero_grad()


@pytest.mark.parametrize("beam", [1, 3])
def test_texts_and_scores_are_those_of_plain_transformers(whole, beam):
    """With the published suppression lists, and in a batch as alone."""
    ours, plain = whole
    inputs = ours.features(AUDIO)
    found = ours.search(ours.emit(inputs, SAMPLES, beam), beam)
    assert len({hypotheses[0].text for hypotheses in found}) > 1, "the model must not say the same of everything"
    theirs = plain.generate(inputs["input_features"], num_beams=beam)
    tokenizer = ours.processor.tokenizer
    assert [one[0].text for one in found] == [text.strip() for text in tokenizer.batch_decode(theirs, True)]
    for index, hypotheses in enumerate(found):
        audio, samples = alone(index)
        again = ours.search(ours.emit(ours.features(audio), samples, beam), beam)[0]
        assert [one.text for one in again] == [one.text for one in hypotheses]
        assert len(hypotheses) == beam
        assert [one.score for one in hypotheses] == sorted((one.score for one in hypotheses), reverse=True)


def test_a_score_is_what_the_beam_maximised(whole):
    ours, plain = whole
    inputs, prompt = ours.features(AUDIO), torch.tensor([ours._prompt.tokens] * len(AUDIO))
    options = {"num_beams": 2, "output_scores": True, "return_dict_in_generate": True}
    theirs = GenerationMixin.generate(plain, **inputs, decoder_input_ids=prompt, **options)
    found = ours.search(ours.emit(inputs, SAMPLES, 2), 2)
    assert [one[0].score for one in found] == pytest.approx(theirs.sequences_scores.tolist(), rel=1e-4)
    greedy = ours.search(ours.emit(inputs, SAMPLES))
    for index, [hypothesis] in enumerate(greedy):
        audio, samples = alone(index)
        with torch.no_grad():
            loss = ours.loss(ours.features(audio), samples, [torch.tensor(hypothesis.labels)])
        ended = len(hypothesis.labels) < 22
        assert (hypothesis.acoustic == pytest.approx(-float(loss), rel=1e-4)) == ended, "else the end was not written"
        assert hypothesis.score == hypothesis.acoustic / (len(hypothesis.labels) + ended)


def test_the_window_is_the_checkpoints_until_another_is_asked_for(backbone, whole, tmp_path):
    assert backbone.features(AUDIO)["input_features"].shape == (3, 16, 250)
    assert backbone.module.config.max_source_positions == 150, "what is saved is the published model"
    assert backbone.module.state_dict()["model.encoder.embed_positions.weight"].shape == (150, 16)
    backbone.save(tmp_path)
    again = load_folder(tmp_path)
    inputs = backbone.features(AUDIO)
    assert torch.equal(again.features(AUDIO)["input_features"], inputs["input_features"])
    assert again.search(again.emit(inputs, SAMPLES)) == backbone.search(backbone.emit(inputs, SAMPLES))
    ours, plain = whole
    assert ours.features(AUDIO)["input_features"].shape == (3, 16, 300)
    processor = WhisperProcessor.from_pretrained(tmp_path)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), WhisperProcessor)
    assert processor.tokenizer("no").input_ids == ours.processor.tokenizer("no").input_ids
    assert plain.config.window_seconds == 2.5, "kept, and of no use to plain transformers"


def test_threads_do_not_mix_up(backbone):
    inputs = [backbone.features(alone(index)[0]) for index in (0, 1, 2)] * 2
    expected = [backbone.search(backbone.emit(one, torch.tensor([9_000]))) for one in inputs]
    with ThreadPoolExecutor(3) as pool:
        emitted = pool.map(lambda one: backbone.emit(one, torch.tensor([9_000])), inputs)
    assert [backbone.search(one) for one in emitted] == expected


def test_long_audio_is_cut_where_it_is_quietest(backbone):
    audio = np.full(50_000, 0.1, np.float32)
    for quiet in (20_000, 38_000):
        audio[quiet - 800 : quiet + 800] = 0
    pieces = cut(audio, 24_000)
    assert [len(piece) for piece in pieces] == [20_000, 18_000, 12_000]
    assert np.array_equal(np.concatenate(pieces), audio)
    assert all(len(piece) <= 24_000 for piece in cut(bursts(200_000), 24_000))
    inputs = backbone.features([AUDIO[0], audio, AUDIO[1]])
    assert inputs[OWNERS].tolist() == [0, 1, 1, 1, 2]
    found = backbone.search(backbone.emit(inputs, torch.tensor([16_000, 50_000, 9_001])))
    parts = [backbone.search(backbone.emit(backbone.features([one]), torch.tensor([1])))[0][0] for one in pieces]
    assert found[1][0].text == " ".join(part.text for part in parts if part.text)
    assert found[1][0].labels == tuple(label for part in parts for label in part.labels)
    assert found[1][0].acoustic == pytest.approx(sum(part.acoustic for part in parts), rel=1e-5)
    assert len(found) == 3
    seconds = np.array([0.5, 1.5, 3.125])
    assert backbone.padded(seconds).tolist() == [2.5, 2.5, 10.0], "at most four windows"


def test_what_is_longer_than_the_window_is_not_trained_on(backbone):
    rows = [Utterance(f"u{i}", "a.flac", 0.0, s, "no", "s", s, "c") for i, s in enumerate((1.0, 1.5, 1.6))]
    data = prepare_training(
        build_manifest(rows, "c"), backbone.vocabulary, backbone.can_align, DataConfig(), longest=1.5
    )
    assert data.dropped == {"longer than the 1.5 s that the model takes at once": 1}
    short = r"after filtering: 3 longer than the 0\.5 s that the model takes at once; see"
    with pytest.raises(CorpusError, match=short):
        prepare_training(build_manifest(rows, "c"), backbone.vocabulary, backbone.can_align, DataConfig(), longest=0.5)
    assert backbone.longest == 24_000
    assert backbone.can_align([1] * 22, 24_000)
    assert not backbone.can_align([1] * 23, 24_000), "the decoder has 24 positions, two of them for the prompt"
    assert not backbone.can_align([], 24_000)


def test_masks_cover_frames_with_speech_and_leave_the_input_alone(backbone):
    inputs = backbone.features(AUDIO)
    before = inputs["input_features"].clone()
    masking = backbone.masking(SpecAugmentConfig(time_prob=0.5, time_length=10))
    rngs = [np.random.default_rng(seed) for seed in range(3)]
    masked = pickle.loads(pickle.dumps(masking))(inputs, SAMPLES, rngs)["input_features"]
    assert torch.equal(inputs["input_features"], before)
    changed = (masked != before).any(dim=1)
    for row, samples in zip(changed, SAMPLES.tolist(), strict=True):
        assert row[: samples // 160].any()
        assert not row[samples // 160 :].any()
    assert backbone.masking(SpecAugmentConfig(time_prob=0.0)) is None
    assert not backbone.module.config.apply_spec_augment


def test_labels_are_bytes_or_pieces_and_nothing_else():
    used = WhisperVocabulary(byte_tokenizer())
    used.encode("no")
    vocabulary = pickle.loads(pickle.dumps(used))
    for text in ("no", "naïve 日本", "<|endoftext|> is a token"):
        labels = vocabulary.encode(text)
        assert len(labels) == len(f" {text}".encode())
        assert max(labels) < 256, "never a special token"
        assert vocabulary.decode([*labels, 256]) == text
        assert vocabulary.unknown(text) == []
    assert vocabulary.encode("") == []


def test_characters_that_no_piece_writes():
    tokenizer = byte_tokenizer()
    letters = {piece: index for piece, index in tokenizer.get_vocab().items() if piece in "abcĠ"}
    small = type(tokenizer)(
        vocab={piece: place for place, piece in enumerate(letters)} | {"<|endoftext|>": 4}, merges=[]
    )
    vocabulary = WhisperVocabulary(small)
    assert vocabulary.unknown("abxcé") == ["x", "é"]
    with pytest.raises(TextError, match=r"the vocabulary has no 'x' .*--data\.out_of_vocabulary drop"):
        vocabulary.encode("ax")


def test_a_compact_file_keeps_what_is_never_written(backbone, tmp_path):
    save(backbone.module, tmp_path / "packed", processor=backbone.processor)
    lists = backbone.module.generation_config.suppress_tokens
    assert lists
    assert load(tmp_path / "packed").generation_config.suppress_tokens == lists
    again = load_folder(tmp_path / "packed")
    assert again.module.generation_config.suppress_tokens == lists
    inputs = backbone.features(AUDIO)
    assert again.search(again.emit(inputs, SAMPLES)) == backbone.search(backbone.emit(inputs, SAMPLES))
