"""Models of the JSON answers of the verbs that operate: sessions, simulated TWS, store, project."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mcl.cli.answer_model import Answer, OfRun


class OfJournal(Answer):
    """An answer from the journal of a session."""

    alias: str
    """The promoted name."""
    journal: str
    """Path of the session's journal."""


class SessionAnswer(OfRun):
    """Report a session and its audit."""

    decisions: int
    orders: int
    fills: int
    differences: list[Any]
    """Where the session and the backtest of its bars differ, each with its cause."""
    unexplained: int
    """Those without a cause."""
    basis: dict[str, Any]
    """The broker's bars less the vendor's: note, fields, only_live, only_vendor, decisions,
    differ, decisions_frac."""
    report: str
    """Path of the page."""


class AuditedSessionsAnswer(Answer):
    """Report the sessions of `mcl live NAME --stay`."""

    audits: list[Any]
    """One object per session: session, run_id, audit."""


class StatusAnswer(Answer):
    """Describe one session, or in `sessions` one object per name. The keys follow the state."""


class OperatorReplyAnswer(Answer):
    """Give the answer of a session to a command."""

    alias: str
    """The promoted name."""
    command: str
    """What was asked."""
    sentence: str = Field(alias="said")
    """What the session answered."""


class OrdersAnswer(OfJournal):
    """List the orders of a session."""

    orders: list[Any]
    working: list[Any]
    """Not filled yet."""


class FillsAnswer(OfJournal):
    """List the fills of a session."""

    fills: list[Any]


class DecisionsAnswer(OfJournal):
    """List the decisions of a session."""

    decisions: list[Any]
    """Each with its sentence."""


class DashboardAnswer(Answer):
    """Give the address of the page."""

    url: str
    name: str
    read_only: bool


class ServedTwsAnswer(Answer):
    """Report what a simulated TWS did, at its end."""


class TwsServersAnswer(Answer):
    """List the simulated TWS servers of a project."""

    servers: list[Any]


class TwsLogAnswer(Answer):
    """List messages of a transcript."""

    messages: int
    visible: list[Any] = Field(alias="shown")


class BackupAnswer(Answer):
    """Report a backup that was written."""

    path: str
    files: int
    bytes_read: int
    bytes_written: int


class RestoreAnswer(Answer):
    """Report a backup that was put back, or checked."""

    made_at: Any
    files: int


class FinishedRestoreAnswer(Answer):
    """Say that a restore that was cut off is finished: `mcl store restore` without a file."""

    finished: bool


class WasteAnswer(Answer):
    """List files that nothing refers to."""

    removed: bool
    bytes: int
    items: list[Any]


class NewProjectAnswer(Answer):
    """Report a new project."""

    folder: str
    files: list[Any]


class DemoAnswer(Answer):
    """Report the whole line, run once."""

    folder: str
    """Of the project that it made."""
    seconds: float
    acts: list[Any]
    """Title, synthetic, and commands: each with its command, code, seconds, answer."""


class DoctorAnswer(Answer):
    """List what this machine has and lacks."""

    findings: list[Any]
    failed: Any


class NewFilesAnswer(Answer):
    """List the files that were written for code of your own."""

    name: str
    files: list[Any]


class CompletionAnswer(Answer):
    """Give the completion script of a shell."""

    shell: str
    script: str
    """What the shell sources."""
