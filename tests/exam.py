"""Parameters of every registered strategy whose memory is shorter than a walk of the tests."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "ema_cross": {"fast": 3, "slow": 8},
    "donchian": {"channel": 12, "hold": 40},
    "tsmom": {"lookback": 25},
    "tsmom_multi": {"lookback": 60, "vol_bars": 50},
    "macd": {"fast": 3, "slow": 8, "smooth": 4},
    "adx_trend": {"bars": 5},
    "bollinger": {"bars": 20, "width": 1.5, "hold": 30},
    "keltner": {"bars": 8, "atr_bars": 5, "width": 1.0, "hold": 40},
    "supertrend": {"bars": 4, "width": 1.5, "anchor": 15, "hold": 60},
    "rsi_reversion": {"bars": 5, "hold": 20},
    "order_flow": {"bars": 20, "threshold": 0.05},
    "opening_range": {"start": "19:10", "range_min": 10, "hold_min": 60},
    "ensemble": {
        "members": {
            "a": {"name": "macd", "fast": 3, "slow": 8, "smooth": 4},
            "b": {"name": "tsmom", "lookback": 25, "weight": -0.5},
        }
    },
    "trend_filter": {
        "inner": {"name": "ema_cross", "fast": 3, "slow": 8},
        "interval": "15m",
        "bars": 6,
    },
}
