"""From a grid to its searches: what each is called, what it needs first, and whether it is done."""

import csv
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from audio_lottery import shipped
from audio_lottery.config import ArmConfig, GridConfig, RunConfig
from audio_lottery.errors import ConfigError
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.settings import check_run, parse_config
from audio_lottery.storage import is_sealed


@dataclass(frozen=True)
class Cell:
    """One job: a search, or the training of a θ that seeds share.

    Attributes:
        name: unique in the grid, and the name of its folder: ``ARM-seedN`` or ``ARM-theta``.
        arm: which arm it is of.
        arguments: of ``audio-lottery search``.
        config: what they mean.
        needs: names of the cells that must be done before.
    """

    name: str
    arm: str
    arguments: tuple[str, ...]
    config: RunConfig
    needs: tuple[str, ...] = ()

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return RunFolder(Path(self.config.run_dir))

    @property
    def is_theta(self) -> bool:
        """Whether it only trains θ."""
        return self.config.search.theta_only

    def done(self) -> bool:
        """Whether nothing is left to do, report included.

        Raises:
            RunError: the folder belongs to other settings.
        """
        check_run(self.config, self.folder.path)
        if self.is_theta:
            return is_sealed(self.folder.theta)
        rounds = self.config.search.rounds
        return is_sealed(self.folder.round(rounds)) and _rows(self.folder.path / "summary.csv") == rounds + 1


def plan_cells(grid: GridConfig) -> list[Cell]:
    """All cells, those that others need first. Nothing is written or read but configs.

    Raises:
        ConfigError: names the arm and what is wrong with it.
    """
    if not grid.arms:
        raise ConfigError("a comparison needs arms: name → what differs")
    if not grid.seeds or len(set(grid.seeds)) < len(grid.seeds):
        raise ConfigError(f"seeds: at least one, and each once, is expected, not {grid.seeds}")
    cells: list[Cell] = []
    waiting = dict(grid.arms)
    while waiting:
        ready = {name: arm for name, arm in waiting.items() if not waiting.keys() & {arm.tickets_of, arm.theta_of}}
        if not ready:
            raise ConfigError(
                f"arms {', '.join(waiting)} wait for each other's tickets or θ; one of them must come first"
            )
        for name, arm in ready.items():
            cells += _cells_of(grid, name, arm)
            del waiting[name]
    return cells


def unfinished(cells: Sequence[Cell], finished: Collection[str]) -> list[Cell]:
    """The cells to run, in order: searches that are not among ``finished`` names, and what they need, if need be again.

    Args:
        cells: of `plan_cells`.
        finished: names of searches; of some there may be only a record, which no other search can start from.
    """
    wanted = {cell.name for cell in cells if not cell.is_theta and cell.name not in finished}
    for cell in reversed(cells):  # what others need comes before them
        if cell.name in wanted:
            wanted.update(cell.needs)
    return [cell for cell in cells if cell.name in wanted]


def _cells_of(grid: GridConfig, name: str, arm: ArmConfig) -> list[Cell]:
    if not re.fullmatch(r"[\w.+]+(-[\w.+]+)*", name):
        raise ConfigError(f"arm '{name}': letters, digits, _, ., + and single hyphens only; it names folders")
    for option in ("tickets_of", "theta_of"):
        other = getattr(arm, option)
        if other is not None and other not in grid.arms:
            raise ConfigError(f"arm '{name}': {option} names '{other}'; arms are {', '.join(grid.arms)}")
    if arm.pretrain is not None and arm.theta_of is not None:
        raise ConfigError(f"arm '{name}': pretrain makes a θ of its own, theta_of takes another arm's; give one")
    cells = []
    if arm.pretrain is not None:
        only = {"theta": arm.pretrain, "search": {"theta_only": True}}
        cells.append(_cell(grid, f"{name}-theta", name, only, grid.seeds[0]))
    source = _source(name, arm)
    for seed in grid.seeds:
        last: dict[str, Any] = {}
        before = set()
        if source is not None:
            theta = f"{source}-seed{seed}" if grid.arms[source].pretrain is None else f"{source}-theta"
            init = str(RunFolder(Path(grid.out) / theta).theta)
            last |= {"model": {"init": init, "overrides": {}}, "theta": {"train": [], "dev": []}}
            before.add(theta)
        if arm.tickets_of is not None:
            ticket = f"{arm.tickets_of}-seed{seed}"
            last["pruning"] = {"ticket": str(Path(grid.out) / ticket)}
            before.add(ticket)
        cells.append(_cell(grid, f"{name}-seed{seed}", name, last, seed, tuple(sorted(before))))
    return cells


def _source(name: str, arm: ArmConfig) -> str | None:
    """The arm whose θ the searches of an arm start from; None: they start from what their settings name."""
    if arm.pretrain is not None:
        return name
    if arm.tickets_of is None or arm.theta_of is not None or _names_a_start(name, arm):
        return arm.theta_of
    return arm.tickets_of


def _names_a_start(name: str, arm: ArmConfig) -> bool:
    """Whether the arm's own settings say what its searches start from."""
    said: list[Any] = [arm.settings]
    for config in arm.configs:
        try:
            said.append(yaml.safe_load(shipped.resolve("config", config).read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError, ConfigError) as error:
            raise ConfigError(f"arm '{name}': {config}: {error}") from error
    sections = [settings for settings in said if isinstance(settings, dict)]  # what else there is, the parser refuses
    return any("theta" in settings or "init" in (settings.get("model") or {}) for settings in sections)


def _cell(
    grid: GridConfig, name: str, arm: str, last: Mapping[str, Any], seed: int, needs: tuple[str, ...] = ()
) -> Cell:
    arguments: list[str] = []
    for config in (*grid.configs, grid.settings, *grid.arms[arm].configs, grid.arms[arm].settings, last):
        if config:
            arguments += ["--config", config if isinstance(config, str) else json.dumps(config, ensure_ascii=False)]
    arguments += ["--run_dir", str(Path(grid.out) / name), "--seed", str(seed)]
    try:
        return Cell(name, arm, tuple(arguments), parse_config(arguments), needs)
    except ConfigError as error:
        raise ConfigError(f"arm '{arm}': {error}") from error


def _rows(path: Path) -> int:
    if not path.is_file():
        return 0
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.DictReader(file))
