"""The text of a model card, from a run's own record."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from audio_lottery import __version__
from audio_lottery.config import RunConfig
from audio_lottery.lottery.run_folder import MASK_FILE
from audio_lottery.publish.checks import Remeasured
from audio_lottery.publish.metadata import base_model
from audio_lottery.publish.names import CURVE_FILE, MAIN, Chosen, Target
from audio_lottery.publish.places import public_settings
from audio_lottery.publish.terms import terms_of
from audio_lottery.report.columns import duration, percent, percent_interval
from audio_lottery.report.page import tables
from audio_lottery.report.page.numbers import DEV, condition, rate
from audio_lottery.report.tables import plain_number
from audio_lottery.settings import without_places

_TEMPLATES = Path(__file__).parent / "templates"
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~$!"})


def render_card(
    chosen: Chosen,
    config: RunConfig,
    *,
    target: Target,
    trained_on: Sequence[str],
    sizes: dict[str, int],
    remeasured: Remeasured | None,
    plain: str,
    curve: bool,
) -> str:
    """The generated part of the card, in Markdown.

    Args:
        chosen: the round.
        config: of its run.
        target: where it goes.
        trained_on: corpora of θ and of the search.
        sizes: file name → bytes, of weights and mask.
        remeasured: the sample that was recognised again; None where it was left out.
        plain: transformers' class that loads the model without this package; empty where there is none.
        curve: whether there is a picture.
    """
    group, number = chosen.group, chosen.number
    metrics = group.first.rounds[number]
    reason = ""
    if group.selection is not None and number > 0:
        reason = next(ticket.reason for ticket in group.selection.tickets if ticket.round == number)
    return (
        _environment()
        .get_template("card.md.j2")
        .render(
            repo=target.repo,
            title=target.repo.partition("/")[2],
            revision="" if target.branch == MAIN else target.branch,
            round=number,
            metrics=metrics,
            density=plain_number(metrics["remaining_percent"]),
            marks=[mark for mark in chosen.marks if mark != "dense"],
            reason=reason,
            margin=None if group.selection is None else group.selection.margin,
            base=base_model(config),
            init=without_places(config.model.init),
            random=config.model.random_init,
            trained=_corpora(trained_on),
            suites=_suite_rows(chosen),
            condition=condition,
            remeasured=remeasured,
            layers=[(name, kept, size) for name, (kept, size) in metrics["kept_per_tensor"].items()],
            sizes=sizes,
            speed=tables.speed(group.first),
            method=config.pruning,
            settings=yaml.safe_dump(public_settings(config), sort_keys=False, allow_unicode=True).strip(),
            seconds=duration(sum(one["seconds"] for one in group.first.rounds.values())),
            rounds=len(group.numbers),
            plain=plain,
            curve=CURVE_FILE if curve else "",
            mask_file=MASK_FILE,
            version=__version__,
        )
    )


def _corpora(names: Sequence[str]) -> list[tuple[str, str]]:
    """Title and licence of every corpus once."""
    found = {terms.title: terms.says for terms in map(terms_of, names)}
    return list(found.items())


def _suite_rows(chosen: Chosen) -> list[dict[str, Any]]:
    """WER of dense model and ticket on dev and every suite."""
    group, rows = chosen.group, []
    results = {DEV: group.first.rounds[chosen.number]["dev"], **group.first.rounds[chosen.number]["test"]}
    for suite, result in results.items():
        dense, ticket = rate(group, 0, suite), rate(group, chosen.number, suite)
        if ticket is None:
            continue
        rows.append(
            {
                "name": suite,
                "corpora": ", ".join(dict.fromkeys(without_places(result.get("corpora", [])))) or "-",
                "speech": condition(without_places(result)),
                "dense": "-" if dense is None else f"{percent(dense.wer)} {_bounds(dense.bounds)}",
                "ticket": f"{percent(ticket.wer)} {_bounds(ticket.bounds)}",
                "difference": "-"
                if ticket.difference is None
                else f"{percent(ticket.difference, sign=True)} {_bounds(ticket.difference_bounds, sign=True)}",
            }
        )
    return rows


def _bounds(bounds: Sequence[float] | None, sign: bool = False) -> str:
    return "" if bounds is None else percent_interval(bounds, sign=sign)


def escape(text: object) -> str:
    """Text that Markdown shows as it is, on one line: no markup, no HTML, no table cell of its own."""
    return " ".join(str(text).split()).translate(_SPECIAL)


def fenced(text: str, language: str = "") -> str:
    """A block of code whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Markdown and not HTML: what is foreign goes through `md` or `fenced` in the template.
    environment.filters.update(md=escape, fenced=fenced, size=_size, percent=percent)
    return environment


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count:,} B"
