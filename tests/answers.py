"""Every answer of a verb in a test is compared with the keys that the verb promises. At the end the
verbs are named whose answer nothing has seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mcl.base import terminal
from mcl.cli import main
from mcl.cli.json_answers import PROMISED, faults
from mcl.cli.table import Verb

OTHERWISE = ("--cfg", "--estimate", "--info", "--resolve")  # words with an answer of their own
KEY = "answered_verbs"  # of what a worker sends


class Answers:
    """A pytest plugin. Each worker compares, the process that collects the reports adds up."""

    def __init__(self) -> None:
        self.verbs: set[str] = set()
        self._faults: list[str] = []
        self._verb = ""

    @pytest.fixture(autouse=True)
    def promised_answers(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Fail the test in which an answer lacks a key."""
        answer, run = terminal.answer, main._run
        self._faults.clear()

        def compared(data: dict[str, Any], render: Callable[[], None]) -> None:
            if self._verb in PROMISED:
                self.verbs.add(self._verb)
                self._faults.extend(faults(self._verb, terminal.plain(data)))
            answer(data, render)

        def named(verb: Verb, words: list[str], parsed: argparse.Namespace, flags: set[str]) -> int:
            before = self._verb
            self._verb = "" if any(word.startswith(OTHERWISE) for word in words) else verb.name
            try:
                return run(verb, words, parsed, flags)
            finally:
                self._verb = before

        monkeypatch.setattr(terminal, "answer", compared)
        monkeypatch.setattr(main, "_run", named)
        yield
        assert not self._faults, self._faults

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[KEY] = sorted(self.verbs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.verbs |= set(getattr(node, "workeroutput", {}).get(KEY, ()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        unseen = sorted(set(PROMISED) - self.verbs)
        if len(unseen) < len(PROMISED) / 2:  # else it was no whole suite
            terminalreporter.write_line(f"answers that no test saw: {', '.join(unseen) or 'none'}")


def register(config: pytest.Config) -> None:
    config.pluginmanager.register(Answers(), "answers")
