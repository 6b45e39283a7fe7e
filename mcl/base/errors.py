"""The error tree. Every refusal that a user can cause is one of these; anything else is a bug.

* MclError
  - ConfigError        a config names something that does not exist, or a value breaks its rule
  - DataError          market data are missing, damaged, or contradict themselves
  - EngineError        arrays that cannot be simulated (lengths differ, NaN price)
  - StoreError         the run store, the registry or the disk refuses
  - ReportError        a page cannot be shown or drawn
  - PromotionError     a run may not be promoted; lists every missed gate
  - LiveError          a session may not start, or its audit found differences
    - BrokerError      the broker, or the connection to it
      + ConnectionLost   gone, silent or refused: it may be tried again
      + Uncertain        the fate of an order or a position is not known: the books are compared
        · Rejected       the broker refused an order
      + GuardError       a rule forbids the connection or the order; nothing was sent
    - Halt             something is unknown: the operator has to say adopt or flatten
  - UsageError         the command line has no such verb, option or number; exit code 2
  - Unexpected         a fault of mcl itself; its traceback is in a file

A message is one sentence with the value, the rule and the nearest valid choice; `hint` says what to
do. Neither holds a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mcl.base.redact import redacted

if TYPE_CHECKING:
    from mcl.base.differences import Differences

LONGEST = 300  # characters of a foreign exception's message that are shown
FEW = 10  # names that are listed whole
HANDFUL = 5  # of more names than that
SAME = 3  # names with the same last part that are offered
PREFIX = 3  # letters that begin a name
LIKE = 0.65  # likeness of two names, 0 to 1, from which one is offered for the other


class MclError(Exception):
    """A refusal with a sentence. The command line prints it and exits with 1."""

    code = "error"

    def __init__(
        self, message: str, hint: str = "", differences: Differences | None = None
    ) -> None:
        """`differences`: of two things that had to be the same, in the shape of all answers."""
        self.message = redacted(message)
        self.hint = redacted(hint)
        self.differences = differences
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        sentence = {"code": self.code, "message": self.message, "hint": self.hint}
        return sentence | ({"differences": self.differences} if self.differences else {})


class ConfigError(MclError):
    """`key`: the dotted key of the configuration that is wrong, where one is."""

    code = "config"

    def __init__(self, message: str, hint: str = "", key: str = "") -> None:
        super().__init__(message, hint)
        self.key = key


class DataError(MclError):
    code = "data"


class EngineError(MclError):
    code = "engine"


class StoreError(MclError):
    code = "store"


class ReportError(MclError):
    code = "report"


class PromotionError(MclError):
    code = "promotion"


class LiveError(MclError):
    code = "live"


class BrokerError(LiveError):
    code = "broker"


class ConnectionLost(BrokerError):
    code = "connection"


class Uncertain(BrokerError):
    code = "uncertain"


class Rejected(Uncertain):
    code = "rejected"


class GuardError(BrokerError):
    code = "guard"


class Halt(LiveError):
    code = "halt"


class UsageError(MclError):
    """`usage`: the shape of the command line that was meant."""

    code = "usage"

    def __init__(self, message: str, hint: str = "", usage: str = "") -> None:
        super().__init__(message, hint)
        self.usage = usage


class Unexpected(MclError):
    code = "unexpected"


def in_words(error: BaseException) -> str:
    """Any exception as one line: its own sentence, or `ValueError: …`, cut where it is no sentence
    any more.
    """
    if isinstance(error, MclError):
        return error.message
    sentence = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        sentence
        if len(sentence) <= LONGEST
        else f"{sentence[:LONGEST]} … ({len(sentence):,} characters)"
    )


def nearest(name: str, choices: Iterable[str]) -> str:
    """The clause that ends an error about an unknown name: the closest choice, else all of a few,
    else the nearest of many.
    """
    names = sorted(set(choices))
    if close := closest(name, names):
        return f"did you mean {' or '.join(map(repr, close))}?"
    if not names:
        return "there is none yet"
    if len(names) <= FEW:
        return "valid: " + ", ".join(names)
    return f"the nearest of {len(names)} are {', '.join(_by_likeness(name, names)[:HANDFUL])}"


def closest(name: str, choices: Iterable[str]) -> list[str]:
    """The choices that `name` most likely means: those that end with it, else the one most like it;
    of dotted names the last part counts, and a section that exists is kept.
    """
    names = sorted(set(choices))
    if whole := [choice for choice in names if f".{choice}".endswith(f".{name}")]:
        return sorted(whole, key=len)[:SAME]
    section, _, last = name.rpartition(".")
    below = [choice for choice in names if choice.rpartition(".")[0] == section]
    if section and not below:  # the section is wrong, not the last part
        return difflib.get_close_matches(name, names, n=1, cutoff=LIKE)
    longest_first = sorted(below if section else names, key=len, reverse=True)
    pool = {choice.rpartition(".")[2]: choice for choice in longest_first}
    begins = [part for part in pool if part.startswith(last) and len(last) >= PREFIX]
    near = begins or difflib.get_close_matches(last, pool, n=1, cutoff=LIKE)
    if near:
        return [pool[min(near, key=len)]]
    return [] if section else difflib.get_close_matches(name, names, n=1, cutoff=LIKE)


def _by_likeness(name: str, names: Iterable[str]) -> list[str]:
    def unlike(choice: str) -> float:
        last = choice.rpartition(".")[2]
        return -max(difflib.SequenceMatcher(None, name, text).ratio() for text in (choice, last))

    return sorted(names, key=unlike)
