"""Decoding: pieces equal slices, formats agree, and nothing that is cut short passes in silence."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.data.audio import END_TOLERANCE, SAMPLE_RATE, AudioInfo, probe, read_audio
from audio_lottery.errors import AudioError

SECONDS = 3
FORMATS = {
    "flac": {},
    "wav": {},
    "mp3": {},
    "sph": {"format": "NIST", "subtype": "PCM_16"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
}
LOSSLESS = ["flac", "wav", "sph"]


def speechlike(seconds: float = SECONDS, rate: int = SAMPLE_RATE, seed: int = 0) -> np.ndarray:
    """Noise through a slow envelope: no two pieces are alike, so that a shifted piece cannot pass for the right one."""
    generator = np.random.default_rng(seed)
    smooth = np.convolve(generator.normal(size=round(seconds * rate)), np.hanning(32) / 16, mode="same")
    return (0.3 * smooth / np.abs(smooth).max()).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    sf.write(path, samples, rate, **FORMATS[path.suffix[1:]])
    return path


def cut(path: Path, part: float) -> Path:
    """A copy of the first ``part`` of a file."""
    data = path.read_bytes()
    copy = path.with_name(f"cut{path.suffix}")
    copy.write_bytes(data[: int(part * len(data))])
    return copy


@pytest.fixture(scope="module")
def flac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("audio") / "noise.flac", speechlike())


@pytest.mark.parametrize("ending", FORMATS)
def test_intact_file_passes_whole_and_in_pieces(tmp_path: Path, ending: str) -> None:
    samples = speechlike()
    path = write(tmp_path / f"a.{ending}", samples)
    info = probe(path)
    assert info == AudioInfo(SECONDS * SAMPLE_RATE, SAMPLE_RATE, 1)
    assert info.duration == SECONDS
    whole = read_audio(path)
    assert whole.dtype == np.float32
    assert whole.shape == samples.shape
    # Lossy codecs change the waveform, and so does a decoder that starts in the middle; the words stay in their place.
    exact = 2**-14 if ending in LOSSLESS else 0.1
    assert np.abs(whole - samples).max() < exact
    for start, end in [(0.0, SECONDS), (1.0, 2.0), (2.5, SECONDS), (0.0, 0.01)]:
        piece = read_audio(path, start, end)
        expected = whole[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
        assert piece.shape == expected.shape
        assert np.abs(piece - expected).max() < (1e-9 if ending in LOSSLESS else 0.02)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_partial_read_is_a_slice_of_the_whole(flac: Path, data: st.DataObject) -> None:
    frames = SECONDS * SAMPLE_RATE
    first = data.draw(st.integers(0, frames - 1))
    last = data.draw(st.integers(first + 1, frames))
    piece = read_audio(flac, first / SAMPLE_RATE, last / SAMPLE_RATE)
    np.testing.assert_array_equal(piece, read_audio(flac)[first:last])


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = speechlike(seed=1), speechlike(seed=2)
    path = write(tmp_path / "stereo.flac", np.stack([left, right], axis=1))
    assert probe(path).channels == 2
    np.testing.assert_allclose(read_audio(path), (left + right) / 2, atol=2**-14)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_time_and_pitch(tmp_path: Path, rate: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    samples = read_audio(write(tmp_path / "tone.flac", tone, rate))
    assert samples.dtype == np.float32
    assert samples.shape == (SAMPLE_RATE,)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert np.abs(samples - expected)[200:-200].max() < 1e-3  # the filter reaches over the edges
    assert read_audio(tmp_path / "tone.flac", sample_rate=rate).shape == (rate,)


def test_threads_read_the_same_as_one_after_the_other(tmp_path: Path) -> None:
    path = write(tmp_path / "noise.flac", speechlike(rate=44_100), 44_100)
    spans = [(i / 10, i / 10 + 0.5) for i in range(20)]
    alone = [read_audio(path, *span) for span in spans]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda span: read_audio(path, *span), spans))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("ending", FORMATS)
def test_truncated_file_is_refused(tmp_path: Path, ending: str, part: float) -> None:
    path = cut(write(tmp_path / f"a.{ending}", speechlike()), part)
    with pytest.raises(AudioError, match=r"cut\.\w+ \(utterance 'u-7'\): (truncated: .*|cannot be decoded .*)fetch it"):
        read_audio(path, 0.0, SECONDS, utterance_id="u-7")
    with pytest.raises(AudioError, match=r"truncated|cannot be decoded"):
        read_audio(path)
    if ending != "flac":  # FLAC's header is all that a probe reads
        with pytest.raises(AudioError, match="truncated"):
            probe(path)


def without_length_tag(path: Path) -> Path:
    """An MP3 file as Common Voice's older ones are: its length can only be estimated from its size."""
    data = path.read_bytes()
    assert b"Info" in data[:64] or b"Xing" in data[:64]
    path.write_bytes(data.replace(b"Info", b"\0\0\0\0", 1).replace(b"Xing", b"\0\0\0\0", 1))
    return path


def test_mp3_without_length_tag(tmp_path: Path) -> None:
    path = without_length_tag(write(tmp_path / "a.mp3", speechlike()))
    duration = probe(path).duration
    whole = read_audio(path)
    assert len(whole) == round(duration * SAMPLE_RATE)
    assert len(read_audio(path, 0.0, duration)) == len(whole)
    assert len(read_audio(path, duration - 0.5, duration)) == SAMPLE_RATE // 2
    shorter = cut(path, 0.5)
    assert probe(shorter).duration < 0.6 * duration
    with pytest.raises(AudioError, match=r"cut\.mp3 \(utterance 'u'\): asked for 0 s to .* but the file ends at"):
        read_audio(shorter, 0.0, duration, utterance_id="u")


def test_mp3_behind_an_id3_tag(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", speechlike())
    plain = path.read_bytes()
    path.write_bytes(b"ID3\x04\0\0\0\0\x01\x7f" + bytes(255) + plain)
    assert probe(path).frames == SECONDS * SAMPLE_RATE
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(AudioError, match="truncated"):
        probe(path)


def test_end_may_be_rounded_but_not_wrong(flac: Path) -> None:
    assert len(read_audio(flac, 1.0, SECONDS + END_TOLERANCE - 0.001)) == (SECONDS - 1) * SAMPLE_RATE
    with pytest.raises(
        AudioError, match=r"noise\.flac \(utterance 'u1'\): asked for 1 s to 3.06 s, .* ends at 3.000 s"
    ):
        read_audio(flac, 1.0, SECONDS + 0.06, utterance_id="u1")
    for start in (SECONDS, SECONDS + 5):
        with pytest.raises(AudioError, match=r"asked for .* but the file ends at 3.000 s"):
            read_audio(flac, start, start + 0.04)
    for start, end in [(1.0, 1.0), (2.0, 1.0), (-0.5, 1.0), (SECONDS, None)]:
        with pytest.raises(AudioError, match="no audio between"):
            read_audio(flac, start, end)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, bad: float) -> None:
    samples = speechlike()
    samples[100] = bad
    sf.write(tmp_path / "bad.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"bad\.wav \(utterance 'u9'\): holds NaN or infinite samples"):
        read_audio(tmp_path / "bad.wav", utterance_id="u9")
    assert np.isfinite(read_audio(tmp_path / "bad.wav", 1.0, 2.0)).all()


def test_shorten_says_what_to_do(tmp_path: Path) -> None:
    header = b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    (tmp_path / "talk.sph").write_bytes(header.ljust(1024) + bytes(100))
    for function in (probe, read_audio):
        with pytest.raises(
            AudioError, match=r"talk\.sph: shorten-compressed.*`sph2pipe -f wav in.sph out.wav`.*OpenSLR"
        ):
            function(tmp_path / "talk.sph")


def test_wav_written_into_a_pipe_is_not_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", speechlike())
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert probe(path).frames == SECONDS * SAMPLE_RATE


def test_flac_of_unknown_length(flac: Path, tmp_path: Path) -> None:
    data = bytearray(flac.read_bytes())
    data[21] &= 0xF0  # STREAMINFO keeps the number of samples in the last 36 bits of bytes 18 to 25
    data[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(data)
    with pytest.raises(AudioError, match=r"piped\.flac: its header does not say how long it is"):
        probe(tmp_path / "piped.flac")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.flac", None, "no such audio file"),
        ("noise.flac", b"not audio at all" * 50, "cannot be decoded"),
        ("empty.flac", b"", "cannot be decoded"),
        ("pcm.raw", bytes(100), "raw samples without a header"),
    ],
)
def test_what_is_no_audio(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for function in (probe, read_audio):
        with pytest.raises(AudioError, match=f"{name}: {message}") as caught:
            function(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_zero_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "silent.wav", np.zeros(0, np.float32))
    with pytest.raises(AudioError, match=r"silent\.wav: holds no audio \(zero frames\)"):
        probe(path)
    with pytest.raises(AudioError, match=r"silent\.wav: no audio between"):
        read_audio(path)
