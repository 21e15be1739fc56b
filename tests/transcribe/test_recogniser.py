"""Recordings into words: as evaluation reads them, whatever their length, rate, channels, batch and threads."""

import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import pipeline

from audio_lottery import pruning
from audio_lottery.config import DecoderConfig, ModelConfig
from audio_lottery.data.audio import SAMPLE_RATE, read_audio
from audio_lottery.errors import AudioError, ConfigError, ModelError
from audio_lottery.models.base import Emission
from audio_lottery.models.characters import build_processor
from audio_lottery.models.ctc import CtcBackbone
from audio_lottery.models.load import load_backbone
from audio_lottery.transcribe import Failure, Recogniser, Recording, Windowing
from tests.conftest import TINY_MODEL
from tests.models.test_transducer import bursts, lively
from tests.models.test_words import FRAMES

LETTERS = "abcdefghijklmnopqrstuvwxyz"
STEP = 320
SHORT = Windowing(4.0, shortest=2.0, overlap=1.5)


class Reader(CtcBackbone):
    """Hears in the middle of every frame what letter it is, from the level alone: whoever cuts speech, cuts words."""

    family = "reader"
    shortest = STEP
    pads_exactly = True
    keeps_state = False
    frame_seconds = STEP / SAMPLE_RATE

    def __init__(self):
        module = nn.Linear(4, 4)
        module.device = torch.device("cpu")
        super().__init__(module, build_processor(LETTERS))

    @classmethod
    def claims(cls, architecture):
        return False

    @property
    def features(self):
        return lambda audio: {"x": nn.utils.rnn.pad_sequence([torch.from_numpy(one) for one in audio], True)}

    def emit(self, inputs, samples, beam=1):
        frames = samples // STEP
        labels = (inputs["x"][:, STEP // 2 :: STEP][:, : frames.max()] * 100).round().long() - 10
        return Emission(10.0 * nn.functional.one_hot(labels.clamp(min=0), 30).float(), frames.tolist())


def speak(words: list[str], pauses: list[float]) -> np.ndarray:
    """Letters of 60 ms, each followed by a blank, behind every word a delimiter and a pause."""
    ids = build_processor(LETTERS).tokenizer.get_vocab()
    pieces = []
    for word, pause in zip(words, pauses, strict=True):
        pieces += [part for letter in word for part in ((0.1 + 0.01 * ids[letter], 3 * STEP), (0.08, STEP))]
        pieces += [(0.12, STEP), (0.001, round(pause * SAMPLE_RATE))]
    return np.concatenate([np.full(count, level, np.float32) for level, count in pieces])


@settings(max_examples=30, deadline=None)
@given(
    words=st.lists(st.text(LETTERS, min_size=2, max_size=7), min_size=1, max_size=60),
    pauses=st.lists(st.sampled_from([0.02, 0.05, 0.1, 0.4, 1.0, 6.0]), min_size=60, max_size=60),
)
def test_no_window_loses_or_doubles_a_word(words, pauses):
    audio = speak(words, pauses[: len(words)])
    found = Recogniser(Reader()).transcribe(audio, windowing=SHORT)
    assert found.text.split() == words
    assert found.duration == len(audio) / SAMPLE_RATE
    at = 0.0
    for word, pause, said in zip(words, pauses, found.words, strict=False):
        length = (len(word) * 4 + 1) * STEP / SAMPLE_RATE
        assert said.start == pytest.approx(at, abs=0.06)
        assert said.end == pytest.approx(at + length, abs=0.1)
        at += length + pause


def test_many_recordings_come_in_order_and_bad_ones_alone(tmp_path):
    """Across batches, some of them cut, some without a window, some unreadable."""
    texts = [["ab"] * 40, [], ["cd"], ["ef"] * 5, ["gh"] * 70]
    sources = []
    for number, words in enumerate(texts):
        path = tmp_path / f"{number}.wav"
        samples = speak(words, [0.1] * len(words)) if words else np.zeros(SAMPLE_RATE)
        soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")
        sources.append(path)
    sources.insert(2, tmp_path / "gone.wav")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "4.wav").read_bytes()[:200_000])
    sources += [tmp_path / "cut.wav", Recording(speak(["last"], [0.1]))]
    seconds = []
    found = list(Recogniser(Reader()).transcribe_all(sources, windowing=SHORT, progress=seconds.append))
    said = [one.error.args[0] if isinstance(one, Failure) else one.text for one in found]
    assert said[:2] == [" ".join(texts[0]), ""]
    assert said[2] == f"{tmp_path / 'gone.wav'}: no such audio file"
    assert said[3:6] == [" ".join(words) for words in texts[2:]]
    assert "cut.wav: truncated: " in said[6]
    assert said[7] == "last"
    assert [one.source for one in found] == [*map(str, sources[:-1]), ""]
    assert sum(seconds) > 20


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """Ten minutes are 37 MiB of samples."""
    minute = speak(["abc", "de"] * 50, [0.1, 0.4] * 50)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", SAMPLE_RATE, 1, "FLOAT") as file:
        while file.frames < 600 * SAMPLE_RATE:
            file.write(minute)
    recogniser = Recogniser(Reader())
    tracemalloc.start()
    try:
        found = recogniser.transcribe(tmp_path / "long.wav")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert set(found.text.split()) == {"abc", "de"}
    assert peak < 20 * 2**20


@pytest.mark.parametrize("family", FRAMES)
def test_every_family_says_what_evaluation_reads(family):
    config = FRAMES[family][0]
    overrides = config.overrides | {"initializer_range": 0.5} if family == "w2v2" else config.overrides
    backbone = (
        lively(config) if "transducer" in family else load_backbone(ModelConfig(config.init, overrides=overrides), 4)
    )
    backbone.module.eval()
    audio = [bursts(40_000), bursts(17_003)]
    with torch.no_grad():
        expected = [
            backbone.search(backbone.emit(backbone.features([one]), torch.tensor([len(one)])))[0][0].text
            for one in audio
        ]
    found = list(Recogniser(backbone).transcribe_all(map(Recording, audio)))
    assert any(expected)
    for one, text, samples in zip(found, expected, audio, strict=True):
        assert one.text == " ".join(text.split())
        times = [time for word in one.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert all(0 <= time <= len(samples) / SAMPLE_RATE + 0.1 for time in times)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A saved model of which nine tenths are zero, and which writes something."""
    config = ModelConfig("w2v2-mini", overrides=TINY_MODEL | {"initializer_range": 0.5})
    backbone = load_backbone(config, 4)
    pruning.apply(pruning.prune(backbone.module, 0.3), backbone.module)
    head = backbone.module.eval().lm_head
    with torch.no_grad():
        logits = backbone.module(**backbone.features([bursts(48_000)])).logits[0]
        head.weight /= logits.std(0)[:, None]
        head.bias.copy_((head.bias - logits.mean(0)) / logits.std(0))
        head.bias[2] += 1.5  # words end now and then
    folder = tmp_path_factory.mktemp("sparse")
    backbone.save(folder)
    return folder


def test_the_dictionary_is_that_of_a_pipeline(sparse):
    audio = bursts(48_000)
    recogniser = Recogniser.load(sparse, accelerate=False)
    theirs = pipeline("automatic-speech-recognition", model=str(sparse), device="cpu")
    expected = theirs({"raw": audio, "sampling_rate": SAMPLE_RATE}, return_timestamps="word")
    found = recogniser.transcribe(audio).to_dict()
    assert found.keys() == expected.keys()
    assert found["text"] == " ".join(expected["text"].split())
    assert len(found["chunks"]) > 1
    for one, other in zip(found["chunks"], expected["chunks"], strict=True):
        assert one["text"] == other["text"]
        assert one["timestamp"] == pytest.approx(other["timestamp"], abs=0.01)


def test_sparse_models_run_on_sparse_kernels(sparse, caplog):
    caplog.set_level("INFO")
    audio = [Recording(bursts(samples)) for samples in (30_000, 24_000, 24_000)]
    texts = {}
    for name, options in {
        "dense": {"accelerate": False},
        "sparse": {},
        "threads": {"threads": 2},
        "bfloat16": {"precision": "bfloat16"},
        "int8": {"precision": "int8"},
    }.items():
        recogniser = Recogniser.load(sparse, **options)
        assert recogniser.accelerated == (name != "dense")
        texts[name] = [one.text for one in recogniser.transcribe_all(audio)]
    assert any(texts["dense"])
    assert texts["dense"] == texts["sparse"] == texts["threads"]
    assert "70 % of the prunable weights are zero: runs on sparse kernels" in caplog.text
    assert not Recogniser(load_backbone(FRAMES["w2v2"][0], 1)).accelerated


def test_any_rate_and_number_of_channels(sparse, tmp_path):
    recogniser = Recogniser.load(sparse, accelerate=False)
    rate = 192_000
    mono = np.repeat(bursts(24_000), rate // SAMPLE_RATE)
    spread = np.linspace(0.5, 1.5, 8)
    soundfile.write(tmp_path / "eight.wav", mono[:, None] * spread, rate, subtype="FLOAT")
    found = recogniser.transcribe(tmp_path / "eight.wav")
    assert found.duration == 1.5
    same = recogniser.transcribe(read_audio(tmp_path / "eight.wav"))
    assert found.text == same.text == recogniser.transcribe(mono[:, None] * spread, sample_rate=rate).text != ""


def test_silence_says_nothing(sparse, tmp_path):
    soundfile.write(tmp_path / "silent.flac", np.zeros(60 * SAMPLE_RATE), SAMPLE_RATE)
    found = Recogniser.load(sparse, accelerate=False).transcribe(tmp_path / "silent.flac")
    assert (found.text, found.duration, found.words) == ("", 60.0, [])


def test_beam_search_has_words_and_times(sparse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("one\to n e |\nTwo\tt w o |\n")
    config = DecoderConfig("beam", lexicon="words.txt", beam_size=10)
    found = Recogniser.load(sparse, accelerate=False, threads=1, decoder=config).transcribe(bursts(48_000))
    assert len(found.words) > 1
    assert {word.text for word in found.words} <= {"one", "Two"}
    assert found.text.split() == [word.text for word in found.words]


class Whole(Reader):
    """Says words, and not when."""

    frame_seconds = None

    def search(self, emission, beam=1):
        reader = Reader()
        return reader.search(emission, beam)


def test_models_without_times_give_a_segment_for_every_window():
    audio = speak(["ab", "cd", "ef", "gh"], [1.5] * 4)
    found = Recogniser(Whole()).transcribe(audio, windowing=SHORT)
    assert found.text == "ab cd ef gh"
    assert found.words == []
    assert len(found.segments) > 1
    assert all(one.end <= other.start for one, other in zip(found.segments, found.segments[1:], strict=False))


class Padded(Whole):
    """Pads all it hears to five seconds."""

    longest = 5 * SAMPLE_RATE


def test_windows_are_long_where_they_are_padded_anyway():
    audio = speak(["ab", "cd", "ef", "gh", "ij", "kl"], [1.0, 1.0, 1.3, 1.0, 1.0, 1.0])
    sentences, long = (Recogniser(one).transcribe(audio) for one in (Whole(), Padded()))
    assert sentences.text == long.text == "ab cd ef gh ij kl"
    assert [len(found.segments) for found in (sentences, long)] == [1, 2]  # no longer than 20 s, longer than 5
    shorter = Recogniser(Padded()).windowing(2.0)
    assert (shorter.longest, Recogniser(Padded()).windowing(9.0).longest) == (2.0, 5.0)
    assert len(Recogniser(Padded()).transcribe(audio, windowing=shorter).segments) > 2


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(9, np.int16), 16_000, r"audio is int16 of shape \(9,\); give floats between -1 and 1"),
        (np.zeros((2, 3, 4)), 16_000, r"audio is float64 of shape \(2, 3, 4\)"),
        (np.zeros(9), 16, r"audio of 16 Hz; 1000 to 1000000 Hz can be resampled"),
        (np.array([0.0, np.nan]), 16_000, "audio holds NaN or infinite samples"),
    ],
)
def test_samples_that_are_no_audio(samples, rate, message):
    with pytest.raises(AudioError, match=message):
        Recogniser(Reader()).transcribe(samples, sample_rate=rate)


def test_options_that_mean_nothing(sparse):
    with pytest.raises(ConfigError, match="precision 'int4' is unknown; there are float32, bfloat16, int8"):
        Recogniser.load(sparse, precision="int4")
    with pytest.raises(ConfigError, match="precision 'int8' is one of the sparse kernels"):
        Recogniser.load(sparse, precision="int8", accelerate=False)
    with pytest.raises(ConfigError, match="threads is 0; it must be 1 or more"):
        Recogniser.load(sparse, threads=0)
    with pytest.raises(ModelError, match="'w2v2-mini' is a preset with random weights"):
        Recogniser.load("w2v2-mini")
