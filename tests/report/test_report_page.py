"""The page of a search: what is in it, that foreign text stays text, and that it is reproducible."""

import re
from pathlib import Path

import pytest

from audio_lottery.commands.report import main, name_runs
from audio_lottery.commands.search import round_line
from audio_lottery.data.manifest import Utterance
from audio_lottery.errors import ConfigError, RunError, StorageError
from audio_lottery.report.page import ExtraTable, read_group, write_page
from audio_lottery.report.page.audio import encode
from audio_lottery.report.page.numbers import rate
from audio_lottery.report.page.tables import heat_map, rounds
from audio_lottery.report.page.transcripts import transcripts
from audio_lottery.storage import write_json
from tests.report.synthetic_run import make_run

EVIL = "<script>alert(1)</script> \"quoted\" 'so' &amp; </script>"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> list[Path]:
    """Two seeds of one configuration, two rounds each."""
    root = tmp_path_factory.mktemp("runs")
    return [make_run(root / f"seed{s}", 2, seed=s, utterances=12, suites={"clean": 0.0}) for s in range(2)]


def test_the_same_run_gives_the_same_bytes(seeds, tmp_path):
    for name in ("one.html", "two.html"):
        write_page([read_group("run", seeds[:1])], tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "two.html"]


def test_nothing_is_fetched(seeds, tmp_path):
    write_page([read_group("run", seeds[:1])], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "default-src 'none'" in page
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", page)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)


def test_foreign_text_is_escaped_everywhere(tmp_path):
    run = make_run(tmp_path / 'a "run" <b>', 1, utterances=3, suites={'"><script>x': 0.1}, reference=EVIL)
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + f"# {EVIL}\n")
    extra = ExtraTable(EVIL, [EVIL], [[EVIL]], EVIL)
    write_page([read_group(EVIL, [run])], tmp_path / "page.html", title=EVIL, command=EVIL, extras=[extra])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<script") == 2, "the data and our own script"
    assert page.count("</script") == 2
    assert "alert(1)" in page


def test_several_runs_of_one_name_are_averaged_over_seeds(seeds):
    one, other = (read_group("one", [folder]) for folder in seeds)
    both = read_group("both", seeds)
    found = [rate(group, 1, "clean") for group in (one, other, both)]
    assert found[2].wer == pytest.approx((found[0].wer + found[1].wer) / 2)
    assert found[2].difference == pytest.approx((found[0].difference + found[1].difference) / 2)
    assert found[2].bounds[0] < min(found[0].wer, found[1].wer), "t interval of two seeds"


def test_runs_that_are_no_seeds_of_one_configuration_are_refused(seeds, tmp_path):
    stranger = make_run(tmp_path / "stranger", 1, utterances=12, suites={"clean": 0.0})
    settings = (stranger / "config.yaml").read_text()
    (stranger / "config.yaml").write_text(settings + "pruning: {rate: 0.3}\n")
    with pytest.raises(RunError, match="not seeds of one configuration"):
        read_group("both", [seeds[1], stranger])


def test_the_dense_round_alone_has_a_page(tmp_path):
    run = make_run(tmp_path / "run", 0, utterances=4, suites={"clean": 0.0})
    group = read_group("run", [run])
    assert (group.shown_ticket, group.note) == (None, "no ticket has been trained yet")
    write_page([group], tmp_path / "page.html")
    assert "no ticket has been trained yet" in (tmp_path / "page.html").read_text()


def test_a_run_without_dev_transcripts_says_why_no_ticket_is_marked(tmp_path):
    run = make_run(tmp_path / "run", 1, utterances=4, suites={"clean": 0.0})
    (run / "round_01" / "hypotheses" / "dev.tsv").unlink()
    (run / "round_01" / "hypotheses" / "clean.tsv").write_text("damaged")
    group = read_group("run", [run])
    assert group.selection is None
    assert "dev.tsv is missing" in group.note
    assert group.shown_ticket == 1
    write_page([group], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "dev.tsv is missing" in page
    assert "Not shown: " in page


def test_no_run_is_one_line(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        read_group("run", [tmp_path])
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(RunError, match="no finished round_00"):
        read_group("run", [tmp_path])


def test_curves_need_names_of_their_own(seeds, tmp_path):
    groups = [read_group("same", [folder]) for folder in seeds]
    with pytest.raises(ConfigError, match="different names"):
        write_page(groups, tmp_path / "page.html")
    with pytest.raises(StorageError):
        write_page(groups[:1], seeds[0] / "config.yaml" / "page.html")


def test_transcripts_show_the_alignment_that_was_counted(seeds):
    group = read_group("run", seeds[:1])
    shown = transcripts(group, 3, 0, 10**6)
    assert [one.why for one in shown] == ["most errors"] * 3 + ["drawn at random"] * 3
    errors = [one.lines[-1].errors for one in shown]
    assert errors[:3] == sorted(errors[:3], reverse=True)
    for one in shown:
        for line in one.lines:
            assert sum(word.kind != "hit" for word in line.words) == line.errors
            said = [word.said for word in line.words if word.kind != "ins"]
            assert " ".join(said) == one.reference
    again = transcripts(group, 3, 0, 10**6)
    assert [one.id for one in again] == [one.id for one in shown]


def test_audio_keeps_to_its_budget(seeds):
    group = read_group("run", seeds[:1])
    everything = transcripts(group, 3, 0, 10**6)
    assert all(one.audio.startswith("data:audio/flac") for one in everything)
    size = len(everything[0].audio)
    squeezed = transcripts(group, 3, 0, size)
    assert sum(len(one.audio) for one in squeezed) <= size
    assert any(one.audio.startswith("data:audio/ogg") for one in squeezed), "smaller, where it does not fit"
    nothing = transcripts(group, 3, 0, 0)
    assert all(not one.audio and "too large" in one.note for one in nothing)


def test_audio_that_is_gone_is_named_without_its_place(seeds):
    group = read_group("run", seeds[:1])
    row = transcripts(group, 1, 0, 10**6)[0]
    assert encode([(row.id, None)], 10**6)[row.id] == ("", "audio: not in the run's manifest")
    gone = Utterance("u", "/secret/place/u.wav", 0.0, 1.0, "", "", 1.0, "")
    address, note = encode([("u", gone)], 10**6)["u"]
    assert not address
    assert "audio left out" in note
    assert "secret" not in note


def test_loops_are_told_where_there_are_some(seeds):
    group = read_group("run", seeds[:1])
    assert "Loops" not in rounds(group).note
    group.first.rounds[2]["test"]["clean"]["loops"] = 7
    assert rounds(group).note.endswith(" Loops of repeated words on clean: 7 in round 2; none in the others.")


def test_the_heat_map_is_dense_first_and_sparsest_last(seeds):
    found = heat_map(read_group("run", seeds[:1]).first)
    assert found.rounds == ["0", "1", "2"]
    for _, _, cells in found.rows:
        assert cells[0].shade == 1.0
        assert [cell.shade for cell in cells] == sorted((cell.shade for cell in cells), reverse=True)


def test_measured_times_are_shown(seeds, tmp_path):
    run = make_run(tmp_path / "run", 1, utterances=4, suites={"clean": 0.0})
    row = {"runtime": "ours", "precision": "float32", "pattern": "unstructured", "sparsity": 0.9, "audio_seconds": 10.0}
    write_json(run / "bench.json", [row | {"median_s": 0.1234, "min_s": 0.12, "max_s": 0.13}])
    (run / "round_01" / "model.sparse.safetensors").write_bytes(b"x" * 200_000)
    write_page([read_group("run", [run])], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "0.1234" in page
    assert "0.20" in page


def test_command_line(seeds, tmp_path, capsys):
    main([f"θ0={seeds[0]}", f"θ0={seeds[1]}", "--out", str(tmp_path / "both.html"), "--utterances", "0"])
    assert capsys.readouterr().out == f"report: {tmp_path / 'both.html'}\n"
    assert (
        "2 seeds" in (tmp_path / "both.html").read_text() or "mean of 2 seeds" in (tmp_path / "both.html").read_text()
    )


def test_names_of_curves(tmp_path):
    for name in ("a", "b", "x=y", "deep/a"):
        (tmp_path / name).mkdir(parents=True)
    a, b, odd = (str(tmp_path / name) for name in ("a", "b", "x=y"))
    assert list(name_runs([a, b])) == ["a", "b"]
    assert name_runs([f"s={a}", f"s={b}"]) == {"s": [Path(a), Path(b)]}
    assert list(name_runs([odd])) == ["x=y"], "a folder whose name holds a ="
    for words, message in (
        ([a, str(tmp_path / "deep" / "a")], "two runs are called 'a'"),
        ([f"s={a}", f"t={a}"], "given twice"),
        (["="], "neither RUN nor NAME=RUN"),
    ):
        with pytest.raises(ConfigError, match=message):
            name_runs(words)


def test_the_line_of_a_round():
    row = {"round": 0, "remaining_percent": 100.0, "test_wer": 0.1234, "low_test_wer": 0.12, "high_test_wer": 0.13}
    rows = [row | {"seconds": 600.0}, row | {"round": 1, "remaining_percent": 80.0, "seconds": 3600.0}]
    assert round_line(rows[:1], 20).endswith(
        "100.00 % of the weights, WER 12.34 % [12.00, 13.00], 10 min, about 3.3 h left"
    )
    assert round_line(rows, 20).endswith("about 19.0 h left"), "the dense round is not counted"
    assert not round_line(rows, 1).endswith("left")
