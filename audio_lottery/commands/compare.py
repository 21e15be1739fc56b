"""``audio-lottery compare`` and ``recipes/compare_inits.py``: searches side by side."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from audio_lottery import shipped
from audio_lottery.config import GridConfig
from audio_lottery.errors import ConfigError, RunError

logger = logging.getLogger(__name__)

FILE = "comparison.html"


def main(arguments: list[str]) -> None:
    """Run what a comparison lacks, then write its table, pictures and page."""
    grid, table_only = parse_grid(arguments)

    # Here and not above: they load torch, and a mistake in the settings should be told at once.
    from audio_lottery.grid.cells import plan_cells
    from audio_lottery.grid.launch import run_cells

    cells = plan_cells(grid)
    if not table_only:
        run_cells(grid, cells)
    arms: dict[str, list[Path]] = {}
    for name in grid.arms:
        searches = [cell for cell in cells if cell.arm == name and not cell.is_theta]
        if table_only and not all(cell.done() for cell in searches):  # else `run_cells` has seen to it
            logger.warning("arm '%s' is not finished and left out", name)
        else:
            arms[name] = [cell.folder.path for cell in searches]
    if not arms:
        raise RunError(f"no arm of {grid.out} is finished yet; run the comparison without --table-only")
    _write(grid, arms)


def _write(grid: GridConfig, arms: dict[str, list[Path]]) -> None:
    from audio_lottery.grid.figures import plot_comparison, plot_overlap
    from audio_lottery.grid.table import compare_arms, difference_table, markdown, write_points, write_rows
    from audio_lottery.report.page import read_group, write_page
    from audio_lottery.report.page.charts import all_suites
    from audio_lottery.storage import write_bytes

    out = Path(grid.out)
    groups = [read_group(grid.arms[name].label or name, folders) for name, folders in arms.items()]
    points = {suite: compare_arms(groups, suite) for suite in all_suites(groups)}
    tables = [difference_table(found, suite) for suite, found in points.items()]
    write_rows(groups, out / "comparison.csv")
    write_points(points, out / "comparison.json")
    write_bytes(out / "comparison.md", "\n".join(markdown(table) for table in tables).encode())
    plot_comparison(groups, out / "comparison", title=out.name)
    shared = plot_overlap(groups, out / "overlap")
    write_page(groups, out / FILE, title=out.name, command=f"audio-lottery compare … --out {out}", extras=tables)
    print(markdown(tables[0]))
    print(f"tables: {out / 'comparison.md'}, {out / 'comparison.csv'} and {out / 'comparison.json'}")
    print(f"plots:  {out / 'comparison.png'}" + (f" and {out / 'overlap.png'}" if shared else ""))
    print(f"report: {out / FILE}")


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
    changes = {name: options[name] for name in ("out", "seeds", "parallel", "launcher") if options[name] is not None}
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
    import yaml

    key, equals, text = word.partition("=")
    if not (key and equals):
        raise ConfigError(f"--set {word}: KEY=VALUE is expected, e.g. data.root=/corpora")
    value: Any = yaml.safe_load(text)
    for part in reversed(key.split(".")):
        value = {part: value}
    return _merged(settings, value)


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    result = dict(one)
    for key, value in other.items():
        there = result.get(key)
        result[key] = _merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return result
