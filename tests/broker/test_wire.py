"""Framing and tables: whatever is written can be read, however it was cut; recorded traffic
survives both ways unchanged.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl.simulators.tws import framing
from mcl.simulators.tws.messages import MessageError, parts
from mcl.simulators.tws.request_messages import REQUESTS
from mcl.simulators.tws.response_messages import ANSWERS

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
MESSAGES = st.lists(st.lists(TEXT, min_size=1, max_size=6), min_size=1, max_size=8)


@given(MESSAGES, st.data())
def test_frames_survive_any_split(messages: list[list[str]], data: st.DataObject) -> None:
    stream = framing.GREETING + b"".join(framing.frame(fields) for fields in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    frames, got = framing.Frames(), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += [framing.fields(payload) for payload in frames.feed(stream[start:stop])]
    assert got == messages


def test_a_stranger_is_refused() -> None:
    with pytest.raises(framing.WireError, match="greeting"):
        list(framing.Frames().feed(b"GET / HTTP/1.1\r\n"))
    with pytest.raises(framing.WireError, match="limit"):
        list(framing.Frames().feed(framing.GREETING + b"\xff\xff\xff\xff"))


def test_bytes_that_are_no_text_are_kept_visible() -> None:
    assert framing.fields(b"a\xff\0b\0") == ["a\\xff", "b"]


def test_unset_values_are_none_and_come_back_as_tws_writes_them() -> None:
    double, integer, flag = parts("a:u b:k c:b")
    assert (
        double.parse("1.7976931348623157E308"),
        double.parse("1.7976931348623157e+308"),
        double.parse(""),
    ) == (None, None, None)
    assert (double.text(None), integer.text(None), flag.text(True), flag.text(False)) == (
        "1.7976931348623157E308",
        "2147483647",
        "1",
        "0",
    )


def test_a_message_that_ends_early_is_named() -> None:
    with pytest.raises(MessageError, match="placeOrder"):
        REQUESTS[3].decode(178, ["3", "1", "0"])
    with pytest.raises(MessageError, match="limit_price"):
        ANSWERS["openOrder"].encode(
            178,
            dict.fromkeys(("order_id", "con_id"), "")
            | dict.fromkeys(_names_before("limit_price"), "1"),
        )


def _names_before(name: str) -> list[str]:
    names = [part.name for part in ANSWERS["openOrder"].parts]  # type: ignore[union-attr]
    return names[: names.index(name)]


def test_versions_add_and_remove_fields() -> None:
    order = ANSWERS["openOrder"]
    values = order.decode(176, RECORDED["open_order_lmt_176"])
    assert [len(order.encode(version, values)) for version in (176, 177, 178)] == [136, 135, 135]
    execution = ANSWERS["execDetails"]
    filled = {part.name: "1" for part in execution.parts}  # type: ignore[union-attr]
    assert [len(execution.encode(version, filled)) for version in (176, 177, 178)] == [31, 31, 32]


def test_recorded_traffic_round_trips(shared_data: Path) -> None:
    """Every recorded message of a real TWS is read by its table, and written back field for
    field.
    """
    answers = {message.id: message for message in ANSWERS.values()}
    count = 0
    for line in (shared_data / "ib_recorded_part.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        _, _, direction, version, _, _, text, *_ = line.split("\t")
        fields = json.loads(text)
        if not fields[0].isdigit() or fields[0] == "176":
            continue
        message = (REQUESTS if direction == "C" else answers)[int(fields[0])]
        values = message.decode(int(version), fields)
        if direction == "S":
            assert message.encode(int(version), values) == fields
        count += 1
    assert count > 500
