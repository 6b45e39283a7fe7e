"""Alerts to real receivers on loopback: what is sent once, what is tried again, what never holds
the session up, what never leaks.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
from deployments import Project

from mcl import composition
from mcl.base.alert import Alert, Severity
from mcl.base.errors import ConfigError, LiveError
from mcl.base.redact import redacted
from mcl.config import schema
from mcl.live.ops.alert_channels import AppriseChannel, MailChannel, WebhookChannel, channels
from mcl.live.ops.alerts import AlertDispatcher, AlertFilter, DeliveryThread, Notice, Undelivered
from mcl.live.ops.monitoring import Operations
from mcl.live.ops.session_log import about, log, log_session
from mcl.live.session import run_session

from .desks import SmallDesk
from .receivers import Hook, certificate, hook, mailbox

PASSWORD = "correct horse battery"


def an_alert(
    code: str = "STALE_DATA", severity: Severity = "warning", sentence: str = "no bar for 200 s"
) -> Alert:
    return Alert(1_763_000_000_000_000_000, severity, code, sentence)


def a_notice(**changes: Any) -> Notice:
    return Notice(an_alert(**changes), "paper", 3, "2025-11-12")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(state: Hook, **changes: Any) -> WebhookChannel:
        monkeypatch.setenv("MCL_WEBHOOK_URL", state.url)
        return WebhookChannel(schema.Webhook(**({"timeout_sec": 2.0} | changes)))

    return made


# ------------------------------------------------------------------------------------------ webhook


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


@pytest.mark.parametrize(
    ("answer", "again"), [(503, True), (429, True), (404, False), (302, False), ("hang up", True)]
)
def test_what_a_webhook_answers_decides_whether_it_is_tried_again(
    webhook: Any, answer: int | str, again: bool
) -> None:
    with hook(answer) as state, pytest.raises(Undelivered) as failed:
        webhook(state).send(a_notice())
    assert failed.value.again is again
    assert "SECRET" not in str(failed.value)
    assert "HIDDEN" not in str(failed.value)


def test_a_courier_tries_until_it_is_delivered(webhook: Any) -> None:
    with hook(503, "hang up", 500) as state:
        courier = DeliveryThread(webhook(state), first_pause_sec=0.01)
        courier.take(a_notice())
        wait_for(lambda: courier.delivered == 1)
        courier.close(5)
    assert (len(state.got), courier.lost) == (4, 0)


def test_a_courier_gives_up_and_says_so_in_the_log(webhook: Any, tmp_path: Path) -> None:
    with log_session(tmp_path, alias="paper"), hook(*[500] * 9) as state:
        courier = DeliveryThread(webhook(state, attempts=3), first_pause_sec=0.01)
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


@pytest.mark.parametrize(
    "address", ["", "ftp://x/y", "not an address", "http://", "http://host:99999999/SECRET"]
)
def test_an_address_that_cannot_work_is_refused_before_the_session(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("MCL_WEBHOOK_URL", address)
    with pytest.raises(LiveError, match="MCL_WEBHOOK_URL") as refused:
        channels(schema.Alerts(webhook=schema.Webhook()))
    assert "SECRET" not in refused.value.message


# --------------------------------------------------------------------------------------------- mail


def mail(port: int, **changes: Any) -> schema.Mail:
    plain: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "security": "none",
        "sender": "mcl@a.test",
        "to": ["me@b.test"],
    }
    return schema.Mail(**plain | changes)


def test_a_letter_says_what_happened_and_where_to_look() -> None:
    with mailbox() as box:
        MailChannel(mail(box.port)).send(a_notice())
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
    settings = {
        "security": "starttls",
        "user": "bot",
        "password_file": str(tmp_path / "password"),
        "ca_file": str(pem),
    }
    with mailbox((pem, key), PASSWORD) as box:
        MailChannel(mail(box.port, **settings)).send(a_notice())
    assert [(got["secured"], got["user"]) for got in box.got] == [(True, "bot")]


def test_an_unknown_certificate_or_a_server_without_tls_gets_nothing(tmp_path: Path) -> None:
    pem_key = certificate(tmp_path)
    for offered in (pem_key, None):
        with mailbox(offered) as box, pytest.raises(Undelivered):
            MailChannel(mail(box.port, security="starttls")).send(a_notice())
        assert box.got == []


def test_a_wrong_password_is_not_tried_again_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem, key = certificate(tmp_path)
    monkeypatch.setenv("MCL_SMTP_PASSWORD", "wrong")
    with (
        mailbox((pem, key), PASSWORD) as box,
        pytest.raises(Undelivered, match="refused the log-in of 'bot': 535") as failed,
    ):
        MailChannel(mail(box.port, security="starttls", user="bot", ca_file=str(pem))).send(
            a_notice()
        )
    assert not failed.value.again
    assert "wrong" not in str(failed.value)


def test_mail_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"would send the password of 'bot' in the clear to mail\.example"
    ):
        composition.validate(
            schema.Mail,
            {
                "host": "mail.example",
                "security": "none",
                "user": "bot",
                "sender": "a@b",
                "to": ["c@d"],
            },
            "alerts.mail",
        )
    with pytest.raises(ConfigError, match="need a sender and somebody to send to"):
        composition.validate(
            schema.Alerts, composition.compose("live", ["alerts=mail"]).raw["alerts"], "alerts"
        )
    monkeypatch.delenv("MCL_SMTP_PASSWORD", raising=False)
    with pytest.raises(
        LiveError, match="needs a password in the environment variable MCL_SMTP_PASSWORD"
    ):
        MailChannel(mail(25, user="bot"))


# ------------------------------------------------------------------------------------------ apprise

TOKEN = "3ccdd113474722377935511fc85d3dd4"  # the form that Mattermost and Rocket.Chat ask for


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The one channel of an address of apprise at a local receiver: `form` with HOST in it."""

    def made(state: Hook, form: str, **changes: Any) -> AppriseChannel:
        host = state.url.split("/")[2]
        monkeypatch.setenv("MCL_ALERT_URLS", form.replace("HOST", host))
        rules = schema.Alerts(apprise=schema.Services(**({"timeout_sec": 2.0} | changes)))
        [channel] = channels(rules)
        assert isinstance(channel, AppriseChannel)
        channel._plugin.request_rate_per_sec = 0  # its pause between two messages
        return channel

    return made


@pytest.mark.parametrize(
    ("form", "name", "path", "body"),
    [
        ("ntfy://HOST/topic", "ntfy", "/", {"topic": "topic", "title": "TITLE", "message": "TEXT"}),
        (
            "json://HOST/mine",
            "JSON",
            "/mine",
            {"title": "TITLE", "message": "TEXT", "type": "warning"},
        ),
        (f"mmost://HOST/{TOKEN}", "Mattermost", f"/hooks/{TOKEN}", {"text": "TITLE\r\nTEXT"}),
        (
            f"rocket://{'a' * 24}/{'b' * 24}@HOST/#ops",
            "Rocket.Chat",
            f"/hooks/{'a' * 24}/{'b' * 24}",
            {"channel": "#ops"},
        ),
    ],
)
def test_a_service_of_apprise_gets_the_alert(
    service: Any, form: str, name: str, path: str, body: dict[str, str]
) -> None:
    texts = {"TITLE": "[mcl paper v3] warning: STALE_DATA", "TEXT": "no bar for 200 s"}
    expected = {
        key: value.replace("TITLE", texts["TITLE"]).replace("TEXT", texts["TEXT"])
        for key, value in body.items()
    }
    with hook() as state:
        channel = service(state, form)
        channel.send(a_notice())
    [(reached, got)] = state.got
    assert (channel.name, reached) == (name, path)
    assert {key: got[key] for key in expected} == expected
    assert texts["TEXT"] in json.dumps(got)


@pytest.mark.parametrize(
    ("severity", "kind"), [("info", "info"), ("warning", "warning"), ("critical", "failure")]
)
def test_the_severity_is_one_that_services_know(
    service: Any, severity: Severity, kind: str
) -> None:
    with hook() as state:
        service(state, "json://HOST/").send(a_notice(severity=severity))
    [(_, got)] = state.got
    assert got["type"] == kind


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "Slack"),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "Slack"),
        ("discord://123456789012345678/abcdefghijklmnop", "Discord"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544", "Telegram"),
        ("ntfys://ntfy.sh/topic", "ntfy"),
        ("pagerduty://integrationkey@apikey", "Pager Duty"),
    ],
)
def test_the_services_of_the_documents_are_understood(
    monkeypatch: pytest.MonkeyPatch, address: str, name: str
) -> None:
    monkeypatch.setenv("MCL_ALERT_URLS", address)
    assert [channel.name for channel in channels(schema.Alerts(apprise=schema.Services()))] == [
        name
    ]


@pytest.mark.parametrize(
    ("answer", "again", "why"),
    [
        (503, True, "ntfy answered 503"),
        (429, True, "ntfy answered 429"),
        (403, False, "ntfy answered 403"),
        (302, False, "ntfy answered 302"),
        ("hang up", True, "ntfy cannot be reached, or took nothing"),
    ],
)
def test_what_a_service_answers_decides_whether_it_is_tried_again(
    service: Any, answer: int | str, again: bool, why: str
) -> None:
    with hook(answer) as state, pytest.raises(Undelivered) as failed:
        service(state, "ntfy://user:PASSWORD@HOST/SECRET").send(a_notice())
    assert (failed.value.again, str(failed.value)) == (again, why)


def test_a_refusing_service_is_tried_again_alone_and_no_address_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two addresses, one of which is down for a while and then refuses: the other one gets each
    alert once.
    """
    with (
        hook() as well,
        hook(503, "hang up", 200, 403) as ill,
        log_session(tmp_path, alias="paper"),
        root_lines() as heard,
    ):
        hosts = [state.url.split("/")[2] for state in (well, ill)]
        monkeypatch.setenv(
            "MCL_ALERT_URLS", f"json://{hosts[0]}/SECRET1  ntfy://u:PASSWORD@{hosts[1]}/SECRET2"
        )
        found = channels(schema.Alerts(apprise=schema.Services(timeout_sec=2.0)))
        for channel in found:
            channel._plugin.request_rate_per_sec = 0  # type: ignore[attr-defined]
        couriers = [DeliveryThread(channel, first_pause_sec=0.01) for channel in found]
        for code in ("DEGRADED", "HALTED"):
            for courier in couriers:
                courier.take(a_notice(code=code))
        wait_for(lambda: [(c.delivered, c.lost) for c in couriers] == [(2, 0), (1, 1)])
        for courier in couriers:
            courier.close(5)
    assert (len(well.got), len(ill.got)) == (2, 4)
    [line] = lines(tmp_path)
    assert (line["event"], line["channel"], line["why"]) == (
        "alert not delivered",
        "ntfy",
        "ntfy answered 403",
    )
    shown = capfd.readouterr()
    written = (tmp_path / "log.jsonl").read_text() + shown.out + shown.err + heard.getvalue()
    assert not [word for word in ("SECRET1", "SECRET2", "PASSWORD") if word in written]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "foo://SECRET",
        "slack://SECRET",
        "ntfy://",
        "http://x.test/SECRET",
        "json://",
    ],
)
def test_an_address_that_apprise_does_not_understand_is_refused_before_the_session(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv("MCL_ALERT_URLS", address and f"json://127.0.0.1/ok {address}")
    wanted = (
        "address 2 of 2 in the environment variable MCL_ALERT_URLS"
        if address
        else "variable MCL_ALERT_URLS"
    )
    with pytest.raises(LiveError, match=wanted) as refused:
        channels(schema.Alerts(apprise=schema.Services()))
    shown = capfd.readouterr()
    assert "SECRET" not in f"{refused.value.message} {refused.value.hint} {shown.out} {shown.err}"


def test_a_session_is_told_through_apprise(
    deploy: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real session on the embedded server, whose guard refuses the third order of the day."""
    desk = deploy(interval="15m", strategy={"name": "random", "hold_sec": 1800, "seed": 4})
    guards = dict.fromkeys(schema.Guards.model_fields) | {"max_orders_per_day": 2}
    broker = schema.BrokerConfig.model_validate({"guards": guards})
    with hook() as state:
        monkeypatch.setenv("MCL_ALERT_URLS", f"ntfy://{state.url.split('/')[2]}/topic")
        operations = Operations(alerts=schema.Alerts(apprise=schema.Services()))
        run_session("paper", broker, operations, project=desk, progress=False)
    titles = [body["title"] for _, body in state.got]
    assert any(
        title.startswith("[mcl paper v") and title.endswith("warning: GUARD") for title in titles
    ), titles


def test_a_session_whose_address_is_not_understood_does_not_start(
    deploy: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = deploy(interval="15m")
    monkeypatch.setenv("MCL_ALERT_URLS", "slack://SECRET")
    operations = Operations(alerts=schema.Alerts(apprise=schema.Services()))
    with pytest.raises(
        LiveError,
        match="address 1 of 1 in the environment variable MCL_ALERT_URLS is none that apprise",
    ):
        run_session(
            "paper",
            schema.BrokerConfig(),
            operations,
            project=desk,
            progress=False,
        )


def test_each_address_of_the_variable_is_blotted_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "MCL_ALERT_URLS", "ntfys://ntfy.sh/hidden-topic\njson://127.0.0.1:9/hidden-path"
    )
    assert (
        redacted("to json://127.0.0.1:9/hidden-path and ntfys://ntfy.sh/hidden-topic!")
        == "to [secret] and [secret]!"
    )


def test_the_group_names_the_channel() -> None:
    composed = composition.validate(
        schema.Alerts, composition.compose("live", ["alerts=apprise"]).raw["alerts"], "alerts"
    )
    assert composed.apprise == schema.Services()
    assert (composed.webhook, composed.mail, composed.log) == (None, None, True)
    both = composition.validate(
        schema.Alerts,
        composition.compose("live", ["alerts=[webhook,apprise]"]).raw["alerts"],
        "alerts",
    )
    assert (both.webhook, both.apprise) == (schema.Webhook(), schema.Services())


# ------------------------------------------------------------------------------ sieve and listening


def test_repeats_are_held_back_and_counted() -> None:
    sieve = AlertFilter(schema.Alerts(repeat_sec=60))
    assert sieve.admit(an_alert(), 0.0) == (an_alert(), 0)
    assert [sieve.admit(an_alert(sentence=f"no bar for {n} s"), float(n)) for n in (1, 30, 59)] == [
        None
    ] * 3
    assert sieve.admit(an_alert(sentence="no bar for 260 s"), 60.0) == (
        an_alert(sentence="no bar for 260 s"),
        3,
    )
    assert sieve.admit(an_alert(code="DEGRADED"), 61.0) is not None


def test_a_critical_alert_with_another_reason_is_another_alert() -> None:
    sieve = AlertFilter(schema.Alerts())
    first, second = (
        an_alert("HALTED", "critical", why) for why in ("position unknown", "journal unwritable")
    )
    assert sieve.admit(first, 0.0) == (first, 0)
    assert sieve.admit(second, 1.0) == (second, 0)
    assert sieve.admit(first, 2.0) is None


def test_a_flood_ends_with_one_word_and_leaves_room_for_what_is_critical() -> None:
    sieve = AlertFilter(schema.Alerts(per_hour=3, repeat_sec=0))
    passed = [sieve.admit(an_alert(f"C{n}"), float(n)) for n in range(10)]
    assert [found[0].code for found in passed if found] == ["C0", "C1", "C2", "TOO_MANY_ALERTS"]
    assert sieve.admit(an_alert("HALTED", "critical"), 11.0) is not None
    assert sieve.admit(an_alert("LATER"), 3_603.0) is not None


def test_what_is_less_severe_than_asked_stays_in_the_journal() -> None:
    assert AlertFilter(schema.Alerts()).admit(an_alert(severity="info"), 0.0) is None
    assert (
        AlertFilter(schema.Alerts(min_severity="info")).admit(an_alert(severity="info"), 0.0)
        is not None
    )


def test_a_hanging_receiver_never_holds_the_session_up(webhook: Any) -> None:
    """300 alerts while the receiver hangs: listening takes no time, and the newest are the ones
    that are kept.
    """
    release = threading.Event()
    with hook(wait=release) as state:
        desk, rules = SmallDesk(), schema.Alerts(log=False, repeat_sec=0, per_hour=3600)
        with AlertDispatcher(rules, [webhook(state, timeout_sec=10.0)]) as alerts:
            began = time.process_time()
            for n in range(300):
                desk.set(alerts=(desk.alert(f"CODE_{n}"),))
                alerts(desk.status())
                alerts(desk.status())
            assert time.process_time() - began < 2
            release.set()
            [courier] = alerts.deliveries
            wait_for(lambda: courier.delivered + courier.lost == 300)
    codes = [body["code"] for _, body in state.got]
    assert codes == sorted(set(codes), key=codes.index)
    assert codes[-1] == "CODE_299"
    assert len(codes) == courier.delivered >= 200


def test_alerts_are_lines_of_the_log_with_whose_they_are(tmp_path: Path) -> None:
    desk = SmallDesk()
    with (
        log_session(tmp_path, alias="paper", version=3, session="2025-11-12"),
        AlertDispatcher(schema.Alerts(), []) as alerts,
    ):
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


# ---------------------------------------------------------------------------------------------- log


def test_lines_of_the_libraries_and_of_an_order_are_in_the_same_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mcl.base import terminal

    terminal.configure(as_json=False, verbose=False, quiet=False)
    with log_session(tmp_path, alias="paper"):
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
    assert (foreign["event"], foreign["logger"], foreign["alias"]) == (
        "Error 201, reqId 5",
        "ib_async.wrapper",
        "paper",
    )
    assert "ValueError: boom" in failed["exception"]
    assert "sent" not in shown  # the terminal keeps its own level
    assert "Error 201" in shown


def test_the_log_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcl.live.ops.session_log.BYTES", 2_000)
    with log_session(tmp_path, alias="paper"):
        for n in range(200):
            log.info("line", n=n)
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["log.jsonl", *(f"log.jsonl.{n}" for n in range(1, 6))]
    assert all(p.stat().st_size <= 2_000 for p in tmp_path.iterdir())
    assert lines(tmp_path)[-1]["n"] == 199


@contextmanager
def root_lines() -> Iterator[io.StringIO]:
    """What a program that shows its warnings would show."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield stream
    finally:
        logging.getLogger().removeHandler(handler)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def wait_for(reached: Any) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)
