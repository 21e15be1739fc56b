"""Decoding: pieces equal slices, formats agree, and nothing that is cut short passes in silence."""

import itertools
import os
import resource
import time
from collections.abc import Iterator
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
    "aiff": {},
    "au": {},
    "w64": {},
    "rf64": {"format": "RF64"},
    "caf": {},
}
LOSSLESS = ["flac", "wav", "sph", "aiff", "au", "w64", "rf64", "caf"]

# Everything that soundfile knows, raw samples apart.
CODECS = [
    (container, codec)
    for container in sf.available_formats()
    if container != "RAW"
    for codec in sf.available_subtypes(container)
]


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


@pytest.mark.parametrize(("container", "codec"), CODECS)
def test_partial_reads_of_every_codec_are_slices_of_the_whole(tmp_path: Path, container: str, codec: str) -> None:
    path = tmp_path / f"a.{container.lower()}"
    try:  # WVE and some others have one rate only
        sf.write(path, speechlike(2), 8_000 if container == "WVE" else SAMPLE_RATE, format=container, subtype=codec)
    except sf.LibsndfileError as error:
        pytest.skip(f"this libsndfile cannot write it: {error}")
    if codec.startswith("DWVW"):  # which soundfile cannot decode, not even whole
        with pytest.raises(sf.LibsndfileError):
            sf.read(path)
        with pytest.raises(AudioError, match=r"a\.aiff: cannot be decoded \(.+\); fetch it again"):
            read_audio(path)
        return
    decoded, rate = sf.read(path, dtype="float32")
    assert probe(path) == AudioInfo(len(decoded), rate, 1)
    whole = read_audio(path)
    if rate == SAMPLE_RATE:
        np.testing.assert_array_equal(whole, decoded)
    seconds = len(decoded) / rate
    lossy = {"OPUS": 2e-3, "MPEG_LAYER_III": 1e-6}.get(codec, 0.0)  # their decoders have a memory
    spans = [(0, 0.01), (0.15 * seconds, 0.6 * seconds), (0.35, 0.3501)]
    for start, end in [*spans, (seconds - 0.0011, seconds), (seconds / 2, None)]:
        piece = read_audio(path, start, end)
        last = len(whole) if end in (seconds, None) else round(end * SAMPLE_RATE)
        expected = whole[round(start * SAMPLE_RATE) : last]
        assert piece.shape == expected.shape
        assert np.abs(piece - expected).max() <= lossy + (0 if rate == SAMPLE_RATE else 1e-6)
    with pytest.raises(AudioError, match=f"asked for 0.5 s to 9 s, but the file ends at {seconds:.3f} s"):
        read_audio(path, 0.5, 9)


@pytest.mark.parametrize(("ending", "codec"), [("gsm", "GSM610"), ("vox", "VOX_ADPCM")])
def test_telephone_speech_without_a_header(tmp_path: Path, ending: str, codec: str) -> None:
    path = tmp_path / f"a.{ending}"
    sf.write(path, speechlike(2, 8_000), 8_000, format="RAW", subtype=codec)
    assert probe(path) == AudioInfo(SAMPLE_RATE, 8_000, 1)
    np.testing.assert_allclose(read_audio(path, 0.5, 1.5), read_audio(path)[8_000:24_000], atol=1e-6)


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


RATES = [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000]


@pytest.mark.parametrize("rate", RATES)
def test_resampling_is_that_of_an_ideal_filter(tmp_path: Path, rate: int) -> None:
    # Sines at the instants of the new samples are what a filter without end makes of them.
    draw, nyquist = np.random.default_rng(rate), min(rate, SAMPLE_RATE) / 2
    kept = draw.uniform(50, 0.9 * nyquist, size=(20, 1)), draw.uniform(0, 6, size=(20, 1))
    lost = draw.uniform(1.03 * nyquist, rate / 2, size=(20, 1)) if rate > SAMPLE_RATE else np.zeros((20, 1))

    def sines(pitch: np.ndarray, phase: np.ndarray | float, at: int) -> np.ndarray:
        return np.sin(2 * np.pi * pitch * np.arange(2 * at) / at + phase).sum(axis=0) / 50

    sf.write(tmp_path / "a.wav", sines(*kept, rate) + sines(lost, 0.0, rate), rate, subtype="FLOAT")
    error = read_audio(tmp_path / "a.wav") - sines(*kept, SAMPLE_RATE)
    inside = error[1000:-1000]  # the recording begins and ends at once, sines do not
    assert 20 * np.log10(np.sqrt(np.mean(inside**2) / np.mean(sines(*kept, SAMPLE_RATE) ** 2))) < -60


@pytest.mark.parametrize("rate", [*RATES, 11_127, 16_001])
def test_pieces_at_other_rates_are_slices_of_the_whole(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", speechlike(rate=rate, seconds=2.0003), rate)
    whole = read_audio(path)
    frames = sf.info(path).frames
    assert len(whole) == -(-frames * SAMPLE_RATE // rate)
    np.testing.assert_array_equal(read_audio(path, 0.0, frames / rate), whole)
    times = np.sort(np.random.default_rng(rate).uniform(0, 2, size=12))
    pieces = [read_audio(path, start, end) for start, end in itertools.pairwise(times)]
    together = whole[round(times[0] * SAMPLE_RATE) : round(times[-1] * SAMPLE_RATE)]
    np.testing.assert_allclose(np.concatenate(pieces), together, atol=1e-6, rtol=0)
    assert read_audio(path, 1.0, 1.0 + 1 / rate).size
    assert read_audio(path, (frames - 1) / rate, frames / rate).size


@pytest.mark.parametrize("rate", [1_000, 4_000, 11_127, 16_001, 44_101, 65_537, 192_001, 999_983, 1_000_000])
def test_cost_does_not_follow_the_ratio_of_the_rates(tmp_path: Path, rate: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(rate) / rate)
    path = write(tmp_path / "a.wav", tone.astype(np.float32), rate)
    memory, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    samples = read_audio(path)
    assert time.perf_counter() - begin < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # kB
    expected = 0.5 * np.sin(2 * np.pi * 300 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert samples.shape == expected.shape
    assert np.abs(samples - expected)[2000:-2000].max() < 1e-3


@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recorder_has_is_refused(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", np.zeros(100, np.float32), rate)
    for function in (probe, read_audio):
        with pytest.raises(AudioError, match=rf"a\.wav: its header says {rate} Hz, and 1000 to 1000000 Hz can be"):
            function(path)


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
        ("noise.au", b"not audio at all" * 50, r"cannot be decoded \(it has no AU header\)"),
        ("pcm.raw", bytes(100), "raw samples without a header"),
        *((f"none.{ending}", b"", r"cannot be decoded \(the file is empty: zero bytes\)") for ending in FORMATS),
        ("none", b"", r"cannot be decoded \(the file is empty: zero bytes\)"),
        ("missing/a.flac", None, "no such audio file"),
        ("a" * 300 + ".wav", None, r"cannot be read \(File name too long\)"),
    ],
)
def test_what_is_no_audio(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for function in (probe, read_audio):
        with pytest.raises(AudioError, match=f"{name}: {message}") as caught:
            function(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    """A file that this process may not read; root, who may read all, becomes nobody."""
    path = write(tmp_path / "secret.wav", speechlike())
    path.chmod(0)
    if os.geteuid() != 0:
        yield path
        return
    os.seteuid(65_534)
    try:
        yield path
    finally:
        os.seteuid(0)


def test_without_permission(unreadable: Path) -> None:
    for function in (probe, read_audio):
        with pytest.raises(AudioError, match=r"secret\.wav: cannot be read \(Permission denied\)"):
            function(unreadable)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "clip.mp3").mkdir()
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    for name, message in [
        ("clip.mp3", "is a folder and not an audio file"),
        ("pipe.wav", "is a device or pipe and not an audio file"),
        ("loop.wav", "cannot be read (Too many levels of symbolic links)"),
        ("a\0.wav", "no such audio file"),
    ]:
        for function in (probe, read_audio):
            with pytest.raises(AudioError) as caught:
                function(tmp_path / name)
            assert str(caught.value) == f"{tmp_path / name}: {message}"


def test_zero_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "silent.wav", np.zeros(0, np.float32))
    with pytest.raises(AudioError, match=r"silent\.wav: holds no audio \(zero frames\)"):
        probe(path)
    with pytest.raises(AudioError, match=r"silent\.wav: no audio between"):
        read_audio(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_header_without_samples(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", np.zeros(0, np.float32))
    for function in (probe, read_audio):
        with pytest.raises(AudioError, match=rf"a\.{ending}: .*(zero frames|cannot be decoded)"):
            function(path)
