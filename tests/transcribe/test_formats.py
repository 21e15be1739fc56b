"""Transcripts as files, read back by other people's parsers."""

import csv
import io
import json
from itertools import pairwise

import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.models.words import Word
from audio_lottery.transcribe import Segment, Transcript
from audio_lottery.transcribe.formats import FORMATS
from audio_lottery.transcribe.result import segments_of

NASTY = ["<i>no</i>", "a&b", "-->", '"quoted', "1", "&amp;", "it's", "žluťoučký", "'t", "<unk>", "\\", "WEBVTT", "NOTE"]


@st.composite
def transcripts(draw):
    time, words = 0.0, []
    for text in draw(st.lists(st.sampled_from(NASTY) | st.text("abc<>&\"'-,;", min_size=1, max_size=9), max_size=40)):
        start = time + draw(st.sampled_from([0.0, 0.04, 0.5, 2.0, 4000.0]))
        time = start + draw(st.floats(0.02, 1.5))
        words.append(Word(text, start, time))
    return Transcript("talk.wav", time, tuple(segments_of(words)))


def write(name: str, transcript: Transcript) -> str:
    return FORMATS[name][1](transcript)


@settings(max_examples=60, deadline=None)
@given(transcripts())
def test_subtitles_are_read_back(transcript):
    texts = [segment.text for segment in transcript.segments]
    read = list(srt.parse(write("srt", transcript)))
    assert [" ".join(one.content.split("\n")) for one in read] == texts
    assert [one.index for one in read] == list(range(1, len(texts) + 1))
    captions = list(webvtt.from_string(write("vtt", transcript)))
    assert [" ".join(one.raw_text.split("\n")) for one in captions] == [
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for text in texts
    ]
    for one, caption, segment in zip(read, captions, transcript.segments, strict=True):
        assert one.start.total_seconds() == pytest.approx(segment.start, abs=6e-4)
        assert caption.start_in_seconds == pytest.approx(int(segment.start), abs=1)
        assert one.start < one.end
    assert all(before.end <= after.start for before, after in pairwise(read))
    assert all(len(line) <= 84 for one in read for line in one.content.split("\n"))


@settings(max_examples=60, deadline=None)
@given(transcripts())
def test_words_are_read_back(transcript):
    header, *rows = csv.reader(io.StringIO(write("tsv", transcript)), dialect="excel-tab")
    assert header == ["start", "end", "text"]
    assert [row[2] for row in rows] == [word.text for word in transcript.words] == transcript.text.split()
    document = json.loads(write("json", transcript))
    assert document["text"] == transcript.text == write("text", transcript)[:-1]
    assert [chunk["text"] for chunk in document["chunks"]] == [row[2] for row in rows]
    assert [chunk["timestamp"] for chunk in document["chunks"]] == [[float(row[0]), float(row[1])] for row in rows]
    assert " ".join(segment["text"] for segment in document["segments"]) == transcript.text


def test_what_they_look_like():
    words = [Word("hi", 0.5, 0.8), Word("<b>", 0.8, 1.0), Word("later", 3700.0, 3700.5)]
    transcript = Transcript("a.wav", 3701.0, tuple(segments_of(words)))
    assert write("srt", transcript) == (
        "1\n00:00:00,500 --> 00:00:01,000\nhi <b>\n\n2\n01:01:40,000 --> 01:01:40,500\nlater\n"
    )
    assert write("vtt", transcript) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.000\nhi &lt;b&gt;\n\n01:01:40.000 --> 01:01:40.500\nlater\n"
    )
    assert write("tsv", transcript).splitlines()[1] == "0.500\t0.800\thi"
    assert write("text", transcript) == "hi <b> later\n"


def test_nothing_was_said():
    silent = Transcript("a.wav", 60.0, ())
    assert list(srt.parse(write("srt", silent))) == []
    assert list(webvtt.from_string(write("vtt", silent))) == []
    assert json.loads(write("json", silent))["chunks"] == []
    assert (write("text", silent), write("tsv", silent)) == ("\n", "start\tend\ttext\n")


def test_segments_without_words_are_lines_of_their_own():
    transcript = Transcript("a.wav", 20.0, (Segment("all of it", 0.0, 9.0),))
    assert write("tsv", transcript).splitlines()[1] == "0.000\t9.000\tall of it"
    assert transcript.to_dict() == {"text": "all of it", "chunks": [{"text": "all of it", "timestamp": (0.0, 9.0)}]}
    assert transcript.words == []


def test_segments_are_short_enough_to_read():
    words = [Word("word", 0.5 * i, 0.5 * i + 0.4) for i in range(40)] + [Word("x" * 200, 30, 31), Word("y", 31, 40)]
    segments = list(segments_of(words))
    assert [word for segment in segments for word in segment.words] == words
    assert all(segment.end - segment.start <= 7 for segment in segments[:-2])
    assert len(segments) == 5
