"""Speech from disk: 16 kHz mono float32, whole files or pieces of long ones, and never less than was asked for.

Everything is decoded by libsndfile (FLAC, WAV, MP3, Ogg/Opus, NIST SPHERE). It clamps, without a word, a file that was
cut short to what is left of it; training on half an utterance with its whole transcript is worse than an error, so
what the header promises is compared with what is there.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from audio_lottery.data.resample import HIGHEST_RATE, LOWEST_RATE, resample, resample_blocks, surroundings
from audio_lottery.errors import AudioError

SAMPLE_RATE = 16_000

# Manifests round their seconds, so a segment may end this many seconds after its file does.
END_TOLERANCE = 0.05

# The longest MPEG audio frame, in samples. Some encoders count the frame of the length tag itself as audio.
_MPEG_FRAME = 1152

# libsndfile reports 2**63 - 1 frames where a stream does not say how long it is.
_UNKNOWN_LENGTH = 2**62

# Programs that write into a pipe cannot know the size and leave a placeholder: 0, or about 2 or 4 GiB.
_PIPE_PLACEHOLDER = 0x7FFF0000

# libsndfile's log of a chunk of samples that is shorter than it says: WAV, AIFF, SVX, AU, PSION, RF64, W64.
_MISSING = re.compile(
    r"^\s*(?:data|SSND|BODY|Data Size|Data length|Riff size|riff)\s*:?\s*(\d+) \(?should be (\d+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What decoding a file yields: ``frames`` samples per channel at ``sample_rate`` Hz."""

    frames: int
    sample_rate: int
    channels: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def probe(path: str | Path) -> AudioInfo:
    """The length and format of an audio file, from its header.

    Nothing is decoded but the last samples of an MP3 file, whose header gives no exact length.

    Raises:
        AudioError: the file is missing, not audio, shorten-compressed, truncated, or empty.
    """
    with _open(path) as file:
        frames = _length(file)
        if frames < _promised_frames(file):
            raise _truncated(file, frames)
        if frames == 0:
            raise _holds_nothing(path)
        return AudioInfo(frames, file.samplerate, file.channels)


def read_audio(
    path: str | Path,
    start: float = 0.0,
    end: float | None = None,
    *,
    utterance_id: str = "",
    sample_rate: int = SAMPLE_RATE,
) -> np.ndarray:
    """The samples between ``start`` and ``end`` of a file, channels averaged, resampled.

    Only that piece is decoded, with what resampling needs around it: it is the same as cut from the whole (a lossy
    codec may differ a little). What cannot be sought in (Ogg Vorbis, GSM 6.10, G.721 ...) is decoded up to its end.
    Safe to call from many threads, and the same call gives the same samples.

    Args:
        path: the audio file.
        start: where to begin, in seconds.
        end: where to stop, in seconds; None for the end of the file. An ``end`` up to ``END_TOLERANCE`` after the end
            of the file is a rounding of the manifest: the result is that much shorter. A file that holds fewer frames
            than its own header promises is refused, however little is missing from the piece (an MP3 file may lack
            one MPEG frame, which some encoders count though it is not audio).
        utterance_id: named in messages.
        sample_rate: of the result, in Hz.

    Returns:
        float32 array ``[samples]``, nominally within ±1.

    Raises:
        AudioError: the file cannot be decoded, ends before ``end``, or holds NaN or infinite samples.
    """
    who = f" (utterance '{utterance_id}')" if utterance_id else ""
    with _open(path, who) as file:
        rate = file.samplerate
        first = round(start * rate)
        last = round(end * rate) if end is not None else _length(file)
        if first < 0 or last <= first:
            empty = "" if file.frames else "; it holds no audio (zero frames)"
            raise AudioError(f"{path}{who}: no audio between {start:g} s and {last / rate:g} s{empty}")
        begin, stop = (first, last) if rate == sample_rate else surroundings(first, last, rate, sample_rate)
        samples = _decode(file, begin, stop)
        got = begin + len(samples) if len(samples) else min(begin, file.frames)
        if got < last:
            if got < _promised_frames(file):
                raise _truncated(file, got, who)
            if got <= first or (end is not None and last - got > END_TOLERANCE * rate):
                raise AudioError(
                    f"{path}{who}: asked for {start:g} s to {last / rate:g} s, but the file ends at "
                    f"{got / rate:.3f} s; correct the manifest or fetch the file again"
                )
    mono = _mono(samples, path, who)
    if rate == sample_rate:
        return mono
    resampled = resample(mono, rate, sample_rate)
    origin = begin * sample_rate // rate
    # Cut where a whole file at the new rate would be cut, and never to nothing.
    cut = len(resampled) if end is None or got <= last else round(end * sample_rate) - origin
    return resampled[min(round(start * sample_rate) - origin, cut - 1) : cut]


def read_blocks(path: str | Path, seconds: float = 1.0) -> Iterator[np.ndarray]:
    """A whole file as `read_audio` gives it, block by block: the memory does not grow with its length.

    Args:
        path: the audio file.
        seconds: length of what is decoded at a time.

    Yields:
        float32 ``[samples]``, channels averaged, at `SAMPLE_RATE`.

    Raises:
        AudioError: the file cannot be decoded, holds nothing, NaN or infinite samples, or less than its header
            promises, which may be found at its end only.
    """
    with _open(path) as file:
        yield from resample_blocks(_blocks(file, path, round(seconds * file.samplerate)), file.samplerate, SAMPLE_RATE)


def _blocks(file: sf.SoundFile, path: str | Path, size: int) -> Iterator[np.ndarray]:
    frames = 0
    while len(samples := file.read(size, dtype="float32", always_2d=True)):
        frames += len(samples)
        yield _mono(samples, path)
    if frames < _promised_frames(file):
        raise _truncated(file, frames)
    if frames == 0:
        raise _holds_nothing(path)


def _mono(samples: np.ndarray, path: str | Path, who: str = "") -> np.ndarray:
    """``[frames, channels]`` → ``[frames]``."""
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}{who}: holds NaN or infinite samples; remove it or convert it again")
    return samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]


def read_channels(path: str | Path) -> tuple[np.ndarray, int]:
    """A whole file as it lies there: float32 ``[frames, channels]``, and its sampling rate in Hz.

    Raises:
        AudioError: the file cannot be decoded, holds less than its header promises, or nothing.
    """
    with _open(path) as file:
        frames = _length(file)
        samples = _decode(file, 0, frames)
        if len(samples) < _promised_frames(file):
            raise _truncated(file, len(samples))
        if len(samples) == 0:
            raise _holds_nothing(path)
        return samples, file.samplerate


def _decode(file: sf.SoundFile, begin: int, stop: int) -> np.ndarray:
    """Frames ``begin`` to ``stop``, or as many of them as there are: float32 ``[frames, channels]``."""
    # Vorbis is decoded from its beginning: libsndfile's seek in it may miss by a block (libsndfile issue 885).
    if file.subtype != "VORBIS" and file.seekable():
        file.seek(min(begin, file.frames))
        samples = file.read(stop - begin, dtype="float32", always_2d=True)
        if len(samples) or begin >= file.frames:
            return samples
        file.seek(0)  # of PAF and SDS libsndfile reads nothing after a seek into the last block
    return file.read(min(stop, file.frames), dtype="float32", always_2d=True)[begin:]


@contextmanager
def _open(path: str | Path, who: str = "") -> Iterator[sf.SoundFile]:
    """Opens a file, refuses one that is visibly cut short, and puts every decoder error in our words."""
    _check_is_file(path, who)
    if Path(path).suffix.lower() == ".raw":
        raise AudioError(f"{path}{who}: raw samples without a header cannot be decoded; convert them to WAV or FLAC")
    try:
        with sf.SoundFile(str(path)) as file:
            if file.frames > _UNKNOWN_LENGTH:
                raise AudioError(f"{path}{who}: its header does not say how long it is; encode it again, not to a pipe")
            if file.format == "RAW" and file.subtype == "ULAW":  # libsndfile's guess at .au and .snd of any content
                raise _not_decoded(path, who, "it has no AU header")
            if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
                raise AudioError(
                    f"{path}{who}: its header says {file.samplerate} Hz, and {LOWEST_RATE} to {HIGHEST_RATE} Hz can be "
                    "resampled; correct the header or fetch it again"
                )
            reason = _cut_short(file)
            if reason:
                raise AudioError(f"{path}{who}: truncated: {reason}; fetch it again")
            yield file
    except (sf.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").strip(". ")
        raise _not_decoded(path, who, reason) from error


def _check_is_file(path: str | Path, who: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character in the name
        raise AudioError(f"{path}{who}: no such audio file") from error
    except OSError as error:
        raise AudioError(f"{path}{who}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
        raise AudioError(f"{path}{who}: is {what} and not an audio file")


def _not_decoded(path: str | Path, who: str, reason: str) -> AudioError:
    """Why decoding failed; for a file without bytes or without permission libsndfile has other reasons than these."""
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
        shorten = _is_shorten(path)
    except OSError as unreadable:
        return AudioError(f"{path}{who}: cannot be read ({unreadable.strerror})")
    if empty:
        return AudioError(f"{path}{who}: cannot be decoded (the file is empty: zero bytes); fetch it again")
    if shorten:
        return AudioError(
            f"{path}{who}: shorten-compressed NIST SPHERE cannot be decoded; convert it with "
            "`sph2pipe -f wav in.sph out.wav`, or take the OpenSLR release, which is uncompressed"
        )
    return AudioError(f"{path}{who}: cannot be decoded ({reason}); fetch it again")


def _cut_short(file: sf.SoundFile) -> str:
    """Why the container says that part of the file is missing, or an empty string; nothing is decoded."""
    if file.format == "NIST":
        promise = re.search(rb"^sample_count -i (\d+)", _nist_header(file.name), re.MULTILINE)
        if promise and file.frames < int(promise[1]):
            return f"{file.frames} frames of the {int(promise[1])} that its header promises"
    elif file.format == "MP3":
        _, promised, present = _mp3_tag(file.name)
        if present < promised:
            return f"{present} bytes of audio of the {promised} that its header promises"
    elif file.format == "OGG" and "Junk after the last page" in file.extra_info:
        return "its last Ogg page is incomplete"
    # libsndfile shortens the other containers without an error, but says so in its log.
    missing = _MISSING.search(file.extra_info)
    if missing and int(missing[2]) < int(missing[1]) < _PIPE_PLACEHOLDER:
        return f"{missing[2]} bytes of audio of the {missing[1]} that its header promises"
    # An odd number of blocks (GSM 6.10 in WAV) should have a byte of padding behind it, which few writers add.
    if "seems to be truncated" in file.extra_info and "should be an even number of bytes" not in file.extra_info:
        return "it ends before the last sample that its header promises"
    return ""


def _promised_frames(file: sf.SoundFile) -> int:
    """The frames that the header commits itself to; 0 where it commits itself to nothing."""
    if file.format != "MP3":
        return file.frames
    # Without a length tag libsndfile estimates the count from the size of the file, a little too high.
    tagged, _, _ = _mp3_tag(file.name)
    return max(0, file.frames - _MPEG_FRAME) if tagged else 0


def _length(file: sf.SoundFile) -> int:
    """The frames that decoding yields: the header's count, or where that is an estimate what is found at the end."""
    if file.format != "MP3":
        return file.frames
    near_end = max(0, file.frames - 8 * _MPEG_FRAME)
    file.seek(near_end)
    return near_end + len(file.read(dtype="float32", always_2d=True))


def _mp3_tag(path: str) -> tuple[bool, int, int]:
    """Whether the first frame holds a length tag, the bytes of audio that it promises (or 0), and those present.

    libsndfile does not notice that bytes are missing, and a seek past the last of them yields sound from elsewhere.
    """
    with open(path, "rb") as file:
        head = file.read(10)
        # The size of an ID3 tag is stored in 7-bit bytes.
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=False))
        begin = 10 + size if head[:3] == b"ID3" else 0
        file.seek(begin)
        frame = file.read(64)
        present = file.seek(0, os.SEEK_END) - begin
    tag = re.search(rb"(?:Xing|Info)\0\0\0(.)", frame, re.DOTALL)
    if tag is None:
        return False, 0, present
    has_frames, has_bytes = tag[1][0] & 1, tag[1][0] & 2
    at = tag.end() + (4 if has_frames else 0)
    return bool(has_frames), int.from_bytes(frame[at : at + 4], "big") if has_bytes else 0, present


def _nist_header(path: str | Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1024).partition(b"end_head")[0]


def _is_shorten(path: str | Path) -> bool:
    header = _nist_header(path)
    return header.startswith(b"NIST_1A") and b"shorten" in header


def _holds_nothing(path: str | Path) -> AudioError:
    return AudioError(f"{path}: holds no audio (zero frames); remove it or fetch it again")


def _truncated(file: sf.SoundFile, frames: int, who: str = "") -> AudioError:
    return AudioError(
        f"{file.name}{who}: truncated: {frames} frames of the {file.frames} that its header promises; fetch it again"
    )
