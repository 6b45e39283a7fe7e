"""Deliver alerts to an HTTP address, a mailbox, or the services that apprise reaches.

Secrets come from the environment or a file, and no error message repeats one.
"""

from __future__ import annotations

import http.client
import json
import logging
import re
import smtplib
import ssl
import threading
from collections.abc import Callable, Iterable
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from mcl.base.errors import LiveError
from mcl.base.secrets import secret
from mcl.config import schema
from mcl.live.ops.alerts import Channel, Notice, Undelivered

RETRIED = frozenset({408, 425, 429})  # and every 5xx
# how apprise's log lines name the HTTP status of a refusal
ANSWER = re.compile(r"\berror=(\d{3})\b")


def channels(rules: schema.Alerts) -> list[Channel]:
    """The configured channels. LiveError before a session starts: an alert that could never arrive
    is worse than none.
    """
    return [
        channel
        for name, open_channels in CHANNELS.items()
        if (settings := getattr(rules, name)) is not None
        for channel in open_channels(settings)
    ]


class WebhookChannel:
    """POSTs one JSON object; any 2xx is a delivery. Redirects are not followed: they would carry
    the address elsewhere.
    """

    name = "webhook"

    def __init__(self, settings: schema.Webhook) -> None:
        address = secret(settings.url_env)
        if not address:
            raise LiveError(
                f"alerts.webhook needs the address in the environment variable {settings.url_env}",
                "or choose alerts=log",
            )
        self._url, self._settings, self.attempts = (
            _parts(address, settings.url_env),
            settings,
            settings.attempts,
        )

    def send(self, notice: Notice) -> None:
        url = self._url
        make: Any = (
            http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        )
        connection = make(url.hostname, url.port, timeout=self._settings.timeout_sec)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            connection.request(
                "POST",
                path,
                json.dumps(message(notice)),
                {"Content-Type": "application/json", "User-Agent": "mcl"},
            )
            answer = connection.getresponse()
            answer.read(1024)
        except (OSError, http.client.HTTPException) as error:
            raise Undelivered(
                f"{url.scheme}://{url.hostname} cannot be reached: {_reason(error)}"
            ) from None
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            again = _again(answer.status)
            raise Undelivered(
                f"{url.hostname} answered {answer.status} {answer.reason}",
                again,
                _after(answer.headers.get("Retry-After")),
            )


def message(notice: Notice) -> dict[str, Any]:
    """The JSON of a webhook. `text` is what Slack and Mattermost show, `content` what Discord
    shows.
    """
    alert, line = notice.alert, f"{notice.subject}: {notice.text}"
    facts = {
        "alias": notice.alias,
        "version": notice.version,
        "session": notice.session,
        "repeats": notice.repeats,
    }
    fields = {
        "severity": alert.severity,
        "code": alert.code,
        "sentence": alert.sentence,
        "at_ns": alert.at_ns,
    }
    return {"text": line, "content": line[:1900], **fields, **facts}


def _parts(address: str, variable: str) -> SplitResult:
    try:
        url = urlsplit(address)
        valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise LiveError(
            f"the environment variable {variable} holds no http or https address",
            "its value is a secret and is not shown",
        )
    return url


def _again(status: int) -> bool:
    """Whether the other side may take it later."""
    return status in RETRIED or status >= 500


def _after(header: str | None) -> float:
    """Seconds of a Retry-After header; a date in it counts as unknown."""
    return float(header) if header and header.isdigit() else 0.0


class MailChannel:
    """One e-mail per alert over SMTP, with certificates checked wherever there are any."""

    name = "mail"

    def __init__(self, settings: schema.Mail) -> None:
        self._settings, self.attempts = settings, settings.attempts
        self._password = _password(settings) if settings.user else ""
        self._trust = self._context() if settings.security != "none" else None

    def send(self, notice: Notice) -> None:
        settings = self._settings
        try:
            with self._connected() as server:
                if settings.security == "starttls":
                    server.starttls(context=self._trust)
                if settings.user:
                    server.login(settings.user, self._password)
                server.send_message(mail_of(notice, settings))
        except smtplib.SMTPAuthenticationError as error:
            raise Undelivered(
                f"{settings.host} refused the log-in of {settings.user!r}: {error.smtp_code}",
                again=False,
            ) from None
        except smtplib.SMTPResponseException as error:
            raise Undelivered(
                f"{settings.host} answered {error.smtp_code}", again=error.smtp_code < 500
            ) from None
        except smtplib.SMTPRecipientsRefused as error:
            raise Undelivered(
                f"{settings.host} refused {', '.join(error.recipients)}", again=False
            ) from None
        except (OSError, smtplib.SMTPException) as error:
            raise Undelivered(f"{settings.host}:{settings.port}: {_reason(error)}") from None

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        if settings.security == "tls":
            return smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=settings.timeout_sec, context=self._trust
            )
        return smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_sec)

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._settings.ca_file or None)
        except OSError as error:
            raise LiveError(
                f"alerts.mail.ca_file={self._settings.ca_file} cannot be read: {_reason(error)}"
            ) from None


def mail_of(notice: Notice, settings: schema.Mail) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = (
        notice.subject,
        settings.sender,
        ", ".join(settings.to),
    )
    mail["Date"], mail["Message-ID"] = (
        formatdate(notice.alert.at_ns / 1e9),
        make_msgid(domain="mcl.invalid"),
    )
    mail["Auto-Submitted"] = "auto-generated"
    facts = (
        f"{notice.alias} version {notice.version}, session {notice.session}, code"
        f" {notice.alert.code}"
    )
    mail.set_content(f"{notice.text}\n\n{facts}\nmcl status {notice.alias} shows its state.\n")
    return mail


def _password(settings: schema.Mail) -> str:
    if settings.password_file:
        try:
            return Path(settings.password_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise LiveError(
                f"alerts.mail.password_file={settings.password_file} cannot be read:"
                f" {_reason(error)}"
            ) from None
    word = secret(settings.password_env)
    if not word:
        raise LiveError(
            f"alerts.mail.user={settings.user} needs a password in the environment variable"
            f" {settings.password_env}"
        )
    return word


def services(settings: schema.Services) -> list[Channel]:
    """One channel per address, so that what one of them refuses is tried again there alone.

    LiveError: there is no address, or apprise does not understand one. The sentence counts them,
    since an address is a secret as a whole.
    """
    addresses = secret(settings.urls_env).split()
    if not addresses:
        why = f"alerts.apprise needs an address in the environment variable {settings.urls_env}"
        raise LiveError(
            why, "for instance ntfys://ntfy.sh/TOPIC; docs/live.md lists more, or choose alerts=log"
        )
    return [
        AppriseChannel(address, f"address {n} of {len(addresses)}", settings)
        for n, address in enumerate(addresses, 1)
    ]


class AppriseChannel:
    """One service of apprise. Its lines are read for the status of an answer alone: they name
    topics and tokens.
    """

    def __init__(self, address: str, which: str, settings: schema.Services) -> None:
        import apprise

        asset = apprise.AppriseAsset(
            app_id="mcl",
            app_desc="mcl",
            async_mode=False,
            http_redirects=False,  # they would carry the address elsewhere
            allow_templates=False,
        )
        self._statuses = _Statuses.of_apprise()
        plugin = apprise.Apprise.instantiate(address, asset=asset)
        # an ntfy address without a topic is taken
        if plugin is None or getattr(plugin, "topics", None) == []:
            refused = (
                f"{which} in the environment variable {settings.urls_env} is none that apprise"
                " understands"
            )
            raise LiveError(
                refused,
                "its value is a secret and is not shown; docs/live.md shows the form of each"
                " service",
            )
        plugin.socket_connect_timeout = plugin.socket_read_timeout = settings.timeout_sec
        self.name, self.attempts, self._plugin = str(plugin.service_name), settings.attempts, plugin
        self._kinds = {
            "info": apprise.NotifyType.INFO,
            "warning": apprise.NotifyType.WARNING,
            "critical": apprise.NotifyType.FAILURE,
        }

    def send(self, notice: Notice) -> None:
        self._statuses.forget()
        kind = self._kinds[notice.alert.severity]
        try:
            delivered = self._plugin.notify(
                body=notice.text, title=notice.subject, notify_type=kind
            )
        # a service's own code: the delivery thread must outlive whatever it raises
        except Exception as error:
            raise Undelivered(f"{self.name} failed with {type(error).__name__}") from None
        if delivered:
            return
        status = self._statuses.last
        if status is None:
            raise Undelivered(f"{self.name} cannot be reached, or took nothing")
        raise Undelivered(f"{self.name} answered {status}", _again(status))


class _Statuses(logging.Handler):
    """The HTTP statuses in apprise's own lines, by thread. The lines go nowhere else: they hold
    parts of addresses.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._by_thread = threading.local()

    @classmethod
    def of_apprise(cls) -> _Statuses:
        """The one handler of the library's logger."""
        logger = logging.getLogger("apprise")
        handlers = [handler for handler in logger.handlers if isinstance(handler, cls)]
        if handlers:
            return handlers[0]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        handler = cls()
        logger.addHandler(handler)
        return handler

    def emit(self, record: logging.LogRecord) -> None:
        match = ANSWER.search(record.getMessage())
        if match is not None:
            self._by_thread.status = int(match[1])

    def forget(self) -> None:
        """Before a message: what an earlier one was answered counts no more."""
        self._by_thread.status = None

    @property
    def last(self) -> int | None:
        return getattr(self._by_thread, "status", None)


def _reason(error: Exception) -> str:
    """The reason of an error, without anything that was sent."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


# key of `alerts` in a configuration -> the channels that its settings open
CHANNELS: dict[str, Callable[[Any], Iterable[Channel]]] = {
    "webhook": lambda settings: [WebhookChannel(settings)],
    "mail": lambda settings: [MailChannel(settings)],
    "apprise": services,
}
