"""Transcripts as files: plain text, JSON, the subtitles SubRip and WebVTT, and tables of words."""

import csv
import html
import io
import json
from collections.abc import Callable
from itertools import pairwise

from audio_lottery.transcribe.result import Segment, Transcript

# Characters of a subtitle's line.
_LINE = 42


def to_text(transcript: Transcript) -> str:
    """All that was said, on one line."""
    return f"{transcript.text}\n"


def to_json(transcript: Transcript, indent: int | None = 2) -> str:
    """`Transcript.to_dict`, and beside it file, duration and segments; times in seconds."""
    document = {
        "file": transcript.source,
        "duration": round(transcript.duration, 3),
        **transcript.to_dict(),
        "segments": [
            {"start": round(one.start, 3), "end": round(one.end, 3), "text": one.text} for one in transcript.segments
        ],
    }
    return json.dumps(document, indent=indent, ensure_ascii=False) + "\n"


def to_srt(transcript: Transcript) -> str:
    """SubRip: numbered subtitles. It has no way to escape anything; a blank line would end one, and is in no text."""
    blocks = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{_lines(segment.text)}\n"
        for number, (segment, start, end) in enumerate(_one_at_a_time(transcript), start=1)
    ]
    return "\n".join(blocks)


def to_vtt(transcript: Transcript) -> str:
    """WebVTT (https://www.w3.org/TR/webvtt1/): ``&``, ``<`` and ``>`` are written as character references."""
    blocks = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{html.escape(_lines(segment.text), quote=False)}\n"
        for segment, start, end in _one_at_a_time(transcript)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def to_tsv(transcript: Transcript) -> str:
    """A header, and a line for every word: start, end, word. Segments where the model gives words no times.

    As Python's dialect ``excel-tab`` and spreadsheets read it: what holds a quotation mark is put in quotation marks.
    """
    out = io.StringIO()
    table = csv.writer(out, dialect="excel-tab", lineterminator="\n")
    table.writerow(["start", "end", "text"])
    table.writerows([f"{part.start:.3f}", f"{part.end:.3f}", part.text] for part in transcript.finest)
    return out.getvalue()


FORMATS: dict[str, tuple[str, Callable[[Transcript], str]]] = {
    "text": (".txt", to_text),
    "json": (".json", to_json),
    "srt": (".srt", to_srt),
    "vtt": (".vtt", to_vtt),
    "tsv": (".tsv", to_tsv),
}
"""Name → how its files end, and what they hold."""


def _one_at_a_time(transcript: Transcript) -> list[tuple[Segment, float, float]]:
    """Segments with times that do not overlap, each shown for a while at least."""
    ends = [max(segment.end, segment.start + 0.1) for segment in transcript.segments]
    starts = [segment.start for segment in transcript.segments]
    for index, (first, second) in enumerate(pairwise(range(len(starts)))):
        starts[second] = max(starts[first], starts[second])
        ends[index] = min(ends[index], starts[second])
    return list(zip(transcript.segments, starts, ends, strict=True))


def _clock(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _lines(text: str) -> str:
    """Text that is too long for one line on two of like length, broken between words."""
    if len(text) <= _LINE or " " not in text:
        return text
    spaces = [index for index, char in enumerate(text) if char == " "]
    at = min(spaces, key=lambda index: abs(len(text) / 2 - index))
    return f"{text[:at]}\n{text[at + 1 :]}"
