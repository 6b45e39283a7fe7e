"""Alerts to real receivers on loopback: what is sent once, what is tried again, what never holds the session up, what never leaks."""

from __future__ import annotations

import json
import threading
import time
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
from desks import SmallDesk
from receivers import Hook, certificate, hook, mailbox

from mcl import config, schema
from mcl.errors import ConfigError, LiveError
from mcl.live.alerts import Alerts, Courier, Notice, Sieve, Undelivered
from mcl.live.channels import Mailbox, Webhook, channels
from mcl.live.logs import about, log, logged
from mcl.live.status import Alert, Severity

PASSWORD = "correct horse battery"


def an_alert(code: str = "STALE_DATA", severity: Severity = "warning", sentence: str = "no bar for 200 s") -> Alert:
    return Alert(1_763_000_000_000_000_000, severity, code, sentence)


def a_notice(**changes: Any) -> Notice:
    return Notice(an_alert(**changes), "paper", 3, "2025-11-12")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(state: Hook, **changes: Any) -> Webhook:
        monkeypatch.setenv("MCL_WEBHOOK_URL", state.url)
        return Webhook(schema.Webhook(**({"timeout_sec": 2.0} | changes)))

    return made


# ----------------------------------------------------------------------------------------------------------------- webhook


def test_a_webhook_gets_the_whole_alert(webhook: Any) -> None:
    with hook() as state:
        webhook(state).send(a_notice())
    [(path, body)] = state.got
    assert path == "/services/SECRET?key=HIDDEN"
    assert body["text"] == body["content"] == "[mcl paper v3] warning: STALE_DATA: no bar for 200 s"
    assert {k: body[k] for k in ("severity", "code", "alias", "version", "session", "repeats")} == {
        "severity": "warning",
        "code": "STALE_DATA",
        "alias": "paper",
        "version": 3,
        "session": "2025-11-12",
        "repeats": 0,
    }


@pytest.mark.parametrize(("answer", "again"), [(503, True), (429, True), (404, False), (302, False), ("hang up", True)])
def test_what_a_webhook_answers_decides_whether_it_is_tried_again(webhook: Any, answer: int | str, again: bool) -> None:
    with hook(answer) as state, pytest.raises(Undelivered) as failed:
        webhook(state).send(a_notice())
    assert failed.value.again is again
    assert "SECRET" not in str(failed.value)
    assert "HIDDEN" not in str(failed.value)


def test_a_courier_tries_until_it_is_delivered(webhook: Any) -> None:
    with hook(503, "hang up", 500) as state:
        courier = Courier(webhook(state), first_pause_sec=0.01)
        courier.take(a_notice())
        wait_for(lambda: courier.delivered == 1)
        courier.close(5)
    assert (len(state.got), courier.lost) == (4, 0)


def test_a_courier_gives_up_and_says_so_in_the_log(webhook: Any, tmp_path: Path) -> None:
    with logged(tmp_path, alias="paper"), hook(*[500] * 9) as state:
        courier = Courier(webhook(state, attempts=3), first_pause_sec=0.01)
        courier.take(a_notice())
        wait_for(lambda: courier.lost == 1)
        courier.close(5)
    [line] = lines(tmp_path)
    assert (line["event"], line["why"], line["attempts"], line["alias"]) == (
        "alert not delivered",
        "127.0.0.1 answered 500 Internal Server Error",
        3,
        "paper",
    )
    assert "SECRET" not in json.dumps(line)


@pytest.mark.parametrize("address", ["", "ftp://x/y", "not an address", "http://", "http://host:99999999/SECRET"])
def test_an_address_that_cannot_work_is_refused_before_the_session(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MCL_WEBHOOK_URL", address)
    with pytest.raises(LiveError, match="MCL_WEBHOOK_URL") as refused:
        channels(schema.Alerts(webhook=schema.Webhook()))
    assert "SECRET" not in refused.value.message


# -------------------------------------------------------------------------------------------------------------------- mail


def mail(port: int, **changes: Any) -> schema.Mail:
    return schema.Mail(**({"host": "localhost", "port": port, "security": "none", "sender": "mcl@a.test", "to": ["me@b.test"]} | changes))


def test_a_letter_says_what_happened_and_where_to_look() -> None:
    with mailbox() as box:
        Mailbox(mail(box.port)).send(a_notice())
    [got] = box.got
    assert got["to"] == ["me@b.test"]
    letter = message_from_string(got["text"])
    assert letter["Subject"] == "[mcl paper v3] warning: STALE_DATA"
    body = str(letter.get_payload())
    assert "no bar for 200 s" in body
    assert "paper version 3, session 2025-11-12" in body


def test_a_letter_over_starttls_with_a_password_from_a_file(tmp_path: Path) -> None:
    pem, key = certificate(tmp_path)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    settings = {"security": "starttls", "user": "bot", "password_file": str(tmp_path / "password"), "ca_file": str(pem)}
    with mailbox((pem, key), PASSWORD) as box:
        Mailbox(mail(box.port, **settings)).send(a_notice())
    assert [(got["secured"], got["user"]) for got in box.got] == [(True, "bot")]


def test_an_unknown_certificate_or_a_server_without_tls_gets_nothing(tmp_path: Path) -> None:
    pem_key = certificate(tmp_path)
    for offered in (pem_key, None):
        with mailbox(offered) as box, pytest.raises(Undelivered):
            Mailbox(mail(box.port, security="starttls")).send(a_notice())
        assert box.got == []


def test_a_wrong_password_is_not_tried_again_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem, key = certificate(tmp_path)
    monkeypatch.setenv("MCL_SMTP_PASSWORD", "wrong")
    with mailbox((pem, key), PASSWORD) as box, pytest.raises(Undelivered, match="refused the log-in of 'bot': 535") as failed:
        Mailbox(mail(box.port, security="starttls", user="bot", ca_file=str(pem))).send(a_notice())
    assert not failed.value.again
    assert "wrong" not in str(failed.value)


def test_mail_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"would send the password of 'bot' in the clear to mail\.example"):
        config.validate(
            schema.Mail, {"host": "mail.example", "security": "none", "user": "bot", "sender": "a@b", "to": ["c@d"]}, "alerts.mail"
        )
    with pytest.raises(ConfigError, match="need a sender and somebody to send to"):
        config.validate(schema.Alerts, config.compose("live", ["alerts=mail"]).raw["alerts"], "alerts")
    monkeypatch.delenv("MCL_SMTP_PASSWORD", raising=False)
    with pytest.raises(LiveError, match="needs a password in the environment variable MCL_SMTP_PASSWORD"):
        Mailbox(mail(25, user="bot"))


# ------------------------------------------------------------------------------------------------------ sieve and listening


def test_repeats_are_held_back_and_counted() -> None:
    sieve = Sieve(schema.Alerts(repeat_sec=60))
    assert sieve.admit(an_alert(), 0.0) == (an_alert(), 0)
    assert [sieve.admit(an_alert(sentence=f"no bar for {n} s"), float(n)) for n in (1, 30, 59)] == [None] * 3
    assert sieve.admit(an_alert(sentence="no bar for 260 s"), 60.0) == (an_alert(sentence="no bar for 260 s"), 3)
    assert sieve.admit(an_alert(code="DEGRADED"), 61.0) is not None


def test_a_critical_alert_with_another_reason_is_another_alert() -> None:
    sieve = Sieve(schema.Alerts())
    first, second = (an_alert("HALTED", "critical", why) for why in ("position unknown", "journal unwritable"))
    assert sieve.admit(first, 0.0) == (first, 0)
    assert sieve.admit(second, 1.0) == (second, 0)
    assert sieve.admit(first, 2.0) is None


def test_a_flood_ends_with_one_word_and_leaves_room_for_what_is_critical() -> None:
    sieve = Sieve(schema.Alerts(per_hour=3, repeat_sec=0))
    passed = [sieve.admit(an_alert(f"C{n}"), float(n)) for n in range(10)]
    assert [found[0].code for found in passed if found] == ["C0", "C1", "C2", "TOO_MANY_ALERTS"]
    assert sieve.admit(an_alert("HALTED", "critical"), 11.0) is not None
    assert sieve.admit(an_alert("LATER"), 3_603.0) is not None


def test_what_is_less_severe_than_asked_stays_in_the_journal() -> None:
    assert Sieve(schema.Alerts()).admit(an_alert(severity="info"), 0.0) is None
    assert Sieve(schema.Alerts(min_severity="info")).admit(an_alert(severity="info"), 0.0) is not None


def test_a_hanging_receiver_never_holds_the_session_up(webhook: Any) -> None:
    """300 alerts while the receiver hangs: listening takes no time, and the newest are the ones that are kept."""
    release = threading.Event()
    with hook(wait=release) as state:
        desk, rules = SmallDesk(), schema.Alerts(log=False, repeat_sec=0, per_hour=3600)
        with Alerts(rules, [webhook(state, timeout_sec=10.0)]) as alerts:
            began = time.process_time()
            for n in range(300):
                desk.set(alerts=(desk.alert(f"CODE_{n}"),))
                alerts(desk.status())
                alerts(desk.status())
            assert time.process_time() - began < 2
            release.set()
            [courier] = alerts.couriers
            wait_for(lambda: courier.delivered + courier.lost == 300)
    codes = [body["code"] for _, body in state.got]
    assert codes == sorted(set(codes), key=codes.index)
    assert codes[-1] == "CODE_299"
    assert len(codes) == courier.delivered >= 200


def test_alerts_are_lines_of_the_log_with_whose_they_are(tmp_path: Path) -> None:
    desk = SmallDesk()
    with logged(tmp_path, alias="paper", version=3, session="2025-11-12"), Alerts(schema.Alerts(), []) as alerts:
        desk.alert("HALTED", "critical", "the position is unknown")
        alerts(desk.status())
    [line] = lines(tmp_path)
    assert {k: line[k] for k in ("level", "code", "event", "alias", "version", "session")} == {
        "level": "critical",
        "code": "HALTED",
        "event": "the position is unknown",
        "alias": "paper",
        "version": 3,
        "session": "2025-11-12",
    }


# --------------------------------------------------------------------------------------------------------------------- log


def test_lines_of_the_libraries_and_of_an_order_are_in_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    from mcl import screen

    screen.configure(as_json=False, verbose=False, quiet=False)
    with logged(tmp_path, alias="paper"):
        with about(ref="paper-v3-1"):
            log.info("sent")
        logging.getLogger("ib_async.wrapper").error("Error 201, reqId 5")
        shown = capsys.readouterr().err
        try:
            raise ValueError("boom")
        except ValueError:
            logging.getLogger("mcl.live").exception("failed")
    logging.getLogger("mcl.live").info("after the session")
    sent, foreign, failed = lines(tmp_path)
    assert (sent["event"], sent["ref"], sent["level"]) == ("sent", "paper-v3-1", "info")
    assert (foreign["event"], foreign["logger"], foreign["alias"]) == ("Error 201, reqId 5", "ib_async.wrapper", "paper")
    assert "ValueError: boom" in failed["exception"]
    assert "sent" not in shown  # the terminal keeps its own level
    assert "Error 201" in shown


def test_the_log_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcl.live.logs.BYTES", 2_000)
    with logged(tmp_path, alias="paper"):
        for n in range(200):
            log.info("line", n=n)
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["log.jsonl", *(f"log.jsonl.{n}" for n in range(1, 6))]
    assert all(p.stat().st_size <= 2_000 for p in tmp_path.iterdir())
    assert lines(tmp_path)[-1]["n"] == 199


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def wait_for(reached: Any) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)
