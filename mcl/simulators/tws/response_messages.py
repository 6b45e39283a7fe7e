"""The messages of a TWS: one table each. Constants are as recorded from real sessions; a value
given by name replaces one.
"""

from __future__ import annotations

from mcl.simulators.tws.messages import Message, Optional, Part, Repeat, parts

_FUTURE = "con_id:i symbol sec_type=FUT last_trade_date"
_MARGINS = (
    "init_margin_before:u maint_margin_before:u equity_before:u init_margin_change:u"
    " maint_margin_change:u equity_change:u init_margin_after:u maint_margin_after:u equity_after:u"
)

OPEN_ORDER: tuple[Part, ...] = (
    *parts(
        f"order_id:i {_FUTURE} strike=0 right=? multiplier exchange currency local_symbol"
        " trading_class"
    ),
    *parts(
        "action quantity:n order_type limit_price:f aux_price:f tif oca_group account open_close="
        " origin=0 order_ref client_id:i"
    ),
    *parts(
        "perm_id:i outside_rth:b hidden=0 discretionary_amount=0 good_after_time= shares_allocation"
        " fa_group= fa_method="
    ),
    *parts(
        "fa_percentage= fa_profile=@<177 model_code= good_till_date= rule_80a= percent_offset="
        " settling_firm= short_sale_slot=0"
    ),
    *parts(
        "designated_location= exempt_code=-1 auction_strategy=0 starting_price= stock_ref_price="
        " delta= stock_range_lower="
    ),
    *parts(
        "stock_range_upper= display_size:k block_order=0 sweep_to_fill=0 all_or_none=0"
        " min_quantity= oca_type:i etrade_only=0"
    ),
    *parts(
        "firm_quote_only=0 nbbo_price_cap= parent_id:i trigger_method=0 volatility="
        " volatility_type=0"
    ),
    # a delta neutral order type of None, literally, says that the eight fields dn_… follow
    *parts(
        "delta_neutral_order_type=None delta_neutral_aux_price= dn_con_id=0 dn_settling_firm="
        " dn_account= dn_intent="
    ),
    *parts("dn_open_close=? dn_short_sale=0 dn_short_sale_slot=0 dn_location="),
    *parts(
        "continuous_update=0 reference_price_type=0 trail_stop_price= trailing_percent="
        " basis_points= basis_points_type="
    ),
    *parts(
        "combo_legs= n_combo_legs=0 n_order_combo_legs=0 n_smart_combo_params=0 scale_init_size:k"
        " scale_subs_size:k"
    ),
    *parts(
        "scale_increment= hedge_type= opt_out_smart_routing=0 clearing_account= clearing_intent=IB"
        " not_held=0 delta_neutral=0"
    ),
    *parts(
        f"algo_strategy= solicited=0 what_if:b status {_MARGINS} commission= min_commission="
        " max_commission="
    ),
    *parts(
        "commission_currency= warning= randomize_size=0 randomize_price=0 n_conditions=0"
        " adjusted_order_type=None"
    ),
    *parts(
        "trigger_price:u trail_stop_price_2:u limit_offset:u adjusted_stop:u adjusted_stop_limit:u"
        " adjusted_trailing:u"
    ),
    *parts(
        "adjustable_unit=0 tier_name= tier_value= tier_display= cash_quantity=0"
        " no_auto_hedge_price=1 oms_container=0"
    ),
    *parts(
        "discretionary_to_limit=0 price_management=0 duration= post_to_ats= auto_cancel_parent=0"
        " min_trade_quantity="
    ),
    *parts("min_compete_size= compete_offset= mid_offset_whole= mid_offset_half="),
)

COMPLETED_ORDER: tuple[Part, ...] = (
    *parts(
        f"{_FUTURE} strike=0 right=? multiplier exchange currency local_symbol trading_class action"
        " quantity:n order_type"
    ),
    *parts(
        "limit_price:f aux_price:f tif oca_group account open_close= origin=0 order_ref perm_id:i"
        " outside_rth:b hidden=0"
    ),
    *parts(
        "discretionary_amount=0 good_after_time= fa_group= fa_method= fa_percentage="
        " fa_profile=@<177 model_code= good_till_date="
    ),
    *parts(
        "rule_80a= percent_offset= settling_firm= short_sale_slot=0 designated_location="
        " exempt_code=-1 starting_price="
    ),
    *parts(
        "stock_ref_price= delta= stock_range_lower= stock_range_upper= display_size:k"
        " sweep_to_fill=0 all_or_none=0 min_quantity="
    ),
    *parts(
        "oca_type:i trigger_method=0 volatility= volatility_type=0 delta_neutral_order_type=None"
        " delta_neutral_aux_price="
    ),
    *parts(
        "dn_con_id=0 dn_short_sale=0 dn_short_sale_slot=0 dn_location= continuous_update=0"
        " reference_price_type=0"
    ),
    *parts(
        "trail_stop_price= trailing_percent= combo_legs= n_combo_legs=0 n_order_combo_legs=0"
        " n_smart_combo_params=0"
    ),
    *parts(
        "scale_init_size:k scale_subs_size:k scale_increment= hedge_type= clearing_account="
        " clearing_intent=IB not_held=0"
    ),
    *parts(
        "delta_neutral=0 algo_strategy= solicited=0 status randomize_size=0 randomize_price=0"
        " n_conditions=0"
    ),
    *parts(
        "trail_stop_price_2:u limit_offset:u cash_quantity=0 no_auto_hedge_price=1 oms_container=0"
        " auto_cancel_date="
    ),
    *parts("filled_quantity:n ref_futures_con_id:k auto_cancel_parent=0"),
    *parts("shareholder"),
    *parts(
        "imbalance_only=0 route_to_bbo=0 parent_perm_id:i completed_time completed_status"
        " min_trade_quantity="
    ),
    *parts("min_compete_size= compete_offset= mid_offset_whole= mid_offset_half="),
)

CONTRACT_DETAILS = parts(
    "req_id:i symbol sec_type=FUT last_trade_date strike=0 right= exchange currency local_symbol"
    " market_name trading_class con_id:i min_tick multiplier order_types valid_exchanges"
    " price_magnifier=1 under_con_id:i long_name primary_exchange= contract_month industry="
    " category= subcategory= time_zone trading_hours liquid_hours ev_rule= ev_multiplier="
    " n_sec_ids=0 agg_group:k under_symbol under_sec_type=IND market_rules real_expiration"
    " stock_type= min_size=1 size_increment=1 suggested_size=1"
)

EXECUTION = parts(
    f"req_id:i order_id:i {_FUTURE} strike=0.0 right= multiplier exchange currency local_symbol"
    " trading_class execution_id time account execution_exchange side shares:n price perm_id:i"
    " client_id:i liquidation=0 cumulative:n average_price order_ref ev_rule= ev_multiplier="
    " model_code= last_liquidity:i price_revision=0@>=178"
)

PORTFOLIO = parts(
    f"{_FUTURE} strike=0 right=0 multiplier primary_exchange currency local_symbol trading_class"
    " position:n market_price market_value average_cost unrealized realized account"
)

POSITION = parts(
    f"account {_FUTURE} strike=0.0 right= multiplier exchange= currency local_symbol trading_class"
    " position:n average_cost:f"
)

TICK_BY_TICK: tuple[Part, ...] = (
    *parts("req_id:i kind:i time:i"),
    Optional(
        lambda values: values["kind"] in {1, 2}, parts("price size:n mask=0 exchange conditions=")
    ),
    Optional(lambda values: values["kind"] == 3, parts("bid ask bid_size:n ask_size:n mask=0")),
    Optional(lambda values: values["kind"] == 4, parts("mid")),
)

_QUOTE = parts("time:i mask=0 bid ask bid_size:n ask_size:n")
_PRINT = parts("time:i mask=0 price size:n exchange conditions=")

ANSWERS = {
    message.name: message
    for message in (
        Message(1, "tickPrice", parts("req_id:i tick_type:i price size:n mask:i"), 6),
        Message(2, "tickSize", parts("req_id:i tick_type:i size:n"), 6),
        Message(
            3,
            "orderStatus",
            parts(
                "order_id:i status filled:n remaining:n average_price:f perm_id:i parent_id:i"
                " last_price:f client_id:i why_held cap_price=0"
            ),
        ),
        Message(4, "error", parts("req_id:i code:i text advanced="), 2),
        Message(5, "openOrder", OPEN_ORDER),
        Message(6, "updateAccountValue", parts("key value currency account"), 2),
        Message(7, "updatePortfolio", PORTFOLIO, 8),
        Message(8, "updateAccountTime", parts("time"), 1),
        Message(9, "nextValidId", parts("order_id:i"), 1),
        Message(10, "contractDetails", CONTRACT_DETAILS),
        Message(11, "execDetails", EXECUTION),
        Message(
            12, "updateMktDepth", parts("req_id:i position:i operation:i side:i price size:n"), 1
        ),
        Message(
            13,
            "updateMktDepthL2",
            parts("req_id:i position:i maker operation:i side:i price size:n smart:b"),
            1,
        ),
        Message(15, "managedAccounts", parts("accounts"), 1),
        Message(
            17,
            "historicalData",
            (
                *parts("req_id:i start end"),
                Repeat("bars", parts("date open:f high:f low:f close:f volume:n wap:f count:i")),
            ),
        ),
        Message(19, "scannerParameters", parts("xml"), 1),
        Message(45, "tickGeneric", parts("req_id:i tick_type:i value:f"), 6),
        Message(46, "tickString", parts("req_id:i tick_type:i value"), 6),
        Message(49, "currentTime", parts("time:i"), 1),
        Message(
            50,
            "realTimeBar",
            parts("req_id:i time:i open:f high:f low:f close:f volume:n wap:f count:i"),
            3,
        ),
        Message(52, "contractDetailsEnd", parts("req_id:i"), 1),
        Message(53, "openOrderEnd", (), 1),
        Message(54, "accountDownloadEnd", parts("account"), 1),
        Message(55, "execDetailsEnd", parts("req_id:i"), 1),
        Message(57, "tickSnapshotEnd", parts("req_id:i"), 1),
        Message(58, "marketDataType", parts("req_id:i type:i"), 1),
        Message(
            59,
            "commissionReport",
            parts("execution_id commission:f currency realized:u yield:u yield_date="),
            1,
        ),
        Message(61, "position", POSITION, 3),
        Message(62, "positionEnd", (), 1),
        Message(63, "accountSummary", parts("req_id:i account tag value currency"), 1),
        Message(64, "accountSummaryEnd", parts("req_id:i"), 1),
        Message(67, "displayGroupList", parts("req_id:i groups"), 1),
        Message(71, "positionMulti", (*parts("req_id:i"), *POSITION, *parts("model=")), 1),
        Message(72, "positionMultiEnd", parts("req_id:i"), 1),
        Message(73, "accountUpdateMulti", parts("req_id:i account model= key value currency"), 1),
        Message(74, "accountUpdateMultiEnd", parts("req_id:i"), 1),
        Message(76, "optionParametersEnd", parts("req_id:i")),
        Message(
            77,
            "softDollarTiers",
            (*parts("req_id:i"), Repeat("tiers", parts("name value display"))),
        ),
        Message(78, "familyCodes", (Repeat("codes", parts("account code")),)),
        Message(
            79,
            "symbolSamples",
            (
                *parts("req_id:i"),
                Repeat(
                    "samples",
                    (
                        *parts("con_id:i symbol sec_type primary_exchange currency"),
                        Repeat("derivatives", parts("sec_type")),
                        *parts("description=@>=176 issuer_id=@>=176"),
                    ),
                ),
            ),
        ),
        Message(
            80,
            "mktDepthExchanges",
            (Repeat("exchanges", parts("exchange sec_type=FUT listing= service=Deep group:k")),),
        ),
        Message(
            81, "tickReqParams", parts("req_id:i min_tick bbo_exchange= snapshot_permissions:i")
        ),
        Message(
            82,
            "smartComponents",
            (*parts("req_id:i"), Repeat("components", parts("bit:i exchange letter"))),
        ),
        Message(85, "newsProviders", (Repeat("providers", parts("code name")),)),
        Message(87, "historicalNewsEnd", parts("req_id:i more:b")),
        Message(88, "headTimestamp", parts("req_id:i time")),
        Message(
            89, "histogramData", (*parts("req_id:i"), Repeat("bins", parts("price:f count:i")))
        ),
        Message(
            90,
            "historicalDataUpdate",
            parts("req_id:i count:i date open:f close:f high:f low:f wap:f volume:n"),
        ),
        Message(
            93,
            "marketRule",
            (*parts("rule_id:i"), Repeat("increments", parts("low_edge:f increment:f"))),
        ),
        Message(94, "pnl", parts("req_id:i daily:u unrealized:u realized:u")),
        Message(
            95, "pnlSingle", parts("req_id:i position:n daily:u unrealized:u realized:u value:u")
        ),
        Message(
            96,
            "historicalTicks",
            (
                *parts("req_id:i"),
                Repeat("ticks", parts("time:i mask=0 mid size=0")),
                *parts("done:b"),
            ),
        ),
        Message(
            97,
            "historicalTicksBidAsk",
            (*parts("req_id:i"), Repeat("ticks", _QUOTE), *parts("done:b")),
        ),
        Message(
            98,
            "historicalTicksLast",
            (*parts("req_id:i"), Repeat("ticks", _PRINT), *parts("done:b")),
        ),
        Message(99, "tickByTick", TICK_BY_TICK),
        Message(101, "completedOrder", COMPLETED_ORDER),
        Message(102, "completedOrdersEnd", ()),
        Message(
            106,
            "historicalSchedule",
            (*parts("req_id:i start end zone"), Repeat("sessions", parts("opens closes day"))),
        ),
        Message(107, "userInfo", parts("req_id:i brand=")),
    )
}
