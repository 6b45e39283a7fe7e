"""The page of a search: where in the parameter space the result lives, and how much of its best is
luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import pandas as pd

from mcl.base.words import many
from mcl.metrics.overfit import Luck
from mcl.report.format import CREDIBLE, Verdict, annual_text, metric, number, too_short
from mcl.report.heatmaps import maps
from mcl.report.search import SearchView, short, value_of
from mcl.report.search_charts import causes, deflation, history, parallel, plateau, slices
from mcl.report.theme import Cell, Link, Section, empty, fact_card, page, scroll, table

# pruned before a simulation: they are no trials of the market
NEVER_RUN = ("constraint", "duplicate")
HEADLINES = ("sharpe", "net_pnl_usd", "max_drawdown_frac", "trades", "profit_factor")


def sweep_page(
    trials: pd.DataFrame,
    metric: str,
    direction: Literal["maximize", "minimize"],
    title: str,
    *,
    chosen: int | None = None,
    luck: Luck | None = None,
    data_note: str = "",
    advice: str = "",
    links: Sequence[Link] = (),
    chips: Sequence[str] = (),
    address: Callable[[str], str] | None = None,
) -> str:
    """One self-contained HTML document.

    `trials`: one row per trial, failed and pruned ones too: `number` (or `trial`), `state`,
    parameters (`params.x`, or any name with a dot), metric columns, and, where there is one,
    `reason` and `detail` of a trial without a score, and `run_id`, whose page is at its `address`.
    `luck` is the deflation of the trial `chosen` (default: the best) by the trial ledger.
    `data_note` is the sentence about the data, empty where there is none; `advice` stands above
    the best trials, `chips` are the choices of the search.
    """
    frame = trials.rename(columns={"trial": "number"}) if "number" not in trials else trials
    search = SearchView(
        frame.sort_values("number", kind="stable"),
        metric,
        direction == "maximize",
        tuple(c for c in frame.columns if "." in c),
        chosen,
    )
    sections = [Section("Top trials", _top(search, address), advice)]
    if len(search.scored):
        sections += [*maps(search), *plateau(search), *deflation(search, luck)]
        sections += [
            Section(
                "History",
                history(search, _simulated(search.trials), luck),
                "Score of every trial and the best so far.",
            )
        ]
        sections += parallel(search)
        about = (
            "Each point is a trial. The bars say how much of the variance of the score a parameter"
            " explains by itself."
        )
        sections += [Section("Parameters", slices(search), about)]
    sections.append(Section("Without a score", _lost(search)))
    verdict, cards = _verdict(search, chosen, luck), _cards(search, luck)
    return page(
        "search",
        title,
        sections,
        verdict=verdict,
        data_note=data_note,
        cards=cards,
        chips=chips,
        links=links,
    )


# -------------------------------------------------------------------------------------------- words


def _verdict(search: SearchView, chosen: int | None, luck: Luck | None) -> Verdict:
    if not len(search.scored):
        return Verdict(
            "bad",
            "No result",
            f"None of {many(len(search.trials), 'trial')} has a score: see the reasons below.",
        )
    best = search.ranked.iloc[0]
    counted = many(_simulated(search.trials), "trial")
    if search.brief or too_short(search.sessions):
        short_time = too_short(search.sessions)
        return Verdict("unclear", "Too short", f"Best of {counted} of this search. {short_time}")
    sentence = (
        f"Best of {counted} of this search: {search.label}"
        f" {search.text(float(best[search.metric]))}."
    )
    if luck is None or not math.isfinite(luck.deflated):
        return Verdict(
            "unclear",
            "Selected",
            f"{sentence} It is the best of many: only data that the search has not seen can"
            " confirm it.",
        )
    whose = (
        "Its Sharpe"
        if chosen in (None, int(best["number"]))
        else f"The Sharpe of trial {chosen}, which was chosen,"
    )
    chance = (
        f"With no edge at all, the best of {luck.count} would show a Sharpe of about"
        f" {number(luck.best_by_luck, 'ratio')}."
    )
    level, word = (
        ("good", "Beyond luck") if luck.deflated >= CREDIBLE else ("unclear", "Within luck")
    )
    if "sharpe" in best and float(best["sharpe"]) <= 0:
        level, word = "bad", "Losing"  # even the best one
    return Verdict(
        level,
        word,
        f"{sentence} {chance} {whose} has a probability of {number(luck.deflated, 'percent')} to be"
        f" more: {luck.sentence}.",
    )


def _simulated(trials: pd.DataFrame) -> int:
    """Count the trials of the search that have looked at the data."""
    return int((~trials["reason"].isin(NEVER_RUN)).sum()) if "reason" in trials else len(trials)


def _cards(search: SearchView, luck: Luck | None) -> str:
    states = search.trials["state"].astype(str).str.upper()
    best = (
        search.text(float(search.ranked.iloc[0][search.metric]))
        if len(search.scored)
        else number(math.nan, "ratio")
    )
    middle = (
        search.text(float(search.scored[search.metric].median()))
        if len(search.scored)
        else number(math.nan, "ratio")
    )
    items = [
        (f"Best {search.label}", best, f"median of all scored {middle}"),
        ("Trials", f"{len(search.trials):,}", f"{len(search.scored):,} with a score"),
        ("Pruned", f"{int((states == 'PRUNED').sum()):,}", _why(search, states == "PRUNED")),
        (
            "Failed",
            f"{int(states.str.startswith('FAIL').sum()):,}",
            _why(search, states.str.startswith("FAIL")),
        ),
    ]
    if luck is not None:
        chance = annual_text("sharpe", luck.best_by_luck, search.sessions)
        note = f"best by luck {chance}, {many(luck.trials, 'trial')}"
        items.insert(1, ("Deflated Sharpe", number(luck.deflated, "percent"), note))
    return "".join(fact_card(*item) for item in items)


def _why(search: SearchView, of: pd.Series) -> str:
    """The commonest reasons, with their counts."""
    if "reason" not in search.trials or not of.any():
        return "see below" if of.any() else "none"
    counts = search.trials.loc[of, "reason"].fillna("").replace("", "not said").value_counts()
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.head(2).items()) + (
        " …" if len(counts) > 2 else ""
    )


def _top(search: SearchView, address: Callable[[str], str] | None) -> str:
    if not len(search.scored):
        return empty("No trial has a score.", "The reasons below say what to change.")
    names = list(
        dict.fromkeys(n for n in (search.metric, *HEADLINES) if n in search.trials.columns)
    )
    rows: list[list[Cell | str]] = []
    for rank, (_, row) in enumerate(search.ranked.head(10).iterrows()):
        numbers = [
            Cell(
                annual_text(n, float(row[n]), search.sessions),
                "n best" if rank == 0 and n == search.metric else "n",
                repr(float(row[n])),
            )
            for n in names
        ]
        where = address(str(row["run_id"])) if address and row.get("run_id") else ""
        rows.append(
            [
                Cell(str(row["number"]), "n", href=where),
                *(value_of(row[p]) for p in search.parameters),
                *numbers,
            ]
        )
    head = (
        "Trial",
        *(short(p) for p in search.parameters),
        *(metric(n).title.partition(" [")[0] for n in names),
    )
    return scroll(table(head, rows, numeric=range(len(head))))


def _lost(search: SearchView) -> str:
    rest = search.trials.drop(search.scored.index)
    if not len(rest):
        return empty("Every trial has a score.")
    reasons = rest["reason"].fillna("") if "reason" in rest else pd.Series("", rest.index)
    detail = rest["detail"].fillna("") if "detail" in rest else pd.Series("", rest.index)
    rows: list[list[Cell | str]] = []
    for (state, reason), group in rest.groupby([rest["state"].astype(str), reasons], sort=True):
        numbers = ", ".join(str(n) for n in group["number"].head(8)) + (
            " …" if len(group) > 8 else ""
        )
        rows.append(
            [
                str(state),
                str(reason) or "not said",
                f"{len(group):,}",
                numbers,
                Cell(str(detail[group.index[0]]), "wrap"),
            ]
        )
    counts = {
        f"{str(state).lower()}: {reason or 'not said'}": len(group)
        for (state, reason), group in rest.groupby([rest["state"].astype(str), reasons])
    }
    return causes(counts) + scroll(
        table(("State", "Reason", "Trials", "Numbers", "First, in words"), rows, numeric=(2,))
    )
