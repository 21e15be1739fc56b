"""The winning, best and extreme ticket of a search, as text."""

from audio_lottery.lottery.select import Selection, SetResult, Ticket
from audio_lottery.report.columns import budget, format_columns, percent, percent_interval


def format_selection(selection: Selection) -> str:
    """The table of the rounds and the three named tickets, as text."""
    several = len(selection.seeds) > 1
    header = ["round", "RW %", "dev WER %", "dev - dense", "matches", f"{selection.suite} WER %", "test - dense"]
    header += ["MAPSSWE p", "steps", "audio"]
    body = [
        [
            str(ticket.round),
            f"{ticket.remaining_percent:.2f}",
            _wer(ticket.dev),
            _difference(ticket.dev),
            "dense" if ticket.round == 0 else "yes" if ticket.matches else f"no: {ticket.reason}",
            _wer(ticket.test),
            _difference(ticket.test),
            " / ".join("-" if test.p is None else f"{test.p:.3f}" for test in ticket.test.mapsswe) or "-",
            *budget(ticket.budget),
        ]
        for ticket in selection.tickets
    ]
    seeds = f"{len(selection.seeds)} seeds ({', '.join(map(str, selection.seeds))})" if several else "one seed"
    of_wer = "over seeds (t)" if several else "over utterances (bootstrap)"
    lines = [
        format_columns(header, body),
        "",
        f"{seeds}; 95 % intervals: of WER {of_wer}, of differences over utterances (paired bootstrap)",
        *([_over_seeds(selection)] if several else []),
        "steps, audio: what a round cost from θ on, with the rounds that it was made from",
        f"matches: on dev, no interval of the difference lies above 0 and the difference is below "
        f"{100 * selection.margin:g} points",
        "",
        f"winning: {', '.join(str(ticket.round) for ticket in selection.winning) or 'none'}",
        f"best:    {_named(selection.best)}",
        f"extreme: {_named(selection.extreme)}",
    ]
    return "\n".join(lines)


def verdict(selection: Selection) -> str:
    """The sparsest winning ticket in a line, or that none wins and how far the best is from it."""
    if selection.extreme is not None:
        return f"winning, {_named(selection.extreme)}"
    return f"none wins; best is {_named(selection.best)}"


def _wer(result: SetResult) -> str:
    return f"{percent(result.wer.mean)} {percent_interval(result.bounds)}"


def _difference(result: SetResult) -> str:
    if result.difference is None:
        return "-"
    return f"{percent(result.difference.difference, sign=True)} {percent_interval(result.difference_bounds, sign=True)}"


def _over_seeds(selection: Selection) -> str:
    shown = [
        f"{ticket.round}: {percent_interval(ticket.dev.over_seeds.interval, sign=True)}"
        for ticket in selection.tickets
        if ticket.dev.over_seeds is not None
    ]
    return f"dev differences over seeds (paired t), by round: {', '.join(shown)}"


def _named(ticket: Ticket | None) -> str:
    if ticket is None:
        return "none"
    matches = "" if ticket.matches else f", which does not match (no: {ticket.reason})"
    model = f"; no model: {ticket.removed}" if ticket.removed else ""
    return (
        f"round {ticket.round}, {ticket.remaining_percent:.2f} % of the weights, dev WER "
        f"{percent(ticket.dev.wer.mean)} %, test WER {percent(ticket.test.wer.mean)} %{matches}{model}"
    )
