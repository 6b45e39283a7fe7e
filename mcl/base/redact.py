"""Secrets come from the environment or from files, and go nowhere: not into logs, reports, run
parameters, artifacts or errors.

A secret NAME is the variable NAME, or the content of the file that NAME_FILE names. What a variable
called …KEY, …TOKEN, …PASSWORD, …SECRET or …WEBHOOK_URL holds is blotted out of every text that
leaves, and so is each address of …ALERT_URLS, and whatever looks like a Databento key or like a
password inside an address, wherever it comes from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

BLOT = "[secret]"
# characters; "true" or "8080" in such a variable is none, and blotting it would spoil every text
SHORTEST = 8
TEXTS = (".yaml", ".json", ".txt", ".md", ".csv", ".log")
LARGEST = 65_536  # bytes of a secret's file
NAMES = re.compile(r"(KEY|KEY_ID|TOKEN|PASSWORD|SECRET|WEBHOOK_URL|ALERT_URLS)(_FILE)?$")
VENDOR_KEY = re.compile(r"\bdb-[A-Za-z0-9]{29}\b")
IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@'\"]*:[^/\s@'\"]+(?=@)")


def redacted(text: str) -> str:
    """`text` with every known secret blotted out."""
    return blotter()(text)


def blotter() -> Callable[[str], str]:
    """`redacted` for many texts: the environment is read once."""
    values = _values()

    def blot(text: str) -> str:
        for value in values:
            if value in text:
                text = text.replace(value, BLOT)
        if "db-" in text:
            text = VENDOR_KEY.sub(BLOT, text)
        return IN_ADDRESS.sub(BLOT, text) if "://" in text and "@" in text else text

    return blot


def blotted(name: str, content: bytes) -> bytes:
    """A file's content without the secrets that are in it as they are; what is no text is
    searched all the same.
    """
    if name.endswith(TEXTS):
        return redacted(content.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    for value in _values():
        content = content.replace(value.encode(), BLOT.encode())
    return content


def _values() -> list[str]:
    """Longest first: a secret that contains another one goes whole."""
    named = {name.removesuffix("_FILE") for name in os.environ if NAMES.search(name)}
    values = [part for name in named for part in _parts(name)]
    return sorted({value for value in values if len(value) >= SHORTEST}, key=len, reverse=True)


def _parts(name: str) -> list[str]:
    """The secrets in one variable: one, or addresses with blanks between them."""
    value = _quietly(name)
    return value.split() if name.endswith("_URLS") else [value]


def _quietly(name: str) -> str:
    try:
        return stored_secret(name)
    except (OSError, UnicodeDecodeError):
        return ""


def stored_secret(name: str) -> str:
    """The value of NAME, or the content of the file that NAME_FILE names; empty for neither."""
    if value := os.environ.get(name, ""):
        return value
    if not (file := os.environ.get(f"{name}_FILE", "")):
        return ""
    with Path(file).open("rb") as opened:
        return opened.read(LARGEST).decode().strip()
