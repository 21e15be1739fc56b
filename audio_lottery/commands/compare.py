"""``audio-lottery compare`` and ``recipes/compare_inits.py``: searches side by side."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from audio_lottery import shipped
from audio_lottery.config import GridConfig
from audio_lottery.errors import ConfigError, RunError
from audio_lottery.settings import as_mapping

if TYPE_CHECKING:
    from audio_lottery.grid.record import Records
    from audio_lottery.lottery.select import SearchedRun
    from audio_lottery.report.page import RunGroup

logger = logging.getLogger(__name__)

FILE = "comparison.html"


def main(arguments: list[str]) -> None:
    """Run what a comparison lacks, then write its table, pictures and page."""
    grid, table_only = parse_grid(arguments)

    # Here and not above: they load torch, and a mistake in the settings should be told at once.
    from audio_lottery.grid.cells import plan_cells
    from audio_lottery.grid.record import Records
    from audio_lottery.report.page import make_group

    cells = plan_cells(grid)
    records = Records(
        None if grid.records is None else Path(grid.records),
        {cell.name: cell for cell in cells},
        {name: arm.label for name, arm in grid.arms.items()},
    )
    found = {cell.name: records.finished(cell) for cell in cells}
    if not table_only:
        found |= _run(grid, records, {name for name, run in found.items() if run is not None})
    groups = []
    for name, arm in grid.arms.items():
        searches = [cell.name for cell in cells if cell.arm == name and not cell.is_theta]
        runs = [run for search in searches if (run := found[search]) is not None]
        if len(runs) < len(searches):
            logger.warning("arm '%s' is not finished and left out", name)
        else:
            groups.append(make_group(arm.label or name, runs))
    if not groups:
        raise RunError(f"no arm of {grid.out} is finished yet; run the comparison without --table-only")
    rounds = [metrics for group in groups for run in group.runs for metrics in run.rounds.values()]
    precisions = sorted({str(metrics.get("precision")) for metrics in rounds})
    if len(precisions) > 1:  # `auto` on machines that are not alike
        logger.warning("not all rounds were trained in the same precision: %s", ", ".join(precisions))
    _write(grid, groups)


def _run(grid: GridConfig, records: "Records", finished: set[str]) -> dict[str, "SearchedRun | None"]:
    """Run the searches that are not ``finished``, and what they need; by name all that may have run."""
    from audio_lottery.grid.cells import unfinished
    from audio_lottery.grid.launch import run_cells

    cells = list(records.cells.values())
    searches = [cell for cell in cells if not cell.is_theta]
    logger.info("%d of %d searches are finished", len(finished), len(searches))
    missing = unfinished(cells, finished)
    for cell in missing:
        heirs = {other.name for other in searches if cell.name in other.needs}
        if finished & {cell.name, *heirs} and not cell.done():
            logger.warning(
                "%s runs again: others start from its run folder, which is not here, and records hold neither weights "
                "nor masks; bring the folder along to spare it",
                cell.name,
            )
    run_cells(grid, missing, records.finished)
    return {cell.name: records.finished(cell) for cell in missing}


def _write(grid: GridConfig, groups: Sequence["RunGroup"]) -> None:
    from audio_lottery.grid.figures import plot_comparison, plot_overlap
    from audio_lottery.grid.record import RecordedRun
    from audio_lottery.grid.table import compare_arms, difference_table, markdown, write_points, write_rows
    from audio_lottery.report.page import write_page
    from audio_lottery.report.page.charts import all_suites
    from audio_lottery.storage import write_bytes

    out = Path(grid.out)
    points = {suite: compare_arms(groups, suite) for suite in all_suites(groups)}
    tables = [difference_table(found, suite) for suite, found in points.items()]
    write_rows(groups, out / "comparison.csv")
    write_points(points, out / "comparison.json")
    write_bytes(out / "comparison.md", "\n".join(markdown(table) for table in tables).encode())
    plot_comparison(groups, out / "comparison", title=out.name)
    shared = plot_overlap(groups, out / "overlap")
    recorded = [run for group in groups for run in group.runs if isinstance(run, RecordedRun)]
    write_page(groups, out / FILE, title=out.name, command=f"audio-lottery compare … --out {out}", extras=tables)
    print(markdown(tables[0]))
    print(f"tables: {out / 'comparison.md'}, {out / 'comparison.csv'} and {out / 'comparison.json'}")
    print(f"plots:  {out / 'comparison.png'}" + (f" and {out / 'overlap.png'}" if shared else ""))
    print(f"report: {out / FILE}")
    if recorded:
        print(
            f"records: of {len(recorded)} searches there is nothing else; {out / 'overlap.png'} and the transcripts in "
            "the report leave them out"
        )


def parse_grid(arguments: Sequence[str]) -> tuple[GridConfig, bool]:
    """The comparison that a command line names, and whether nothing is to be run.

    Raises:
        ConfigError: no such comparison, an unknown key or a wrong type; names the key.
    """
    parser = ArgumentParser(
        prog="audio-lottery compare",
        exit_on_error=False,
        description="Run a grid of searches, arms by seeds, and compare them: table, pictures, one page. Killed at any "
        "moment, the same command goes on with what is missing.",
    )
    parser.add_argument("grid", help="YAML file, or the name of a comparison that comes with the package")
    parser.add_argument("--out", type=str, default=None, help="folder of the comparison, instead of the file's")
    parser.add_argument(
        "--records", type=str, default=None, help="folder for records of finished searches: see the docs"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="instead of the file's")
    parser.add_argument("--parallel", type=int, default=None, help="searches side by side")
    parser.add_argument("--launcher", type=str, default=None, help="local, ray or slurm")
    parser.add_argument("--set", type=str, action="append", default=[], metavar="KEY=VALUE", help="of every search")
    parser.add_argument("--table-only", action="store_true", help="run nothing: tables and pictures of what is done")
    try:
        options = parser.parse_args(list(arguments))
        grid = _read_grid(options.grid)
    except ArgumentError as error:
        raise ConfigError(f"comparison: {error}; --help lists the options") from error
    changes = {
        name: options[name] for name in ("out", "records", "seeds", "parallel", "launcher") if options[name] is not None
    }
    settings = grid.settings
    for word in options.set:
        settings = _with_setting(settings, word)
    return replace(grid, **changes, settings=settings), bool(options.table_only)


def _read_grid(name: str) -> GridConfig:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(GridConfig)
    namespace: Namespace = parser.parse_path(str(shipped.resolve("grid", name)))
    return GridConfig(**vars(parser.instantiate_classes(namespace)))


def _with_setting(settings: dict[str, Any], word: str) -> dict[str, Any]:
    key, equals, text = word.partition("=")
    if not (key and equals):
        raise ConfigError(f"--set {word}: KEY=VALUE is expected, e.g. data.root=/corpora")
    # A section is YAML; of all else the setting's own type decides what it is, as on the command line of a search.
    section = as_mapping(text)
    value: Any = text if section is None else section
    for part in reversed(key.split(".")):
        value = {part: value}
    return _merged(settings, value)


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    result = dict(one)
    for key, value in other.items():
        there = result.get(key)
        result[key] = _merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return result
