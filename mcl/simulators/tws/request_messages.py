"""The requests of a client: one table each, ids as in the TWS API."""

from __future__ import annotations

from mcl.simulators.tws.messages import Message, Optional, Part, Repeat, Tagged, Values, parts

_CONTRACT = (
    "con_id:i symbol sec_type last_trade_date strike:f right multiplier exchange primary_exchange"
    " currency local_symbol trading_class"
)


def _is_bag(values: Values) -> bool:
    return bool(values["sec_type"] == "BAG")


def _is_peg_bench(values: Values) -> bool:
    return values["order_type"] in {"PEG BENCH", "PEGBENCH"}


_QUOTED_LEGS = Optional(_is_bag, [Repeat("legs", parts("con_id:i ratio:i action exchange"))])

PLACE_ORDER: tuple[Part, ...] = (
    *parts(
        f"order_id:i {_CONTRACT} sec_id_type sec_id action quantity:f order_type limit_price:f"
        " aux_price:f tif oca_group account"
    ),
    *parts(
        "open_close origin:i order_ref transmit:b parent_id:i block_order:b sweep_to_fill:b"
        " display_size:i trigger_method:i"
    ),
    *parts("outside_rth:b hidden:b"),
    Optional(
        _is_bag,
        [
            Repeat(
                "legs",
                parts(
                    "con_id:i ratio:i action exchange open_close:i short_sale_slot:i"
                    " designated_location exempt_code:i"
                ),
            ),
            Repeat("leg_prices", parts("price:f")),
            Repeat("routing", parts("tag value")),
        ],
    ),
    *parts(
        "deprecated discretionary_amount:f good_after_time good_till_date fa_group fa_method"
        " fa_percentage fa_profile@<177"
    ),
    *parts(
        "model_code short_sale_slot:i designated_location exempt_code:i oca_type:i rule_80a"
        " settling_firm all_or_none:b min_quantity:i"
    ),
    *parts(
        "percent_offset:f etrade_only:b firm_quote_only:b nbbo_price_cap:f auction_strategy:i"
        " starting_price:f stock_ref_price:f"
    ),
    *parts(
        "delta:f stock_range_lower:f stock_range_upper:f override_percentage:b volatility:f"
        " volatility_type:i"
    ),
    *parts("delta_neutral_order_type delta_neutral_aux_price:f"),
    Optional(
        lambda values: bool(values["delta_neutral_order_type"]),
        parts(
            "dn_con_id:i dn_settling_firm dn_account dn_intent dn_open_close dn_short_sale:b"
            " dn_short_sale_slot:i dn_location"
        ),
    ),
    *parts("continuous_update:b reference_price_type:i trail_stop_price:f trailing_percent:f"),
    *parts("scale_init_size:i scale_subs_size:i scale_increment:f"),
    Optional(
        lambda values: (values["scale_increment"] or 0) > 0,
        parts(
            "scale_adjust:f scale_interval:i scale_offset:f scale_reset:b scale_position:i"
            " scale_fill:i scale_random:b"
        ),
    ),
    *parts("scale_table active_start active_stop hedge_type"),
    Optional(lambda values: bool(values["hedge_type"]), parts("hedge_param")),
    *parts("opt_out_smart_routing:b clearing_account clearing_intent not_held:b delta_neutral:b"),
    Optional(
        lambda values: bool(values["delta_neutral"]), parts("dnc_con_id:i dnc_delta:f dnc_price:f")
    ),
    *parts("algo_strategy"),
    Optional(
        lambda values: bool(values["algo_strategy"]), [Repeat("algo_params", parts("tag value"))]
    ),
    *parts("algo_id what_if:b misc_options solicited:b randomize_size:b randomize_price:b"),
    Optional(
        _is_peg_bench,
        parts("peg_con_id:i peg_decrease:b peg_amount:f peg_reference_amount:f peg_exchange"),
    ),
    # price, time, margin, execution, volume, percent change
    Tagged("conditions", {"1": 7, "3": 4, "4": 4, "5": 5, "6": 6, "7": 6}),
    Optional(
        lambda values: bool(values.get("conditions")),
        parts("conditions_ignore_rth:b conditions_cancel:b"),
    ),
    *parts(
        "adjusted_order_type trigger_price:f limit_offset:f adjusted_stop:f adjusted_stop_limit:f"
        " adjusted_trailing:f"
    ),
    *parts(
        "adjustable_unit:i ext_operator tier_name tier_value cash_quantity:f mifid_maker mifid_algo"
        " mifid_trader mifid_execution"
    ),
    *parts(
        "no_auto_hedge_price:b oms_container:b discretionary_to_limit:b price_management:b"
        " duration:i post_to_ats:i"
    ),
    *parts("auto_cancel_parent:b advanced_override manual_order_time"),
)


def blank_order() -> Values:
    """The values of a placeOrder in which nothing is said."""
    empty = [""] * 200
    return Message(3, "placeOrder", PLACE_ORDER).decode(178, ["3", *empty]) | {
        "sec_type": "FUT",
        "account": "",
        "order_ref": "",
    }


def _table(*messages: Message) -> dict[int, Message]:
    return {message.id: message for message in messages}


# Of what is answered the same whatever it asks for only the request id is read.
_ID_ONLY = tuple(
    Message(number, name, parts("req_id:i"), 1)
    for number, name in {
        **{
            23: "cancelScannerSubscription",
            53: "cancelFundamentalData",
            56: "cancelCalculateImpliedVolatility",
        },
        **{
            57: "cancelCalculateOptionPrice",
            67: "queryDisplayGroups",
            68: "subscribeToGroupEvents",
            69: "updateDisplayGroup",
        },
        **{70: "unsubscribeFromGroupEvents", 74: "reqPositionsMulti", 75: "cancelPositionsMulti"},
        **{
            21: "exerciseOptions",
            52: "reqFundamentalData",
            54: "calculateImpliedVolatility",
            55: "calculateOptionPrice",
        },
    }.items()
) + tuple(
    Message(number, name, parts("req_id:i"))
    for number, name in {
        **{
            22: "reqScannerSubscription",
            78: "reqSecDefOptParams",
            79: "reqSoftDollarTiers",
            83: "reqSmartComponents",
        },
        **{
            84: "reqNewsArticle",
            86: "reqHistoricalNews",
            89: "cancelHistogramData",
            100: "reqWshMetaData",
        },
        **{
            101: "cancelWshMetaData",
            102: "reqWshEventData",
            103: "cancelWshEventData",
            104: "reqUserInfo",
        },
    }.items()
)

REQUESTS = _table(
    *_ID_ONLY,
    *(
        Message(number, name, ())
        for number, name in {
            80: "reqFamilyCodes",
            82: "reqMktDepthExchanges",
            85: "reqNewsProviders",
        }.items()
    ),
    Message(12, "reqNewsBulletins", parts("revision:i")),
    Message(13, "cancelNewsBulletins", parts("revision:i")),
    Message(18, "requestFA", parts("revision:i kind:i")),
    Message(19, "replaceFA", parts("revision:i kind:i")),
    Message(24, "reqScannerParameters", parts("revision:i")),
    Message(
        88, "reqHistogramData", parts(f"req_id:i {_CONTRACT} include_expired:b use_rth:b period")
    ),
    Message(
        1,
        "reqMktData",
        (
            *parts(f"revision:i req_id:i {_CONTRACT}"),
            _QUOTED_LEGS,
            *parts("delta_neutral:b"),
            Optional(
                lambda values: bool(values["delta_neutral"]),
                parts("dnc_con_id:i dnc_delta:f dnc_price:f"),
            ),
            *parts("generic_ticks snapshot:b regulatory:b options"),
        ),
    ),
    Message(2, "cancelMktData", parts("revision:i req_id:i")),
    Message(3, "placeOrder", PLACE_ORDER),
    Message(4, "cancelOrder", parts("revision:i order_id:i manual_time")),
    Message(5, "reqOpenOrders", parts("revision:i")),
    Message(6, "reqAccountUpdates", parts("revision:i subscribe:b account")),
    Message(
        7,
        "reqExecutions",
        parts("revision:i req_id:i client_id:i account time symbol sec_type exchange side"),
    ),
    Message(8, "reqIds", parts("revision:i count:i")),
    Message(
        9,
        "reqContractDetails",
        parts(
            f"revision:i req_id:i {_CONTRACT} include_expired:b sec_id_type sec_id issuer_id@>=176"
        ),
    ),
    Message(10, "reqMktDepth", parts(f"revision:i req_id:i {_CONTRACT} rows:i smart:b options")),
    Message(11, "cancelMktDepth", parts("revision:i req_id:i smart:b")),
    Message(14, "setServerLogLevel", parts("revision:i level:i")),
    Message(15, "reqAutoOpenOrders", parts("revision:i bind:b")),
    Message(16, "reqAllOpenOrders", parts("revision:i")),
    Message(17, "reqManagedAccts", parts("revision:i")),
    Message(
        20,
        "reqHistoricalData",
        (
            *parts(
                f"req_id:i {_CONTRACT} include_expired:b end bar_size duration use_rth:b what"
                " format_date:i"
            ),
            _QUOTED_LEGS,
            *parts("keep_up_to_date:b options"),
        ),
    ),
    Message(25, "cancelHistoricalData", parts("revision:i req_id:i")),
    Message(49, "reqCurrentTime", parts("revision:i")),
    Message(
        50,
        "reqRealTimeBars",
        parts(f"revision:i req_id:i {_CONTRACT} bar_size:i what use_rth:b options"),
    ),
    Message(51, "cancelRealTimeBars", parts("revision:i req_id:i")),
    Message(58, "reqGlobalCancel", parts("revision:i")),
    Message(59, "reqMarketDataType", parts("revision:i type:i")),
    Message(61, "reqPositions", parts("revision:i")),
    Message(62, "reqAccountSummary", parts("revision:i req_id:i group tags")),
    Message(63, "cancelAccountSummary", parts("revision:i req_id:i")),
    Message(64, "cancelPositions", parts("revision:i")),
    Message(71, "startApi", parts("revision:i client_id:i capabilities")),
    Message(76, "reqAccountUpdatesMulti", parts("revision:i req_id:i account model ledger:b")),
    Message(77, "cancelAccountUpdatesMulti", parts("revision:i req_id:i")),
    Message(81, "reqMatchingSymbols", parts("req_id:i pattern")),
    Message(
        87,
        "reqHeadTimeStamp",
        parts(f"req_id:i {_CONTRACT} include_expired:b use_rth:b what format_date:i"),
    ),
    Message(90, "cancelHeadTimeStamp", parts("req_id:i")),
    Message(91, "reqMarketRule", parts("rule_id:i")),
    Message(92, "reqPnL", parts("req_id:i account model")),
    Message(93, "cancelPnL", parts("req_id:i")),
    Message(94, "reqPnLSingle", parts("req_id:i account model con_id:i")),
    Message(95, "cancelPnLSingle", parts("req_id:i")),
    Message(
        96,
        "reqHistoricalTicks",
        parts(
            f"req_id:i {_CONTRACT} include_expired:b start end count:i what use_rth:b ignore_size:b"
            " misc"
        ),
    ),
    Message(
        97, "reqTickByTickData", parts(f"req_id:i {_CONTRACT} tick_type count:i ignore_size:b")
    ),
    Message(98, "cancelTickByTickData", parts("req_id:i")),
    Message(99, "reqCompletedOrders", parts("api_only:b")),
)
