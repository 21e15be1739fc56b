"""Babble: other people, as many as were drawn, equally loud, from a manifest of any length."""

import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from datasets import Dataset

from audio_lottery.data.noise import Babble, get_noise_source
from audio_lottery.errors import AudioError, ConfigError, CorpusError
from tests.data.noise.signals import RATE, rng, write


def manifest_of(folder: Path, speakers: list[str], seconds: float = 0.5, silent: bool = False) -> Dataset:
    """One file a row: speaker k hums at 200 + 100·k Hz, each at another level."""
    pitch = {speaker: 200 + 100 * k for k, speaker in enumerate(sorted(set(speakers)))}
    rows = []
    for i, speaker in enumerate(speakers):
        time = np.arange(int(seconds * RATE)) / RATE
        hum = 0.0 if silent else 0.02 * (1 + i % 7) * np.sin(2 * np.pi * pitch[speaker] * time)
        path = write(folder / f"{i}.wav", hum + 0 * time)
        rows.append({"id": f"u{i}", "audio": str(path), "start": 0.0, "end": seconds, "speaker": speaker, "text": "x"})
    return Dataset.from_list(rows)


def voices(babble: np.ndarray, speakers: list[str]) -> dict[str, float]:
    """Mean power at the pitch of every speaker, those not heard left out."""
    power = np.abs(np.fft.rfft(babble * np.hanning(len(babble)))) ** 2
    at = {speaker: (200 + 100 * k) * len(babble) // RATE for k, speaker in enumerate(sorted(set(speakers)))}
    heard = {speaker: float(power[k - 3 : k + 4].sum()) for speaker, k in at.items()}
    loudest = max(heard.values())
    return {speaker: value for speaker, value in heard.items() if value > 0.05 * loudest}


SPEAKERS = list("abcdefghij")


def test_five_to_eight_others_equally_loud(tmp_path: Path) -> None:
    source = Babble(manifest_of(tmp_path, SPEAKERS * 3))
    counts: Counter[int] = Counter()
    for seed in range(60):
        babble = source.sample(8000, rng(seed), "c")
        assert babble.dtype == np.float32
        heard = voices(babble, SPEAKERS)
        assert "c" not in heard
        counts[len(heard)] += 1
        assert max(heard.values()) / min(heard.values()) < 1.1
    assert set(counts) == {5, 6, 7, 8}


@pytest.mark.parametrize("n", [1, 500, 20_000])
def test_any_length_and_the_same_every_time(tmp_path: Path, n: int) -> None:
    manifest = manifest_of(tmp_path, SPEAKERS)
    babble = Babble(manifest).sample(n, rng(1), "a")
    assert babble.shape == (n,)
    np.testing.assert_array_equal(babble, pickle.loads(pickle.dumps(Babble(manifest))).sample(n, rng(1), "a"))
    if n > 1:
        assert not np.array_equal(babble, Babble(manifest).sample(n, rng(2), "a"))


def test_six_speakers_are_enough_for_anyone(tmp_path: Path) -> None:
    speakers = list("abcdef")
    source = Babble(manifest_of(tmp_path, speakers))
    for speaker in speakers:
        assert set(voices(source.sample(8000, rng(0), speaker), speakers)) == set(speakers) - {speaker}


def test_speakers_with_few_rows_are_found(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, list("abcdef"))
    many = Dataset.from_dict({name: manifest[name][:1] * 3000 + manifest[name][1:] for name in manifest.column_names})
    assert set(voices(Babble(many).sample(8000, rng(0), "a"), list("abcdef"))) == set("bcdef")


def test_a_manifest_on_disk_is_not_read_whole(tmp_path: Path) -> None:
    manifest_of(tmp_path, SPEAKERS).save_to_disk(str(tmp_path / "saved"))
    mapped = Dataset.load_from_disk(str(tmp_path / "saved"))
    assert len(pickle.dumps(Babble(mapped))) < 10_000


def test_a_segment_of_a_long_recording_stays_within_its_bounds(tmp_path: Path) -> None:
    rows = []
    for k, speaker in enumerate("abcdef"):
        time = np.arange(RATE) / RATE
        inside = 0.1 * np.sin(2 * np.pi * (200 + 100 * k) * time)
        path = write(tmp_path / f"{k}.wav", np.concatenate([0.9 * np.ones(RATE), inside, 0.9 * np.ones(RATE)]))
        rows.append({"id": speaker, "audio": str(path), "start": 1.0, "end": 2.0, "speaker": speaker})
    for seed in range(5):
        babble = Babble(Dataset.from_list(rows)).sample(4000, rng(seed), "a")
        assert abs(float(babble.mean())) < 0.05


def test_too_few_speakers_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="needs 5 speakers beside the utterance's own, and the manifest has 5 in all"):
        Babble(manifest_of(tmp_path, list("abcde") * 4))


def test_offsets_of_the_talkers_do_not_count(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, SPEAKERS)
    before = Babble(manifest).sample(8000, rng(3), "a")
    for i, row in enumerate(manifest):
        samples, rate = sf.read(row["audio"])
        write(Path(row["audio"]), samples + (-1) ** i * 0.05 * i, rate)
    np.testing.assert_allclose(Babble(manifest).sample(8000, rng(3), "a"), before, atol=0.02)


def test_constant_speech_is_no_babble(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, SPEAKERS)
    for row in manifest:
        write(Path(row["audio"]), np.full(8000, 0.2))
    with pytest.raises(AudioError, match=r"silent as babble, the last one 'u\d' in "):
        Babble(manifest).sample(100, rng(0), "a")


def test_silent_speech_is_refused_by_name(tmp_path: Path) -> None:
    source = Babble(manifest_of(tmp_path, SPEAKERS, silent=True))
    with pytest.raises(AudioError, match=r"silent as babble, the last one 'u\d' in .*" + re.escape(str(tmp_path))):
        source.sample(100, rng(0), "a")


def test_without_a_manifest() -> None:
    with pytest.raises(ConfigError, match="babble is made of other speakers' utterances"):
        get_noise_source("babble")
