"""Many searches side by side: arms, seeds, and what they share."""

from dataclasses import dataclass, field

Value = str | bool | int | float | list | dict | None
"""What a setting may be in YAML. Of a string under ``Any`` jsonargparse makes what YAML would, had it no quotes: 'no'
became false, '1:00:00' a number. This union takes all as it is, and so must what is inside (no ``list[Any]``)."""


@dataclass
class ArmConfig:
    """One curve of a comparison: what differs from the others.

    Args:
        configs: settings on top of the grid's, files or names of configs that come with the package.
        settings: settings on top of those, as in a config file.
        pretrain: the theta section of a config; the model is trained on it once, with the first seed, and the result is
            model.init of every seed. None: the arm starts from the model that its settings name.
        theta_of: another arm, whose θ the searches of this one start from, seed by seed.
        tickets_of: an arm that is searched first; pruning.ticket is its run of the same seed, and θ is that run's,
            unless this arm says where it starts (pretrain, theta_of, or model.init or theta in its own settings). For
            controls.
        label: what the table and the picture call the arm; its name by default.
    """

    configs: list[str] = field(default_factory=list)
    settings: dict[str, Value] = field(default_factory=dict)
    pretrain: dict[str, Value] | None = None
    theta_of: str | None = None
    tickets_of: str | None = None
    label: str | None = None


@dataclass
class GridConfig:
    """A comparison: one search for every arm and seed.

    Args:
        out: folder of the comparison; every search has a folder below it.
        configs: settings of all searches, files or names of configs that come with the package; later ones win.
        settings: settings of all searches on top of those, as in a config file.
        records: folder for records of finished searches; one whose record is there is not run again. None: no records.
        seeds: of every arm.
        arms: name of the arm → what differs; the first is what the others are compared with.
        parallel: searches side by side.
        launcher: where searches run: local (processes here), ray (tasks of a Ray cluster) or slurm (jobs, by submitit).
        accelerate: arguments of ``accelerate launch`` for every search; empty: plain Python.
        slurm: parameters of submitit's executor, e.g. partition, gpus_per_node, time; with launcher slurm.
    """

    arms: dict[str, ArmConfig]
    out: str = "runs/compare"
    records: str | None = None
    configs: list[str] = field(default_factory=list)
    settings: dict[str, Value] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    parallel: int = 1
    launcher: str = "local"
    accelerate: list[str] = field(default_factory=list)
    slurm: dict[str, Value] = field(default_factory=dict)
