"""How the project's figures look, and how they become files: the same numbers give the same bytes."""

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.figure import Figure

from audio_lottery.storage import write_bytes

# Okabe and Ito's colours, which people with colour-blindness can tell apart; the yellow is too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Neither the date nor the version of matplotlib belongs in the file: it would differ for the same numbers.
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 160, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
}

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Letters as outlines: the same picture on machines without the font.
    "svg.fonttype": "path",
    # Without a salt the ids in an SVG are random.
    "svg.hashsalt": "audio_lottery",
}


def project_style() -> AbstractContextManager[None]:
    """matplotlib's defaults with the project's changes, whatever the user's own settings are."""
    context: AbstractContextManager[None] = matplotlib.style.context(["default", _STYLE])
    return context


def save_figures(figure: Figure, path_stem: Path) -> None:
    """Write a figure in every one of `FORMATS`: ``<stem>.png`` and ``<stem>.svg``.

    Raises:
        StorageError: a file could not be written.
    """
    for suffix in FORMATS:
        save_figure(figure, path_stem.with_name(f"{path_stem.name}.{suffix}"))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; the suffix is one of `FORMATS`.

    Raises:
        StorageError: the file could not be written.
    """
    suffix = path.suffix.removeprefix(".")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, **FORMATS[suffix])
    write_bytes(path, buffer.getvalue())
