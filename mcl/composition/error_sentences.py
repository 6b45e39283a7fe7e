"""Turns the exceptions of Hydra, OmegaConf, YAML and Python while a configuration is composed into
sentences with a place and a cure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mcl.base.errors import ConfigError, in_words

SEVERAL = ("Ambiguous value for argument", "requires --multirun")
CURES = (
    ("Recursive interpolation", "a value may not refer to itself: write it out"),
    ("Interpolation key", "write the value, or the full key of another one: ${strategy.fast}"),
    (
        "Unsupported interpolation type",
        "write the value; of resolvers there are oc.env, oc.select, oc.decode and now",
    ),
    ("Environment variable", "set the variable, or give a default: ${oc.env:NAME,value}"),
    ("HydraConfig was not set", "write the value: Hydra's own values are not known to a run"),
    ("force-add of config groups", "GROUP=NAME chooses"),
    (
        "No match in the defaults list",
        "only what is there can be deleted: mcl backtest --cfg shows it",
    ),
)


BRACKETS = {"[": "]", "{": "}", "(": ")"}


def unclosed(override: str) -> str:
    """Return the last bracket of an override that stays open; empty where each is closed, or one
    is closed that was not opened.
    """
    stack: list[str] = []
    for character in override:
        if character in BRACKETS:
            stack.append(character)
        elif character in BRACKETS.values() and (not stack or BRACKETS[stack.pop()] != character):
            return ""
    return stack[-1] if len(stack) == 1 else ""


def unreadable(override: str) -> tuple[str, str]:
    """Return the message and the hint for an override that Hydra's grammar does not know."""
    if bracket := unclosed(override):
        return (
            f"cannot read the override {override!r}: its {bracket} is not closed",
            f"write it as '{override}{BRACKETS[bracket]}'",
        )
    key = override.split("=", maxsplit=1)[0].lstrip("+~")
    quoted = f"""'{key}=["…", "…"]'""" if "=[" in override else f"""'{key}="…"'"""
    return (
        f"cannot read the override {override!r}: write key=value",
        f"quote what holds blanks, commas, signs or accents: {quoted}",
    )


def composed(error: Exception, overrides: Sequence[str]) -> tuple[str, str]:
    """Return the message and the hint for an error of Hydra or OmegaConf, without its links."""
    from mcl.composition import yaml_files

    text = " ".join(str(error).split("\n\nSee https")[0].split())
    key = str(getattr(error, "full_key", "") or "")
    text = re.split(r" (?:full_key|See https)\b", text)[0].strip()
    if not text:
        where = yaml_files.place("${")
        return (
            f"{where or 'the configuration'}: an interpolation ${{…}} cannot be read",
            "close it with }, or quote the text",
        )
    typed = re.search(r"(?:argument|parameters) '(.*?)'(?: requires|\s)", text)
    if typed and any(words in text for words in SEVERAL):
        word = f"{typed[1]} holds several values, and one run takes one"
        return (
            word,
            "mcl backtest -m runs each, mcl sweep searches; [1,2] is a list, quotes make a text",
        )
    if merging := re.match(r"Error merging override (\S+)", text):
        reason = " ".join(str(error.__cause__ or "").split("\n")[0].split())
        return f"{merging[1]} cannot be set" + (f": {reason}" if reason else ""), "leave it out"
    if parsing := re.match(r"Error parsing override '(.*?)' (.*)", text):
        return (
            f"cannot read the override {parsing[1]!r}: {parsing[2]}",
            "mcl backtest --help shows the grammar",
        )
    hint = next((cure for words, cure in CURES if words in text), "")
    where = (
        ""
        if any(word.lstrip("+").startswith(f"{key}=") for word in overrides)
        else _place(text, key)
    )
    return f"{key}: {text}{where}" if key else f"{text}{where}", hint


def other(
    error: Exception, overrides: Sequence[str], composes: Callable[[list[str]], bool]
) -> tuple[str, str]:
    """Return the message and the hint for any other exception, with the override that causes it:
    the one without which the command line composes.
    """
    from mcl.composition import yaml_files

    reason = "is nested too deep, or includes itself"
    if not isinstance(error, RecursionError):
        reason = f"cannot be composed: {in_words(error)}"
    culprit = next(
        (text for text in overrides if composes([word for word in overrides if word != text])), ""
    )
    if culprit:
        return f"{culprit[:200]} {reason}", "correct this override, or the file that it chooses"
    file = yaml_files.last()
    return f"{file or 'the configuration'} {reason}", "correct this file"


def located(
    error: ConfigError, overrides: Sequence[str], read_again: Callable[[], bool]
) -> ConfigError:
    """The same error with the file and the line that say the broken key, where no override does."""
    from mcl.composition import yaml_files

    keys = [text.split("=")[0].lstrip("+~") for text in overrides]
    sections = [key for key in keys if "." in key or key == error.key]
    if not error.key or any(f"{error.key}.".startswith(f"{key}.") for key in sections):
        return error
    read_again()
    where = yaml_files.line_of(error.key)
    if not where or where in error.message:
        return error
    return ConfigError(f"{error.message} ({where})", error.hint, error.key)


def _place(text: str, key: str) -> str:
    """The line that holds a broken interpolation."""
    from mcl.composition import yaml_files

    name = re.search(r"(?:Interpolation key|interpolation type) '?([\w.:]+)", text)
    where = (yaml_files.place("${" + name[1]) if name else "") or (
        yaml_files.line_of(key) if key else ""
    )
    return f" ({where})" if where else ""
