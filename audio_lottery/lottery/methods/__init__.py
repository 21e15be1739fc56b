"""The ways of finding tickets: one file each, one line in `METHODS`."""

from audio_lottery.config import RunConfig
from audio_lottery.errors import ConfigError
from audio_lottery.lottery.methods.base import InputsSource, Method
from audio_lottery.lottery.methods.dense import Dense
from audio_lottery.lottery.methods.gradual import Gmp
from audio_lottery.lottery.methods.imp import Imp
from audio_lottery.lottery.methods.one_shot import Mpi, Omp
from audio_lottery.lottery.methods.parp import Parp, ProgressiveParp
from audio_lottery.lottery.methods.ticket import CONTROLS, Ticket
from audio_lottery.lottery.rewind import REWINDS, get_rewind
from audio_lottery.lottery.run_folder import RunFolder

__all__ = ["CONTROLS", "METHODS", "InputsSource", "Method", "check_method", "make_method"]

METHODS: dict[str, type[Method]] = {
    "imp": Imp,
    "omp": Omp,
    "mpi": Mpi,
    "gmp": Gmp,
    "parp": Parp,
    "parp_p": ProgressiveParp,
}
"""``pruning.method`` → the method."""


def check_method(config: RunConfig) -> type[Method]:
    """The method that the settings name.

    Raises:
        ConfigError: settings that do not go with it, or with each other.
    """
    settings = config.pruning
    if settings.control == "dense":
        kind: type[Method] = Dense
    elif settings.ticket is not None:
        kind = Ticket
    else:
        kind = METHODS[settings.method]
    problems = kind.problems(settings)
    if settings.control not in ("none", "dense") and settings.ticket is None:
        problems.append(f"pruning.control {settings.control} needs pruning.ticket, the run that it is the control of")
    if REWINDS[settings.rewind].needs_step != (settings.rewind_step is not None):
        problems.append("pruning.rewind step and pruning.rewind_step go together")
    taught = config.training.distill
    if taught.teaches and taught.teacher == "dense" and not kind.starts_dense(settings):
        source = settings.start if settings.ticket is None else settings.ticket
        problems.append(
            f"training.distill.teacher dense: round 0 starts from the mask of {source} and is not dense; use theta, or "
            "the folder of a dense model"
        )
    if problems:
        raise ConfigError("; ".join(problems))
    return kind


def make_method(config: RunConfig, folder: RunFolder) -> Method:
    """The method of a run, its settings resolved.

    Raises:
        ConfigError: as `check_method`.
    """
    taught = config.training.distill
    teacher = taught.teacher if taught.teaches else None
    return check_method(config)(config.pruning, config.seed, folder, get_rewind(config), teacher)
