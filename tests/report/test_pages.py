"""Pages as documents: they parse, need no network, mark synthetic data, and show the numbers they
were given.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mcl.base import terminal
from mcl.base.words import figure
from mcl.engine.result import Result, changes
from mcl.metrics.overfit import Luck, luck
from mcl.metrics.performance import per_session
from mcl.metrics.summary import summary
from mcl.report.audit import session_page
from mcl.report.compare import (
    CompareView,
    PositionPath,
    compare_page,
    different_data,
    family,
)
from mcl.report.format import metric_rows, number
from mcl.report.range_coding import digits, opened
from mcl.report.run import RunView, run_page
from mcl.report.search import SearchView
from mcl.report.sweep import sweep_page
from mcl.report.theme import Link, chart, packed
from mcl.risk.blocks import Block

from .conftest import CONFIG, SESSION_BARS, simulated, walk

VOID = {"meta", "link", "br", "img", "input", "hr"}
MakeView = Callable[..., RunView]


class Document(HTMLParser):
    """Texts by `data-metric`, figures by name, links out, and whether every tag is closed in
    order.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.metrics: dict[str, tuple[str, str]] = {}
        self.figures: dict[str, Any] = {}
        self.outside: list[str] = []
        self.banners = 0
        self.scripts = 0
        self.text: list[str] = []
        self.feed(html)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.outside += [
            v
            for k, v in attrs
            if k in ("src", "href", "action", "srcset") and v and not v.startswith(("#", "data:"))
        ]
        self.banners += given.get("class") == "synthetic"
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        tag, given = self.open[-1] if self.open else ("", {})
        if name := given.get("data-metric"):
            self.metrics[name] = (data, str(given["data-value"]))
        elif name := given.get("data-for"):
            self.figures[name] = json.loads(data)
        elif tag not in ("script", "style"):
            self.text.append(data)


def unpacked(spec: dict[str, str]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(spec["bdata"]), np.dtype("<" + spec["dtype"]))


def trials(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"trial": range(n), "state": "COMPLETE", "reason": "", "detail": ""})
    frame["strategy.fast"], frame["strategy.slow"] = (
        rng.choice([5, 10, 20], n),
        rng.choice([40, 80, 160], n),
    )
    frame["strategy.mode"], frame["risk.stop"] = (
        rng.choice(["both", "long"], n),
        rng.uniform(1, 4, n),
    )
    frame["sharpe"] = frame["strategy.fast"] / 10 + rng.normal(0, 0.2, n)
    frame["trades"], frame["sessions"], frame["skew"], frame["kurtosis"] = 100.0, 400.0, 0.0, 3.0
    for row, state, reason, detail in (
        (3, "PRUNED", "no_trades", "it never traded <at all>"),
        (4, "FAILED", "EngineError", "a price is not a number"),
    ):
        frame.loc[row, "state"], frame.loc[row, "reason"] = state, reason
        frame.loc[row, "detail"], frame.loc[row, "sharpe"] = detail, math.nan
    return frame


def deflated(frame: pd.DataFrame, count: int) -> Luck:
    """The deflation of the best trial among `count`, of which the frame has the ratios."""
    row = frame.iloc[int(frame["sharpe"].argmax())]
    best = {name: float(row[name]) for name in ("sharpe", "sessions", "skew", "kurtosis")}
    return luck(
        frame["sharpe"].map(per_session), count, best, "ema_cross on a market", "2026-01-02 03:04"
    )


def compared(month: Result, **changes: Any) -> list[CompareView]:
    metrics = summary(month)
    other = metrics | {
        "sharpe": metrics["sharpe"] + 1,
        "max_drawdown_usd": metrics["max_drawdown_usd"] - 5,
    }
    config = CONFIG | {"strategy": {"name": "ema_cross", "fast": 20, "slow": 30}}
    first = CompareView("aaaaaaaa11", "one", CONFIG, metrics, month.session_equity, **changes)
    return [first, CompareView("bbbbbbbb22", "two", config, other, month.session_equity + 100)]


@pytest.fixture(scope="module")
def pages(month: Result, make_view: MakeView) -> dict[str, str]:
    decisions = pd.DataFrame(
        {
            "close_time": month.bars.times[:90],
            "close": month.bars.close[:90],
            "target": 1,
            "position": 1,
        }
    )
    fills = pd.DataFrame(
        {"time": month.bars.times[[3, 9]], "price": [70.0, 70.1], "quantity": [1, -1]}
    )
    return {
        "run": run_page(make_view(month)),
        "compare": compare_page(compared(month)),
        "sweep": sweep_page(
            trials(), "sharpe", "maximize", "search", data_note="", luck=deflated(trials(), 60)
        ),
        "session": session_page(
            decisions,
            fills,
            decisions.head(0),
            {"account": "DU1", "latency": {"p50": 1.5}},
            title="paper",
        ),
    }


@pytest.mark.parametrize("name", ["run", "compare", "sweep", "session"])
def test_pages_parse_and_ask_nobody_for_anything(pages: dict[str, str], name: str) -> None:
    document = Document(pages[name])
    assert document.outside == []
    assert document.figures
    assert "@import" not in pages[name]
    assert len(pages[name]) < 8e6
    css = pages[name].partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in css


def test_links_lead_out_of_the_page_and_nothing_is_fetched_from_them(
    month: Result, make_view: MakeView
) -> None:
    document = Document(
        run_page(
            make_view(month, links=[Link("Run in <MLflow>", 'http://127.0.0.1:5000/#/runs/a"b')])
        )
    )
    assert document.outside == ['http://127.0.0.1:5000/#/runs/a"b']
    assert "Run in <MLflow>" in document.text


def test_every_table_and_every_box_has_a_name(pages: dict[str, str]) -> None:
    for html in pages.values():
        assert 'aria-label=""' not in html
        assert re.findall(r"<table(?![^>]*aria-label=)", html) == []


def test_numbers_of_the_page_are_those_of_the_metrics(month: Result, make_view: MakeView) -> None:
    metrics = summary(month) | {"extra_usd": 12.345678901234567, "missing": math.nan}
    shown = Document(run_page(make_view(month, metrics=metrics))).metrics
    rows = metric_rows(metrics)
    assert {name: text for name, (text, _) in shown.items()} == {
        name: text for _, text, name in rows
    }
    for name, (_, exact) in shown.items():
        assert math.isnan(metrics[name]) if exact == "nan" else float(exact) == metrics[name]


def test_no_metric_is_left_out(month: Result, pages: dict[str, str]) -> None:
    bounds = {"sharpe_low", "sharpe_high"}
    assert set(Document(pages["run"]).metrics) == set(summary(month)) - bounds


def test_synthetic_banner_if_and_only_if_synthetic(
    month: Result, make_view: MakeView, pages: dict[str, str]
) -> None:
    real = simulated(walk(3 * SESSION_BARS, synthetic=False))
    marked = [
        pages["run"],
        compare_page(compared(month, synthetic=True, notes="planted")),
        sweep_page(trials(), "sharpe", "maximize", "s", data_note="SYNTHETIC DATA, seed 7"),
        session_page(
            pd.DataFrame(),
            pd.DataFrame(),
            pd.DataFrame(),
            {},
            title="s",
            data_note="SYNTHETIC DATA, seed 7",
        ),
    ]
    for html in marked:
        assert Document(html).banners == 1
        assert "SYNTHETIC DATA" in html
    assert (
        "world planted_edge, seed 1, planted EMA 240/960 edge of annual Sharpe 3 before costs, not"
        " a market result" in pages["run"]
    )
    for html in (run_page(make_view(real)), pages["compare"], pages["sweep"], pages["session"]):
        assert Document(html).banners == 0
        assert "SYNTHETIC" not in html


def test_the_limits_of_a_market_source_stand_on_every_page(make_view: MakeView) -> None:
    limits = "ONE PRICE A DAY — nothing else"
    bars = replace(walk(SESSION_BARS, synthetic=False), provenance={"facts": {"limits": limits}})
    pages = [
        run_page(make_view(simulated(bars))),
        compare_page(compared(simulated(bars), synthetic=False, notes=limits)),
        sweep_page(trials(), "sharpe", "maximize", "s", data_note=limits),
    ]
    for html in pages:
        assert f'<div class="limits" role="note">{limits}</div>' in html
        assert Document(html).banners == 0


def test_runs_are_tested_together_as_well_as_alone(month: Result) -> None:
    days = pd.date_range("2020-01-01", periods=600, freq="B")
    noise = np.random.default_rng(5).normal(0, 500, (600, 4))
    noise -= noise.mean(axis=0)
    noise[:, 2] += 100  # an edge of a fifth of its deviation in each session
    runs = [
        CompareView(f"{name}" * 8, name, CONFIG, summary(month), pd.Series(pnl, days) + 25_000)
        for name, pnl in zip("abcd", noise.cumsum(axis=0).T, strict=True)
    ]
    joint = family(runs)
    assert (joint.best, joint.superior, joint.runs) == ("c" * 8, ("c" * 8,), 4)
    assert joint.p < 0.01
    assert any(joint.sentence in text for text in Document(compare_page(runs)).text)
    nothing = family([runs[0], runs[1], runs[3]])
    assert nothing.superior == ()
    assert nothing.p > 0.3
    assert "none of them" in nothing.sentence
    short = family([replace(run, equity=run.equity.iloc[:5]) for run in runs])
    assert np.isnan(short.p)
    assert "enough sessions" in short.sentence


def test_the_chart_keeps_every_fill_and_the_extremes(month: Result, pages: dict[str, str]) -> None:
    figure = Document(pages["run"]).figures["chart-strip"]
    price, equity, drawdown, *_, ribbon = figure["data"]
    marks = [trace for trace in figure["data"] if trace.get("mode") == "markers"]
    assert [len(ribbon["z"][0]), len(unpacked(ribbon["x"]))] == [20, 21]
    drawn = np.concatenate([unpacked(mark["y"]) for mark in marks])
    assert np.allclose(np.sort(drawn), np.sort(month.fills["price_ticks"] * 0.01))
    ticks = np.cumsum(opened(price["y"]["steps"])).astype(float)
    ticks[price["y"]["gaps"]] = np.nan
    assert np.nanmin(ticks) == month.bars.ticks["low"].min()
    assert np.nanmax(ticks) == month.bars.ticks["high"].max()
    for trace, values in (
        (equity, month.equity),
        (drawdown, month.equity - np.maximum(np.maximum.accumulate(month.equity), 25_000)),
    ):
        assert unpacked(trace["y"]).min() == values.min()
        assert unpacked(trace["y"]).max() == values.max()


def test_the_detail_holds_every_bar_and_the_books_close(
    month: Result, pages: dict[str, str]
) -> None:
    detail = Document(pages["run"]).figures["chart-strip"]["detail"]
    bars, ticks = month.bars, month.bars.ticks
    volume = opened(detail["volume"])
    assert np.array_equal(volume, bars.volume)
    traded = digits(volume)
    body, gap = opened(detail["body"], traded), opened(detail["gap"], traded)
    close = detail["firstOpen"] + np.cumsum(gap + body)
    opens = close - body
    assert np.array_equal(close, ticks["close"])
    assert np.array_equal(opens, ticks["open"])
    shape = np.minimum(traded, 7) * 4 + np.minimum(digits(body), 3)
    upper, lower = (opened(detail[name], shape) for name in ("upper", "lower"))
    assert np.array_equal(np.maximum(opens, close) + upper, ticks["high"])
    assert np.array_equal(np.minimum(opens, close) - lower, ticks["low"])
    seconds = np.cumsum(opened(detail["seconds"]) + detail["usual"])
    assert np.array_equal((seconds + detail["start"]) * 10**9, bars.close_time)
    row, quantity = np.cumsum(opened(detail["fillBar"])), opened(detail["fillQuantity"])
    price = close[row] + opened(detail["fillCenti"]) / 100
    moved = np.bincount(
        row,
        quantity * price * detail["tickValue"] + np.abs(quantity) * detail["commission"],
        len(close),
    )
    held = np.cumsum(np.bincount(row, quantity, len(close)))
    assert np.allclose(
        detail["capital"] - np.cumsum(moved) + held * close * detail["tickValue"],
        month.equity,
        atol=1e-6,
    )


def test_what_a_config_says_cannot_become_markup(pages: dict[str, str]) -> None:
    document = Document(pages["run"])
    assert "<script>alert" not in pages["run"]
    assert any("<script>alert('x')</script> & more" in text for text in document.text)


def test_trade_list_says_when_it_is_cut(month: Result, pages: dict[str, str]) -> None:
    total = len(month.trades)
    assert total > 500
    assert f"of {total:,} trades, in time order" in pages["run"]
    assert len(re.findall("<tr data-from=", pages["run"])) == 500


def test_months_sum_to_the_net_result(month: Result, pages: dict[str, str]) -> None:
    table = pages["run"].partition('<table class="months heat held"')[2].partition("</table>")[0]
    usd = [float(t.replace(",", "")) for t in re.findall(r'title="([-\d,.]+)(?: USD)?"', table)]
    *months, year, total = usd
    assert year == total == round(month.net_pnl_usd, 2)
    assert sum(months) == pytest.approx(month.net_pnl_usd, abs=0.01)


def test_a_halt_is_said_in_the_header_and_every_rule_is_counted(
    month: Result, make_view: MakeView
) -> None:
    block = month.block.copy()
    block[100:103], block[5000:] = Block.NO_ENTRY, Block.MAX_DRAWDOWN
    html = run_page(make_view(replace(month, changes=changes(month.position, month.target, block))))
    words = "".join(Document(html).text)
    assert (
        f"Trading stopped for good on {month.bars.session[5000].astype('datetime64[D]')}" in words
    )
    assert Block.NO_ENTRY.text in words
    assert f"{len(block) - 5000:,}" in words
    assert "Trading stopped" not in run_page(make_view(month))


def test_a_run_without_trades_has_a_page(make_view: MakeView) -> None:
    still = simulated(walk(100), span=10_000)
    html = run_page(make_view(still))
    assert "No trade was made." in html
    assert "choose an earlier data.start" in html
    document = Document(html)
    words = " ".join(document.text)
    assert re.findall(r"(?<![\w.-])-0(?:\.0*)?(?![\d.\w-])", words) == []
    assert "-0.0" not in json.dumps(document.figures)
    assert 'data-value="-0.0"' not in html


def test_nothing_has_no_sign() -> None:
    for style in ("usd", "percent", "count", "ratio", "sessions", "bars", "ticks", "plain"):
        for value in (-0.0, 0.0):
            assert number(value, style).startswith("0"), style
    assert number(-1e-9, "usd") == "0.00"
    assert figure(-0.001, "+.2f") == "0.00"
    assert figure(-0.0, ",.0f") == "0"
    assert figure(-0.5, "+.2f") == "-0.50"
    assert terminal.text(-0.0) == "0"
    drawn = chart("c", {"data": [{"y": [-0.0, 1.0, -0.05]}]}, 100, "c")
    assert '"y":[0.0,1.0,-0.05]' in drawn
    assert np.signbit(unpacked(packed(np.array([-0.0, -1.0])))).tolist() == [False, True]


def test_comparison_marks_the_best_and_lists_what_differs(
    month: Result, pages: dict[str, str]
) -> None:
    html = pages["compare"]
    best = dict(re.findall(r'class="n best" title="([^"]+)" data-metric="([^"]+)"', html))
    by_metric = {name: float(exact) for exact, name in best.items()}
    metrics = summary(month)
    # the Sharpe differs too, but of so few sessions the page says none
    assert by_metric == {"max_drawdown_usd": metrics["max_drawdown_usd"]}
    assert "strategy.fast" in html
    assert "strategy.slow" not in Document(html).text
    curves = Document(html).figures["chart-equity"]["data"]
    assert np.allclose(unpacked(curves[0]["y"]), 100 * (month.session_equity - 25_000) / 25_000)


def test_overlap_of_trades_and_drawdowns_by_hand() -> None:
    days = pd.date_range("2024-01-02", periods=6)
    config = CONFIG | {"capital_usd": 100.0}
    curves = (
        [100, 90, 80, 100, 100, 100],
        [100, 100, 80, 90, 100, 100],
    )  # each is deeper than half its worst in row 2 alone
    times = np.arange(6) * 60 * 10**9
    # together in rows 2 and 4 of the four in which one is in the market
    positions = ([0, 1, 1, -1, -1, 0], [0, 0, 1, 1, -1, 0])
    runs = [
        CompareView(
            name * 8,
            name,
            config,
            {},
            pd.Series(curve, days, dtype=float),
            positions=PositionPath(times, np.array(held)),
        )
        for name, curve, held in zip("ab", curves, positions, strict=True)
    ]
    html = compare_page(runs)
    tables = {
        name: re.findall(
            r'title="([\d.]+)"', html.partition(f'id="{name}"')[2].partition("</section>")[0]
        )
        for name in ("Trade-overlap".lower(), "drawdown-overlap")
    }
    assert tables == {
        "trade-overlap": ["1.0", "0.5", "0.5", "1.0"],
        "drawdown-overlap": ["1.0", "1.0", "1.0", "1.0"],
    }
    assert "Trade overlap" not in compare_page([replace(run, positions=None) for run in runs])


def test_of_many_runs_each_is_a_row_with_its_data(month: Result) -> None:
    one = compared(month)[0]
    runs = [
        replace(one, run_id=f"{k:08d}", metrics={**one.metrics, "net_pnl_usd": float(k)})
        for k in range(5)
    ]
    html = compare_page(runs)
    section = html.partition('<section id="metrics"')[2].partition("</section>")[0]
    assert section.count("<tr>") == 6
    heads = re.findall(r'<th scope="col"[^>]*>([^<]*)', section)
    assert heads[:2] == ["Run", "Data"]
    assert len(heads) == 2 + len(metric_rows(one.metrics))
    assert section.count("n best") == 1  # the run with the highest P&L
    first = html.partition('<section id="runs"')[2].partition("</section>")[0]
    assert first.count("MCL 1m planted_edge seed 7") == 5
    assert "Sharpe" in first
    assert "Different data" not in html
    three = compare_page(runs[:3]).partition('<section id="metrics"')[2]
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', three)[0] == "Metric"


def test_runs_of_different_worlds_are_not_ranked_without_a_warning(month: Result) -> None:
    first, second = compared(month)
    other = CONFIG | {"data": CONFIG["data"] | {"world": "zero_edge"}}
    longer = CONFIG | {"data": CONFIG["data"] | {"interval": "5m"}}
    assert different_data([first, second]) == ""
    assert different_data([first, replace(second, config=longer)]) == ""
    mixed = [first, replace(second, config=other)]
    assert different_data(mixed) == (
        "These runs are of 2 different markets or worlds: aaaaaaaa on MCL planted_edge seed 7;"
        " bbbbbbbb on MCL zero_edge seed 7. Their numbers do not say which is better."
    )
    assert different_data(mixed) in compare_page(mixed)


def test_twelve_runs_can_be_told_apart(month: Result) -> None:
    one = compared(month)[0]
    curves = Document(compare_page([replace(one, run_id=f"{k:08d}") for k in range(12)])).figures[
        "chart-equity"
    ]["data"]
    assert len({(c["line"]["color"], c["line"]["dash"]) for c in curves}) == 12


def test_maps_of_trades_and_drawdown_and_of_every_pair() -> None:
    frame = trials().assign(
        max_drawdown_frac=-0.1,
        **{"risk.size": np.arange(40) % 3, "strategy.length": np.arange(40) % 4},
    )
    document = Document(sweep_page(frame, "sharpe", "maximize", "s"))
    maps = [name for name in document.figures if name.startswith("chart-map-")]
    assert len(maps) == 3 * 15  # six parameters have fifteen pairs
    assert {
        z
        for name in ("chart-map-1-0", "chart-map-1-14")
        for row in document.figures[name]["data"][0]["z"]
        for z in row
    } <= {
        100.0,
        None,
    }


def test_the_deflated_view_shows_what_luck_would() -> None:
    frame = trials()
    found = deflated(frame, 60)
    page = sweep_page(frame, "sharpe", "maximize", "s", luck=found)
    figures = Document(page).figures
    assert found.sentence in page
    scored = frame.loc[frame["state"] == "COMPLETE", "sharpe"]
    chance, best = (line["x0"] for line in figures["chart-luck"]["layout"]["shapes"])
    assert best == scored.max()
    assert chance == pytest.approx(found.best_by_luck)
    by_luck = figures["chart-history"]["data"][2]["y"]
    assert by_luck[0] == pytest.approx(found.best_of(21))  # twenty came before this search
    assert by_luck[-1] == pytest.approx(chance)
    assert (
        "chart-luck"
        not in Document(sweep_page(frame, "trades", "maximize", "s", luck=found)).figures
    )
    assert "chart-luck" not in Document(sweep_page(frame, "sharpe", "maximize", "s")).figures


def test_plateau_and_parallel_coordinates() -> None:
    frame = trials().assign(plateau=np.linspace(0, 1, 40))
    document = Document(sweep_page(frame, "sharpe", "maximize", "s"))
    assert "By plateau" in "".join(document.text)
    assert document.figures["chart-plateau"]["data"][0]["text"][-1] == "trial 39"
    axes = {
        axis["label"]: axis for axis in document.figures["chart-parallel"]["data"][0]["dimensions"]
    }
    assert list(axes) == ["fast", "slow", "mode", "stop", "Sharpe (annual)"]
    assert axes["mode"]["ticktext"] == ["both", "long"]


def test_sweep_shows_the_best_the_map_and_the_lost(pages: dict[str, str]) -> None:
    frame, document = trials(), Document(pages["sweep"])
    assert f"{frame['sharpe'].max():.2f}" in "".join(document.text)
    words = "".join(document.text)
    for expected in ("no_trades", "it never traded <at all>", "EngineError", "Deflated Sharpe"):
        assert expected in words
    best = document.figures["chart-history"]["data"][1]["y"]
    assert best == sorted(best)
    assert best[-1] == frame["sharpe"].max()


def test_the_map_shows_the_mean_of_each_cell_and_rings_the_best() -> None:
    frame = trials().drop(columns=["strategy.mode", "risk.stop"])
    figure = Document(sweep_page(frame, "sharpe", "maximize", "s")).figures["chart-map-0"]
    heat, ring = figure["data"]
    # fast explains most, so it comes first; both double, so that logarithms are even
    across, up = (figure["layout"][axis] for axis in ("xaxis", "yaxis"))
    assert (across["ticktext"], up["ticktext"]) == (["5", "10", "20"], ["40", "80", "160"])
    assert across["tickvals"] == pytest.approx(np.log10([5, 10, 20]))
    assert across["title"]["text"] == "fast (log scale)"
    means: dict[Any, float] = (
        frame.groupby(["strategy.slow", "strategy.fast"])["sharpe"].mean().to_dict()
    )
    for (slow, fast), mean in means.items():
        row, column = up["ticktext"].index(str(slow)), across["ticktext"].index(str(fast))
        assert heat["z"][row][column] == pytest.approx(mean)
    assert (heat["zmin"], heat["zmax"]) == pytest.approx((min(means.values()), max(means.values())))
    best = frame.iloc[int(frame["sharpe"].argmax())]
    place = (ring["x"][0], ring["y"][0])
    assert place == pytest.approx(
        (np.log10(best["strategy.fast"]), np.log10(best["strategy.slow"]))
    )


def test_a_numeric_axis_shows_its_gaps() -> None:
    """5, 10, 40 and 45 on their own places: what was not tried between 10 and 40 is empty."""
    values = pd.Series([5, 10, 40, 45, 10])
    frame = pd.DataFrame({"number": range(5), "state": "COMPLETE", "sharpe": 1.0, "s.a": values})
    axis = SearchView(frame, "sharpe", True, ("s.a",)).axis("s.a")
    assert (axis.scale, axis.names) == ("linear", ("5", "10", "40", "45"))
    assert axis.bricks() == ([2.5, 7.5, 12.5, 37.5, 42.5, 47.5], [0, 1, -1, 2, 3])
    assert axis.layout("a")["tickvals"] == [5.0, 10.0, 40.0, 45.0]


def test_an_axis_of_few_values_of_words_and_of_many() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"number": range(400), "state": "COMPLETE", "sharpe": 1.0})
    frame["s.word"] = np.where(frame["number"] % 2, "long", "both")
    frame["s.one"], frame["s.flag"] = 7, frame["number"] % 2 == 0
    frame["s.many"] = rng.uniform(1, 4, 400)
    frame["s.grid"] = frame["number"] % 3 * 35 / 2 + 5  # 5, 22.5, 40
    search = SearchView(frame, "sharpe", True, ("s.word", "s.one", "s.flag", "s.many", "s.grid"))
    assert search.axis("s.word").scale == search.axis("s.flag").scale == "category"
    assert search.axis("s.one").bricks() == ([6.5, 7.5], [0])
    edges, inside = search.axis("s.many").bricks()
    assert inside == list(range(12))  # the spans of many values leave no gap
    assert edges[0] < frame["s.many"].min() + 0.1
    assert np.all(np.diff(edges) > 0)
    assert search.axis("s.grid").bricks()[1] == [0, 1, 2]  # even steps touch


def test_the_neighbours_of_the_chosen_trial_are_listed() -> None:
    points = [(f, s) for f in (5, 10, 40) for s in (60, 80)]
    frame = pd.DataFrame(points, columns=["strategy.fast", "strategy.slow"])
    frame = frame.assign(number=range(6), state="COMPLETE", sharpe=[0.5, 0.1, 2.0, 0.2, 1.0, 0.3])
    page = sweep_page(frame, "sharpe", "maximize", "s", chosen=4)
    section = page[page.index('<section id="neighbours"') :].partition("</section>")[0]
    text = [part for part in Document(section + "</section>").text if part.strip()]
    assert "From trial 4" in text
    rows = text[text.index("Difference") + 1 :]
    assert rows == [
        *("fast 40 → 10", "2", "2.00", "+1.00"),
        *("slow 60 → 80", "5", "0.30", "-0.70"),
    ]
    assert "the ring is trial 4, the chosen one, the diamond trial 2, the best" in page
    ring = Document(page).figures["chart-map-0"]["data"][1:]
    assert [mark["name"] for mark in ring] == ["trial 4, chosen", "trial 2, best"]
    apart = frame.drop(index=[2, 5])  # nothing is one step away
    assert "The nearest trials" in sweep_page(apart, "sharpe", "maximize", "s", chosen=4)
    alone = frame.assign(state=["COMPLETE"] + ["FAILED"] * 5)
    assert "<section" in sweep_page(alone, "sharpe", "maximize", "s")


def test_a_search_of_few_sessions_has_no_annual_sharpe() -> None:
    """Neither its tables nor its map, which keeps the order as colours."""
    frame = trials().assign(sessions=62.0)
    document = Document(sweep_page(frame, "sharpe", "maximize", "s"))
    words = " ".join(document.text)
    assert f"{frame['sharpe'].max():.2f}" not in words
    assert "too short" in words
    heat = document.figures["chart-map-0"]["data"][0]
    assert {text for row in heat["text"] for text in row} == {""}
    assert heat["colorbar"]["showticklabels"] is False
    long = Document(sweep_page(trials().assign(sessions=63.0), "sharpe", "maximize", "s"))
    assert f"{frame['sharpe'].max():.2f}" in " ".join(long.text)


def test_sweep_of_a_minimised_metric_and_one_without_a_score() -> None:
    lowest = sweep_page(trials(), "sharpe", "minimize", "s")
    best = Document(lowest).figures["chart-history"]["data"][1]["y"]
    assert best == sorted(best, reverse=True)
    nothing = trials().assign(state="FAILED", sharpe=math.nan)
    assert "None of 40 trials has a score" in sweep_page(nothing, "sharpe", "maximize", "s")


def test_session_says_whether_it_differs(month: Result) -> None:
    decisions = pd.DataFrame(
        {"close_time": month.bars.times[:3], "close": month.bars.close[:3], "target": 1}
    )
    found = pd.DataFrame(
        {"time": month.bars.times[:2], "what": "fill", "cause": ["price", "unexplained"]}
    )
    assert "1 of 2 differences" in session_page(decisions, pd.DataFrame(), found, {}, title="paper")
    assert "1 differences from a backtest of the same bars, each with its cause" in session_page(
        decisions, pd.DataFrame(), found.head(1), {}, title="paper"
    )
    assert "All 3 decisions equal" in session_page(
        decisions, pd.DataFrame(), decisions.head(0), {}, title="paper"
    )


def test_two_years_of_minute_bars_stay_small(make_view: MakeView) -> None:
    big = simulated(walk(500 * SESSION_BARS), span=600)
    view = make_view(big)
    html = run_page(view)
    assert len(big.bars) == 690_000
    assert len(big.fills) > 10_000
    assert len(html) < 8e6
