"""The page, put together: everything in one file, written whole or not at all."""

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audio_lottery import __version__
from audio_lottery.errors import ConfigError, RunError, TextError
from audio_lottery.report.columns import percent
from audio_lottery.report.page import charts, tables
from audio_lottery.report.page.numbers import rate, remaining, sizes
from audio_lottery.report.page.read import RunGroup
from audio_lottery.report.page.tables import Table
from audio_lottery.report.page.transcripts import transcripts
from audio_lottery.report.tables import plain_number
from audio_lottery.storage import write_bytes

AUDIO_BYTES = 3_000_000
"""What a page's audio may weigh, base64 included."""

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class ExtraTable:
    """A table of a comparison's own, put behind the curve; all text is escaped."""

    title: str
    header: Sequence[str]
    body: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Tile:
    label: str
    value: str
    detail: str


def write_page(
    groups: Sequence[RunGroup],
    path: Path,
    *,
    title: str = "",
    command: str = "",
    extras: Sequence[ExtraTable] = (),
    utterances: int = 5,
    audio_bytes: int = AUDIO_BYTES,
    seed: int = 0,
) -> None:
    """Write the page of a search (one group) or of a comparison (several, one curve each).

    The same runs give the same bytes: neither the time nor the place of the page is in it.

    Args:
        groups: curves, see `read_group`; their names differ.
        path: the file to write.
        title: of the page; by default the names of the groups.
        command: how the runs were made; by default the search with the run's own config.yaml.
        extras: tables behind the curve.
        utterances: with most errors, and as many drawn at random; 0 shows none.
        audio_bytes: limit of all audio on the page, shared equally by the groups; 0 leaves it out.
        seed: of the utterances drawn.

    Raises:
        ConfigError: no group, two of one name, or a negative number.
        StorageError: the page could not be written.
    """
    names = [group.name for group in groups]
    if not groups or len(set(names)) < len(names):
        raise ConfigError(f"a page needs curves with different names, and got {names or 'none'}")
    if min(utterances, audio_bytes) < 0:
        raise ConfigError("utterances and audio bytes must be 0 or more")
    budget = audio_bytes // len(groups)
    details = [_detail(group, command, utterances, budget, seed) for group in groups]
    script, style = _text("page.js"), _text("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=title or ", ".join(names),
            version=__version__,
            script=Markup(script),  # our own two files: the only text that is not escaped
            style=Markup(style),
            digest=digest,
            many=len(groups) > 1,
            tiles=_tiles(groups),
            suites=charts.all_suites(groups),
            suite_table=tables.suites(groups),
            extras=[
                (extra.title, Table(list(extra.header), [list(r) for r in extra.body], note=extra.note))
                for extra in extras
            ],
            details=details,
            data={
                "curves": charts.curves(groups),
                "training": [charts.training(group.first) for group in groups],
            },
        )
    )
    write_bytes(path, html.encode())


def _detail(group: RunGroup, command: str, utterances: int, budget: int, seed: int) -> dict[str, Any]:
    """What is shown of one group: text and tables."""
    run = group.first
    try:
        shown, unread = transcripts(group, utterances, seed, budget) if utterances else [], ""
    except (RunError, TextError) as error:  # the curve does not need them, and a search must not end for them
        shown, unread = [], str(error)
    config = shlex.quote(str(run.folder.path / "config.yaml"))
    return {
        "name": group.name,
        "seeds": len(group.runs),
        "note": group.note,
        "rounds": tables.rounds(group),
        "heat": tables.heat_map(run),
        "sizes": tables.model_sizes(group),
        "speed": tables.speed(run),
        "environment": tables.environment(run),
        "utterances": shown,
        "unread": unread,
        "suite": group.suites[0],
        "config": run.config,
        "command": command or f"audio-lottery search --config {config}",
    }


def _tiles(groups: Sequence[RunGroup]) -> list[_Tile]:
    """The numbers that one would say aloud; of a comparison, one a curve."""
    if len(groups) > 1:
        return [_extreme_tile(group, f"{group.name}: extreme ticket") for group in groups]
    group = groups[0]
    suite, last = group.suites[0], group.numbers[-1]
    dense = rate(group, 0, suite)
    tiles = [_Tile("dense model", f"{percent(dense.wer if dense else None)} %", f"WER, {suite}")]
    if last == 0:
        return tiles
    best = None if group.selection is None else group.selection.best
    if best is not None:
        found = rate(group, best.round, suite)
        size = plain_number(best.remaining_percent)
        tiles.append(
            _Tile("best ticket", f"{percent(found.wer if found else None)} %", f"WER at {size} % of the weights")
        )
    shown = group.shown_ticket or last
    plain, zipped, sparse = sizes(group, shown)
    smallest = min(zipped, sparse or zipped)
    tiles.append(_extreme_tile(group, "extreme ticket"))
    tiles.append(_Tile("on disk", f"{smallest / 1e6:.2f} MB", f"round {shown}; dense {plain / 1e6:.2f} MB"))
    return tiles


def _extreme_tile(group: RunGroup, label: str) -> _Tile:
    extreme = None if group.selection is None else group.selection.extreme
    if extreme is None:
        return _Tile(label, "none", f"no ticket of {len(group.numbers) - 1} matches the dense model on dev")
    found = rate(group, extreme.round, group.suites[0])
    wer = percent(found.wer if found else None)
    detail = f"of the weights match dense; WER {wer} %"
    return _Tile(label, f"{plain_number(remaining(group, extreme.round))} %", detail)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # suites stay in their order
    return environment


@cache
def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
