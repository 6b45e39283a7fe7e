"""Every answer that a verb prints in a test is validated against its model.

At the end of a whole run the verbs are named whose answer no test saw. tests/test_every_answer.py
sees one of each by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError

from mcl.base import terminal
from mcl.base.errors import MclError
from mcl.cli import json_answers, main
from mcl.cli.table import VERBS, Verb

KEY = "answered_verbs"  # of what a worker sends


@dataclass
class Answers:
    """A pytest plugin. Each worker validates, the process that collects the reports adds up."""

    verbs: set[str] = field(default_factory=set)  # whose own model was met
    faults: list[str] = field(default_factory=list)
    # the command lines that run, the innermost last: a demo runs others
    running: list[tuple[Verb, argparse.Namespace]] = field(default_factory=list)

    def check(self, data: dict[str, Any]) -> None:
        """Validate an answer as a reader of the JSON gets it."""
        if not self.running:
            return  # a test that prints without a command line
        verb, options = self.running[-1]
        if not verb.answer:
            self.faults.append(f"{verb.name} answers, and its record names no model")
            return
        plain = terminal.plain(data)
        model = json_answers.model(verb, options, plain)
        try:
            model.model_validate(plain)
        except ValidationError as error:
            self.faults.append(f"mcl {verb.name} as {model.__name__}: {error}")
            return
        if model is json_answers.of_verb(verb):
            self.verbs.add(verb.name)

    @pytest.fixture(autouse=True)
    def validated_answers(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Fail the test in which an answer is not as its model says."""
        answer, refuse, run = terminal.answer, terminal.refuse, main._run
        self.faults.clear()

        def checked(data: dict[str, Any], render: Callable[[], None]) -> None:
            self.check(data)
            answer(data, render)

        def refused(error: MclError) -> None:
            json_answers.RefusalAnswer.model_validate(terminal.plain({"error": error.as_dict()}))
            refuse(error)

        def named(
            verb: Verb, words: list[str], parsed: argparse.Namespace, flags: frozenset[str]
        ) -> int:
            self.running.append((verb, parsed))
            try:
                return run(verb, words, parsed, flags)
            finally:
                self.running.pop()

        monkeypatch.setattr(terminal, "answer", checked)
        monkeypatch.setattr(terminal, "refuse", refused)
        monkeypatch.setattr(main, "_run", named)
        yield
        assert not self.faults, "\n".join(self.faults)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[KEY] = sorted(self.verbs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.verbs |= set(getattr(node, "workeroutput", {}).get(KEY, ()))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        answering = {verb.name for verb in VERBS.values() if verb.answer}
        unseen = sorted(answering - self.verbs)
        if len(unseen) < len(answering) / 2:  # else it was no whole run
            terminalreporter.write_line(f"answers that no test saw: {', '.join(unseen) or 'none'}")


def register(config: pytest.Config) -> None:
    config.pluginmanager.register(Answers(), "mcl-answers")
