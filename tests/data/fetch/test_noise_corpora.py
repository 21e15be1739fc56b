"""MUSAN, DEMAND and RIRS_NOISES: checked, and no recording, environment or room on both sides."""

from pathlib import Path

import pytest

from audio_lottery.data.corpora.catalogue import DEMAND, DEMAND_TEST
from audio_lottery.data.fetch import noise as module
from audio_lottery.data.fetch import prepare_corpus
from audio_lottery.data.noise.folders import part_of
from audio_lottery.errors import AudioError, CorpusError
from tests.data.fetch.corpora import packed, write_wav


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def musan(root: Path, count: int = 10) -> Path:
    for kind, collection in (("noise", "free-sound"), ("music", "fma"), ("speech", "librivox")):
        for number in range(count):
            write_wav(root / "musan" / kind / collection / f"{kind}-{collection}-{number:04d}.wav", 0.1)
    (root / "musan" / "README").write_text("x")
    return root / "musan"


def archive(path: Path, folder: Path, ending: str = ".tar.gz") -> Path:
    path.write_bytes(packed(folder, ending))
    return path


def wavs(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.wav")}


def test_sides_of_well_known_recordings() -> None:
    """Literals: a corpus that is prepared again, anywhere, must be divided as it was."""
    names = ("noise-free-sound-0000", "noise-free-sound-0005", "music-fma-0000", "music-fma-0003")
    assert [part_of(f"{name}.wav") for name in names] == ["train", "test", "train", "test"]


def test_musan_is_divided_by_recording(tmp_path: Path, out: Path) -> None:
    source = archive(tmp_path / "my-musan.tar.gz", musan(tmp_path / "a"))
    train, test, speech = prepare_corpus("musan", out, [source])
    assert [part["split"] for part in (train, test, speech)] == ["noise/train", "noise/test", "speech"]
    assert train["files"] + test["files"] == 20
    assert speech["files"] == 10
    assert test["files"] >= 1
    assert speech["seconds"] == 1.0
    sides = {part: {Path(name).name for name in wavs(out / "noise" / part)} for part in ("train", "test")}
    assert not sides["train"] & sides["test"]
    for part, names in sides.items():
        assert all(part_of(name) == part for name in names)
    assert "musan/noise/free-sound/noise-free-sound-0000.wav" in wavs(out / "noise" / "train")
    assert "musan/librivox/speech-librivox-0000.wav" in wavs(out / "speech")


def test_a_second_call_changes_nothing_and_reads_nothing(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = archive(tmp_path / "my-musan.tar.gz", musan(tmp_path / "a"))
    first = prepare_corpus("musan", out, [source])
    monkeypatch.setattr(module, "probe", None)
    assert prepare_corpus("musan", out, [source]) == first


def test_a_kill_between_two_files_loses_none(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = archive(tmp_path / "my-musan.tar.gz", musan(tmp_path / "a"))
    moves = 0

    def failing(old: Path, new: Path, replace=module.os.replace) -> None:
        nonlocal moves
        moves += "wav" in Path(new).suffix
        if moves == 12:
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "replace", failing)
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus("musan", out, [source])
    assert 0 < len(wavs(out / "extracted")) < 30
    assert sum(part["files"] for part in prepare_corpus("musan", out, [source])) == 30
    assert wavs(out / "extracted") == set()


def test_a_folder_of_the_user_stays_as_it_is(tmp_path: Path, out: Path) -> None:
    folder = musan(tmp_path / "a")
    before = wavs(folder)
    for _ in range(2):
        assert sum(part["files"] for part in prepare_corpus("musan", out, [folder], force=True)) == 30
    assert wavs(folder) == before


def test_placed_files_that_went_missing(tmp_path: Path, out: Path) -> None:
    source = archive(tmp_path / "my-musan.tar.gz", musan(tmp_path / "a"))
    prepare_corpus("musan", out, [source])
    next((out / "noise" / "train").rglob("*.wav")).unlink()
    with pytest.raises(CorpusError, match=r"29 recordings in .* where 30 should be; remove .*my-musan and run"):
        prepare_corpus("musan", out, [source])


def test_an_unreadable_recording_is_named(tmp_path: Path, out: Path) -> None:
    folder = musan(tmp_path / "a")
    (folder / "noise" / "free-sound" / "noise-free-sound-0003.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"noise-free-sound-0003\.wav"):
        prepare_corpus("musan", out, [archive(tmp_path / "my-musan.tar.gz", folder)])


def test_demand_is_divided_by_environment_and_keeps_one_channel(tmp_path: Path, out: Path) -> None:
    sources = []
    for name in ("DKITCHEN", "TBUS"):
        for channel in (1, 2, 16):
            write_wav(tmp_path / name / f"ch{channel:02d}.wav", 0.1)
        sources.append(archive(tmp_path / f"{name}.zip", tmp_path / name, ".zip"))
    prepare_corpus("demand", out, sources)
    assert wavs(out / "noise") == {"train/demand/DKITCHEN/ch01.wav", "test/demand/TBUS/ch01.wav"}
    assert wavs(out / "extracted") == set()
    more = archive(tmp_path / "PCAFETER.zip", write_wav(tmp_path / "PCAFETER" / "ch01.wav", 0.1).parent, ".zip")
    train, test = prepare_corpus("demand", out, [more])
    assert (train["files"], test["files"]) == (2, 1)


def test_demand_has_both_sides() -> None:
    there = set(DEMAND) & DEMAND_TEST
    assert there == {"DLIVING", "OOFFICE", "TBUS", "SPSQUARE"}
    assert len(DEMAND) == 17


def test_rirs_are_divided_by_room(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "RIRS_NOISES"
    for room in range(1, 21):
        for number in (1, 2):
            name = f"Room{room:03d}-{number:05d}.wav"
            write_wav(root / "simulated_rirs" / "smallroom" / f"Room{room:03d}" / name, 0.1)
    real = root / "real_rirs_isotropic_noises"
    lines = []
    for number, room in enumerate(("A", "A", "B")):
        write_wav(real / f"real_{number}.wav", 0.1, channels=2)
        lines.append(
            f"--rir-id {number:05d} --room-id {room}  RIRS_NOISES/real_rirs_isotropic_noises/real_{number}.wav"
        )
    (real / "rir_list").write_text("\n".join(lines) + "\n")
    write_wav(real / "isotropic_noise_1.wav", 0.1)
    write_wav(root / "pointsource_noises" / "noise-free-sound-0000.wav", 0.1)
    prepare_corpus("rirs", out, [archive(tmp_path / "my_rirs.zip", root, ".zip")])
    train, test = wavs(out / "rirs" / "train"), wavs(out / "rirs" / "test")
    assert len(train) + len(test) == 43
    rooms = [{Path(name).parent for name in names if "simulated" in name} for names in (train, test)]
    assert rooms[0]
    assert rooms[1]
    assert not rooms[0] & rooms[1]
    assert {"rirs/real/real_0.wav", "rirs/real/real_1.wav"} <= (train if part_of("A") == "train" else test)
    assert wavs(out / "noise") == {"train/rirs/pointsource/noise-free-sound-0000.wav"}
    assert "isotropic_noise_1.wav" in {Path(name).name for name in wavs(out / "extracted")}
