"""The synthetic MCL world as files: what a download of the parent `MCL.FUT` would look like, marked
as synthetic.

    <folder>/synthetic/<world>-<seed>-<hash>/world.json
                                            /definition/2023-12.dbn.zst
                                            /statistics/…
                                            /ohlcv-1m/…

There is one file per UTC month and schema.

All twelve serial months and the calendar spreads of neighbours, definitions sent again before every
session, settlement prices on the day, cleared volume and open interest on the next morning,
1-minute bars where something traded. Every outright's definition carries the watermark, so that
copied files stay synthetic. The same parameters give the same bytes; the folder appears whole or
not at all and is reused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mcl.base import progress
from mcl.base.errors import DataError, StoreError
from mcl.base.files import below, write_whole
from mcl.base.instants import NS
from mcl.data import dbn
from mcl.data.realism import MinuteBars
from mcl.data.synthetic import calibration, defects, price_process
from mcl.data.synthetic.price_process import LISTED, Edge, SyntheticSession
from mcl.market import calendar
from mcl.market.calendar import Sessions
from mcl.market.contract_master import NOTICE, WATERMARK
from mcl.market.instruments import MCL, Contract

if TYPE_CHECKING:
    from mcl.data.sources.synthetic import SyntheticData

Ints = npt.NDArray[np.int64]

VERSION = 9  # raise it whenever the same parameters would give other bytes
# trade dates; the first session opens on Sunday 2023-12-10
FIRST, LAST = date(2023, 12, 11), date(2026, 1, 8)
DATASET, PARENT = "GLBX.MDP3", "MCL.FUT"
SCHEMAS = ("definition", "statistics", "ohlcv-1m")
TICK = round(MCL.tick_size * dbn.PRICE_SCALE)
OUTRIGHT_ID, SPREAD_ID = 42_000_000, 43_000_000  # + 100 * year + month
SETTLEMENT, CLEARED_VOLUME, OPEN_INTEREST = 3, 6, 9
FINAL_ACTUAL = 3  # settlement flags, CME tag 731
_SENT_BEFORE_OPEN = 30 * 60 * NS


def generate(
    spec: SyntheticData,
    folder: Path | str,
    *,
    first: date = FIRST,
    last: date = LAST,
    blemishes: Sequence[str] = (),
    mirrored: bool = False,
) -> Path:
    """The folder of the world that `spec` names, made on the first call and reused after; sessions
    first … last, both included.

    `blemishes` (names in `mcl.data.synthetic.defects.BLEMISHES`) damages the files on purpose:
    material for `mcl data check`. `mirrored` gives every move of a price the other sign: a pair of
    worlds in which luck is the opposite. DataError for an impossible range, StoreError if the disk
    refuses.
    """
    parameters = (
        _parameters(spec, first, last)
        | ({"blemishes": list(blemishes)} if blemishes else {})
        | ({"mirrored": True} if mirrored else {})
    )
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]
    home = below(Path(folder) / "synthetic", f"{spec.world}-{spec.seed}-{digest}")
    if _is_whole(home, parameters):
        return home
    part = home.with_name(f"{home.name}.part-{uuid.uuid4().hex[:8]}")
    try:
        for schema in SCHEMAS:
            (part / schema).mkdir(parents=True)
        _fill(part, parameters)
        _publish(part, home, parameters)
    except OSError as error:
        message = f"cannot write the synthetic world to {home}: {error.strerror or error}"
        raise StoreError(message, "free space or choose another data.folder") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return home


def minute_bars(seed: int, first: date = FIRST, last: date = LAST) -> MinuteBars:
    """The bars of all contracts of a world without an edge, without its files."""
    table = calendar.sessions(first, last + timedelta(days=1))
    pieces = []
    for tape in price_process.simulate(table, seed, None):
        rows = tape.rows[tape.rows[:, price_process.INSTRUMENT] < LISTED]
        session = np.full(len(rows), table.day[tape.session])
        contract = tape.listed[rows[:, price_process.INSTRUMENT]]
        pieces.append((contract, session, rows[:, price_process.MINUTE], *rows[:, 2:].T))
    return MinuteBars(*(np.concatenate(column) for column in zip(*pieces, strict=True)))


def _parameters(spec: SyntheticData, first: date, last: date) -> dict[str, Any]:
    """All that the bytes depend on."""
    if last < first:
        raise DataError(
            f"need first <= last session for a synthetic world; first={first}, last={last}"
        )
    planted = spec.world == "planted_edge"
    if planted and spec.edge_fast >= spec.edge_slow:
        raise DataError(
            f"need data.edge_fast < data.edge_slow; edge_fast={spec.edge_fast},"
            f" edge_slow={spec.edge_slow}"
        )
    edge = (
        {"sharpe": spec.edge_sharpe, "fast": spec.edge_fast, "slow": spec.edge_slow}
        if planted
        else None
    )
    return {
        "version": VERSION,
        "world": spec.world,
        "seed": spec.seed,
        "edge": edge,
        "first": str(first),
        "last": str(last),
    }


def _is_whole(home: Path, parameters: dict[str, Any]) -> bool:
    try:
        world = json.loads((home / "world.json").read_text())
        return bool(world["parameters"] == parameters) and all(
            (home / n).stat().st_size == f["bytes"] for n, f in world["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # absent, or touched by somebody: made again


def _publish(part: Path, home: Path, parameters: dict[str, Any]) -> None:
    """Rename the finished folder into place; another process may have been faster with the same
    bytes.
    """
    if home.exists() and not _is_whole(home, parameters):
        shutil.rmtree(home)
    try:
        part.rename(home)
    except OSError:
        if not _is_whole(home, parameters):
            raise


def _fill(part: Path, parameters: dict[str, Any]) -> None:
    first, last = date.fromisoformat(parameters["first"]), date.fromisoformat(parameters["last"])
    table = calendar.sessions(first, last + timedelta(days=1))
    edge = Edge(**parameters["edge"]) if parameters["edge"] else None
    listing = Listing(table, price_process.chain(table))
    bars, statistics = [], Clearing(listing)
    tick = progress.begin("making the synthetic sessions", len(table))
    mirrored = parameters.get("mirrored", False)
    for tape in price_process.simulate(table, parameters["seed"], edge, mirrored):
        bars.append(_bars(listing, tape))
        statistics.take(tape)
        tick()
    progress.begin("writing the raw files")
    traded = np.concatenate(bars)
    for name in parameters.get("blemishes", ()):
        traded = defects.apply(name, traded, table, part)
    records = {
        "definition": _definitions(listing),
        "statistics": statistics.records(),
        "ohlcv-1m": traded,
    }
    files, rows = {}, {schema: len(array) for schema, array in records.items()}
    for schema, array in records.items():
        for name in _write_months(part, schema, array, listing):
            content = (part / name).read_bytes()
            files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    world = _world_facts(parameters, edge, listing) | {
        "sessions": len(table),
        "rows": rows,
        "files": files,
    }
    write_whole(part / "world.json", (json.dumps(world, indent=1) + "\n").encode())


def _world_facts(parameters: dict[str, Any], edge: Edge | None, listing: Listing) -> dict[str, Any]:
    """Return the facts that a reader must know before believing a number that came from these
    files.
    """
    words, drift = (
        "none: between 50 and 90 USD every mid is a martingale, the past of a contract says nothing"
        " about its future; outside, a session drifts back by 1.5 % of the distance, and the band"
        " falls by the 20 cents at which each later month is listed; neighbouring closes bounce"
        " between bid and ask, by less than a spread",
        0.0,
    )
    if edge is not None:
        drift = edge.drift_ticks
        words = (
            f"planted: the price drifts by {drift:.1f} ticks per 1380-minute session, evenly"
            f" over the minutes, in the direction of sign(EMA({edge.fast}) - EMA({edge.slow})) of"
            " the active contract's 1-minute closes, known one bar earlier; following that sign"
            f" with one contract has an annual Sharpe ratio near {edge.sharpe:g} before costs"
        )
    start, end = listing.span
    request = {
        "dataset": DATASET,
        "symbols": [PARENT],
        "stype_in": "parent",
        "schemas": list(SCHEMAS),
    }
    times = {"start": _iso(start), "end": _iso(end)}
    return {
        "synthetic": True,
        "notice": NOTICE,
        "parameters": parameters,
        "edge": {
            "words": words,
            "sharpe": edge.sharpe if edge else 0.0,
            "drift_ticks_per_session": drift,
        },
        "request": request | times,
    }


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns // NS, UTC).isoformat()


# -------------------------------------------------------------------------------------- instruments


@dataclass(frozen=True)
class Spread:
    """A calendar spread of neighbours: buy the near leg, sell the far one."""

    near: Contract
    far: Contract

    @property
    def symbol(self) -> str:
        return f"{self.near.symbol}-{self.far.symbol}"


@dataclass(frozen=True)
class Listing:
    """The sessions and the contracts of a world, and which are listed when."""

    table: Sessions
    chain: list[Contract]

    @property
    def span(self) -> tuple[int, int]:
        """UTC midnights around everything that is sent, ns."""
        day = 86_400 * NS
        return (
            int(self.table.open_ns[0]) // day * day,
            -(-int(self.table.close_ns[-1]) // day) * day,
        )

    def at(self, session: int) -> range:
        """Indices into the chain of the twelve listed contracts, nearest first."""
        near = sum(c.last_trade_date < self.table.dates[session] for c in self.chain)
        return range(near, near + LISTED)

    def spread(self, near: int) -> Spread:
        return Spread(self.chain[near], self.chain[near + 1])

    def ids(self, listed: Ints) -> Ints:
        """Instrument ids in the order of a tape: twelve contracts, eleven spreads."""
        outrights = np.array([_id(self.chain[k]) for k in listed], np.int64)
        spreads = np.array([_id(self.spread(k)) for k in listed[:-1]], np.int64)
        return np.concatenate([outrights, spreads])

    def mappings(self, start: date, end: date) -> Iterator[dbn.Mapping]:
        """Symbols that mean something on start <= UTC day < end; a week past the last trade, until
        all statistics are out.
        """
        for k, contract in enumerate(self.chain):
            listings: list[Contract | Spread] = [contract]
            if k + 1 < len(self.chain):
                listings.append(self.spread(k))
            for listing in listings:
                far = listing.far if isinstance(listing, Spread) else listing
                begin = max(start, price_process.listing_date(far))
                until = min(end, contract.last_trade_date + timedelta(days=7))
                if begin < until:
                    yield dbn.Mapping(listing.symbol, _id(listing), begin, until)


def _id(listing: Contract | Spread) -> int:
    contract, base = (
        (listing.near, SPREAD_ID) if isinstance(listing, Spread) else (listing, OUTRIGHT_ID)
    )
    return base + 100 * contract.year + contract.month


def _bars(listing: Listing, tape: SyntheticSession) -> dbn.Records:
    records, rows = dbn.blank("ohlcv-1m", len(tape.rows)), tape.rows
    records["instrument_id"] = listing.ids(tape.listed)[rows[:, price_process.INSTRUMENT]]
    records["ts_event"] = (
        listing.table.open_ns[tape.session] + rows[:, price_process.MINUTE] * 60 * NS
    )
    for name, column in (
        ("open", price_process.OPEN),
        ("high", price_process.HIGH),
        ("low", price_process.LOW),
        ("close", price_process.CLOSE),
    ):
        records[name] = rows[:, column] * TICK
    records["volume"] = rows[:, price_process.VOLUME]
    return records


# -------------------------------------------------------------------------------------- definitions


def _definitions(listing: Listing) -> dbn.Records:
    """Every listed instrument before every session: one record per contract, one per leg of a
    spread.
    """
    contracts = np.concatenate([_outright(c) for c in listing.chain])
    legs = np.concatenate([_legs(listing.spread(k)) for k in range(len(listing.chain) - 1)])
    sessions = []
    for n in range(len(listing.table)):
        listed = listing.at(n)
        pairs = slice(2 * listed.start, 2 * (listed.stop - 1))
        sent = np.concatenate([contracts[listed.start : listed.stop], legs[pairs]])
        sent["ts_event"] = sent["ts_recv"] = listing.table.open_ns[n] - _SENT_BEFORE_OPEN
        sessions.append(sent)
    return np.concatenate(sessions)


def _outright(contract: Contract) -> dbn.Records:
    record = _definition(1, contract, contract.symbol)
    record["instrument_id"], record["instrument_class"], record["cfi"] = (
        _id(contract),
        b"F",
        b"FCECSX",
    )
    record["leg_side"], record["secsubtype"] = b"N", WATERMARK
    return record


def _legs(spread: Spread) -> dbn.Records:
    records = _definition(2, spread.near, spread.symbol)
    records["instrument_id"], records["instrument_class"], records["cfi"] = (
        _id(spread),
        b"S",
        b"FMMXXX",
    )
    records["secsubtype"], records["leg_count"], records["leg_index"] = b"SP", 2, (0, 1)
    records["leg_instrument_id"] = [_id(spread.near), _id(spread.far)]
    records["leg_raw_symbol"] = [spread.near.symbol.encode(), spread.far.symbol.encode()]
    records["leg_side"], records["leg_instrument_class"] = (b"B", b"A"), b"F"
    for part in ("price", "qty"):
        records[f"leg_ratio_{part}_numerator"] = records[f"leg_ratio_{part}_denominator"] = 1
    records["activation"] = calendar.ns_of(price_process.listing_date(spread.far), 18)
    return records


_PRICES = (
    "high_limit_price",
    "low_limit_price",
    "max_price_variation",
    "price_ratio",
    "strike_price",
    "leg_price",
    "leg_delta",
)
_INTEGERS = ("contract_multiplier", "decay_quantity", "original_contract_size")
_BYTES = (
    "main_fraction",
    "price_display_format",
    "sub_fraction",
    "underlying_product",
    "maturity_day",
    "maturity_week",
    "tick_rule",
)


def _definition(n: int, contract: Contract, symbol: str) -> dbn.Records:
    """Return the fields that contract and spread have in common; undefined fields hold the format's
    sentinels, as in recorded definitions.
    """
    records = dbn.blank("definition", n)
    for names, undefined in (
        (_PRICES, dbn.UNDEF_PRICE),
        (_INTEGERS, np.iinfo(np.int32).max),
        (_BYTES, 255),
    ):
        for name in names:
            records[name] = undefined
    records["contract_multiplier_unit"] = records["flow_schedule_type"] = 127
    records["decay_start_date"] = 65_535
    records["raw_symbol"], records["asset"], records["group"] = symbol.encode(), b"MCL", b"MCL"
    records["exchange"], records["currency"], records["security_type"] = b"XNYM", b"USD", b"FUT"
    records["unit_of_measure"], records["unit_of_measure_qty"] = (
        b"BBL",
        int(MCL.multiplier) * dbn.PRICE_SCALE,
    )
    records["min_price_increment"], records["display_factor"] = TICK, TICK
    records["min_price_increment_amount"] = round(MCL.tick_value_usd * dbn.PRICE_SCALE)
    records["min_trade_vol"], records["max_trade_vol"], records["market_depth"] = 1, 10_000, 10
    (
        records["match_algorithm"],
        records["security_update_action"],
        records["user_defined_instrument"],
    ) = (
        b"F",
        b"A",
        b"N",
    )
    records["maturity_year"], records["maturity_month"] = contract.year, contract.month
    records["activation"] = calendar.ns_of(price_process.listing_date(contract), 18)
    records["expiration"] = calendar.ns_of(contract.last_trade_date, 14, 30)
    return records


# --------------------------------------------------------------------------------------- statistics


class Clearing:
    """Publish the figures of the clearing house about each session, collected session by session.

    On a business day: the settlement price half an hour after it is struck, and on the next
    business day at 10:00 New York cleared volume (trades of the contract and of the spreads it is a
    leg of) and open interest. Trading of a holiday's half session is cleared with the next business
    day: such a holiday has no statistics (Martin Luther King, Presidents, Memorial) or rows with
    zero volume and the open interest of before (the others, Good Friday included), as recorded in
    2025.
    """

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.blocks: list[dbn.Records] = []
        self.pending: dict[int, int] = {}  # volume by index into the chain, not yet cleared
        self.interest: dict[int, int] = {}

    def take(self, tape: SyntheticSession) -> None:
        on = self.listing.table.dates[tape.session]
        for k, volume in zip(tape.listed, _cleared(tape), strict=True):
            self.pending[k] = self.pending.get(k, 0) + int(volume)
        if calendar.is_business_day(on):
            self._settle(tape, on)
            self.interest = dict(
                zip(
                    tape.listed.tolist(),
                    calibration.open_interest(tape.to_last_trade).astype(int).tolist(),
                    strict=True,
                )
            )
            self._publish(tape, on, self.pending)
            self.pending = {}
        elif on.month not in (1, 2, 5):
            self._publish(tape, on, {})
        self._closed_days(tape, on)

    def _closed_days(self, tape: SyntheticSession, on: date) -> None:
        """Good Friday has no session, yet rows with zero volume."""
        following = on + timedelta(days=1)
        if (
            following.weekday() == 4
            and following.month in (3, 4)
            and not calendar.is_business_day(following)
        ):
            self._publish(tape, following, {})

    def _settle(self, tape: SyntheticSession, on: date) -> None:
        minute = min(1230, int(self.listing.table.minutes[tape.session]))
        known_at = int(self.listing.table.open_ns[tape.session]) + (minute + 30) * 60 * NS
        block = self._block(tape, SETTLEMENT, on, known_at)
        block["price"] = np.rint(tape.settle).astype(np.int64) * TICK
        block["stat_flags"] = FINAL_ACTUAL

    def _publish(self, tape: SyntheticSession, on: date, volume: dict[int, int]) -> None:
        known_at = calendar.ns_of(_next_business_day(on), 10)
        self._block(tape, CLEARED_VOLUME, on, known_at)["quantity"] = [
            volume.get(k, 0) for k in tape.listed
        ]
        self._block(tape, OPEN_INTEREST, on, known_at)["quantity"] = [
            self.interest.get(k, 0) for k in tape.listed
        ]

    def _block(self, tape: SyntheticSession, kind: int, on: date, known_at: int) -> dbn.Records:
        """Blank rows of one kind for every listed contract, about the day `on`, known at
        `known`.
        """
        block = dbn.blank("statistics", LISTED)
        block["instrument_id"] = self.listing.ids(tape.listed)[:LISTED]
        block["ts_event"] = block["ts_recv"] = known_at
        block["ts_ref"] = calendar.to_day(on) * 86_400 * NS
        block["price"], block["quantity"], block["stat_type"], block["update_action"] = (
            dbn.UNDEF_PRICE,
            dbn.UNDEF_QUANTITY,
            kind,
            1,
        )
        self.blocks.append(block)
        return block

    def records(self) -> dbn.Records:
        """In the order in which they became known, without what is published after the end of the
        data.
        """
        rows = np.concatenate(self.blocks)
        rows = rows[np.argsort(rows["ts_recv"], kind="stable")]
        return rows[rows["ts_recv"] < self.listing.span[1]]


def _cleared(tape: SyntheticSession) -> Ints:
    """Contracts traded per listed expiry, both legs of a spread counted."""
    traded = np.bincount(
        tape.rows[:, price_process.INSTRUMENT], tape.rows[:, price_process.VOLUME], 2 * LISTED - 1
    ).astype(np.int64)
    volume: Ints = traded[:LISTED]
    volume[:-1] += traded[LISTED:]
    volume[1:] += traded[LISTED:]
    return volume


def _next_business_day(on: date) -> date:
    day = on + timedelta(days=1)
    while not calendar.is_business_day(day):
        day += timedelta(days=1)
    return day


# -------------------------------------------------------------------------------------------- files


def _write_months(part: Path, schema: str, records: dbn.Records, listing: Listing) -> Iterator[str]:
    """One file per UTC month; yields the names below `part`. The time that counts is ts_event for
    bars, else ts_recv.
    """
    times = records["ts_event" if schema == "ohlcv-1m" else "ts_recv"].astype(np.int64)
    months = times.astype("datetime64[ns]").astype("datetime64[M]")
    begin, end = listing.span
    for month in np.unique(months):
        low, high = np.searchsorted(months, month), np.searchsorted(months, month, "right")
        start = max(begin, int(month.astype("datetime64[ns]").astype(np.int64)))
        stop = min(
            end, int((month + np.timedelta64(1, "M")).astype("datetime64[ns]").astype(np.int64))
        )
        days = (date.fromisoformat(_iso(ns)[:10]) for ns in (start, stop))
        header = dbn.Header(
            DATASET, schema, "parent", (PARENT,), start, stop, tuple(listing.mappings(*days))
        )
        name = f"{schema}/{month}.dbn.zst"
        dbn.write(part / name, records[low:high], header)
        yield name
