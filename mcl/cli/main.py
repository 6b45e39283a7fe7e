"""`mcl`: the command line. Thin: parse, call one workflow, print its answer.

Global flags, before the verb or after it: --json (one JSON object on stdout), -v, --quiet. Exit
codes: 0 done, 1 refused or failed with a sentence that says what to do, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from types import TracebackType
from typing import NoReturn

from mcl import __version__
from mcl.base.errors import MclError, UsageError, closest, nearest
from mcl.base.redact import redacted
from mcl.cli.arguments import complete_options
from mcl.cli.table import GLOBAL_FLAGS, SECTIONS, UNENDING, VERBS, Verb

# What a disk or the system refuses, whatever mcl does. A read or a write names no file.
REFUSALS = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.ESTALE, errno.ENODEV}
    | {errno.ENXIO, errno.EISDIR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES}
)
HELP = frozenset({"-h", "--help", "help"})
NO_NAMES = frozenset({"sweep", "registry"})  # verbs whose next word is no name of anything
LONGEST_SHOWN = 200  # characters of a path
USAGE = """mcl: from a configuration to a promoted, audited trading session in Micro WTI Crude Oil
futures

usage: mcl [--json] [-v] [--quiet] VERB [options] [key=value ...]

{verbs}

Any configuration value can be overridden:
  mcl backtest strategy=ema_cross strategy.fast=20 risk=vol_target
mcl VERB --help says more. mcl backtest --cfg prints the composed configuration."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; 1, and no word, when whoever reads the output
    has left (`mcl runs | head -1`).
    """
    if argv is None:
        sys.excepthook = _uncaught
    try:
        code = _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        # what is left in the buffer would fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:  # before the verb began
        return 1
    return code


def _main(args: list[str]) -> int:
    flags, rest = _global_flags(args)
    if (code := _helped(rest)) is not None:
        return code
    if rest[0] == "complete" and len(rest) == len(("complete", "SHELL", "LINE")):
        from mcl.cli.completion import complete

        return complete(rest[1], rest[2])
    if rest[0] == "--version":
        print(__version__)
        return 0
    try:
        verb, parsed = parse(rest)
    except UsageError as error:
        return _misused(error, "--json" in flags)
    except SystemExit as stop:  # after --help
        return int(stop.code or 0)
    return _run(verb, rest[len(verb.name.split()) :], parsed, flags)


class Parser(argparse.ArgumentParser):
    """A parser whose refusals are errors of this program and not the end of the process."""

    def error(self, message: str) -> NoReturn:
        # what may be left out is no argument that is required
        message = re.sub(r"(required: .*), \S+=value", r"\1", message)
        raise UsageError(f"{self.prog}: {message}", f"{self.prog} --help", self.format_usage())


def _misused(error: UsageError, as_json: bool) -> int:
    """Tell of wrong usage; exit code 2."""
    from mcl.base import terminal

    terminal.configure(as_json=as_json, verbose=False, quiet=False)
    if error.usage and not as_json:
        print(error.usage, end="", file=sys.stderr)
    terminal.refuse(error)
    return 2


def parse(words: list[str]) -> tuple[Verb, argparse.Namespace]:
    """The verb that a command line names, and its arguments. UsageError when there is no such
    line.
    """
    name = " ".join(words[: 2 if " ".join(words[:2]) in VERBS else 1])
    if name not in VERBS or (name in NO_NAMES and _is_word(words[1:2])):
        raise _unknown(words)
    verb = VERBS[name]
    parser = Parser(
        prog=f"mcl {name}",
        description=verb.summary,
        epilog=_group_usage(name) if _group(name) else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.arguments(parser)
    parsed = parser.parse_intermixed_args(complete_options(words[len(name.split()) :]))
    parsed.verb = name
    return verb, parsed


def _helped(words: list[str]) -> int | None:
    """Print the verbs where no verb was typed or help was asked for, all or those of a group;
    the exit code, None where there is a verb to run.
    """
    if not words or words[0] in HELP:
        print(_usage())
        return 0 if words else 2
    if words[0] in VERBS or not _group(words[0]) or (words[1:] and words[1] not in HELP):
        return None
    print(_group_usage(words[0]))
    return 0 if words[1:] else 2


def _is_word(words: Sequence[str]) -> bool:
    """Whether the next word could be the second one of a verb: no option and no override."""
    return bool(words) and "=" not in words[0] and words[0][:1] not in ("-", "+", "~")


def _group(head: str) -> list[Verb]:
    """The verbs of two words that begin with this one."""
    return [verb for verb in VERBS.values() if verb.name.startswith(f"{head} ")]


def _group_usage(head: str) -> str:
    verbs = _group(head)
    width = max(len(verb.name) for verb in verbs)
    listed = "".join(f"  mcl {verb.name:<{width}}  {verb.summary}\n" for verb in verbs)
    return f"verbs that begin with {head}:\n{listed}mcl {head} VERB --help says more."


def _unknown(words: list[str]) -> UsageError:
    """The refusal of a line that begins with no verb. Arguments behind it are no part of the
    name.
    """
    head, second = words[0], words[1] if _is_word(words[1:2]) else ""
    group = [verb.name for verb in _group(head)]
    if group:
        typed = f"{head} {second}".strip()
        candidates = [name for name in group if second and name.startswith(typed)]
        near = nearest(typed, group)
        if candidates:
            near = f"did you mean {' or '.join(map(repr, candidates))}?"
        return UsageError(f"unknown verb {typed[:200]!r}: {near}", f"mcl {head} --help lists them")
    both = f"{head} {second}"
    if second and (close := closest(both, [name for name in VERBS if " " in name])):
        return UsageError(
            f"unknown verb {both[:200]!r}: did you mean {close[0]!r}?", "mcl --help lists them"
        )
    heads = {name.partition(" ")[0] for name in VERBS}
    near = nearest(head, heads if closest(head, heads) else VERBS)
    return UsageError(f"unknown verb {head[:200]!r}: {near}", "mcl --help lists them")


def _run(verb: Verb, words: list[str], parsed: argparse.Namespace, flags: frozenset[str]) -> int:
    from mcl.base import files, terminal

    terminal.configure(
        as_json="--json" in flags,
        verbose=bool(flags & {"-v", "--verbose"}),
        quiet="--quiet" in flags,
    )
    module, function = verb.handler.split(":")
    try:
        with terminal.Work(
            [verb.name, *words],
            files.cache_path("durations.json"),
            visible=verb.name not in UNENDING,
        ):
            return int(getattr(import_module(f"mcl.cli.{module}"), function)(parsed))
    except MclError as error:
        terminal.refuse(error)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        raise
    except BaseException as error:
        stop = _interrupt(error)
        if isinstance(error, OSError) and (error.filename or error.errno in REFUSALS):
            terminal.refuse(_of_system(error))
            return 1
        verbose = bool(flags & {"-v", "--verbose"})
        refused = (
            _unexpected(error, verb.name, verbose=verbose) if stop is None else _interrupted(stop)
        )
        terminal.refuse(refused)
        return 1


def _of_system(error: OSError) -> MclError:
    """Return what the system refuses of a file or a folder: no fault of mcl, and no traceback."""
    name = str(error.filename or "a file")
    short_name = (
        name
        if len(name) <= LONGEST_SHOWN
        else f"{name[:LONGEST_SHOWN]}… ({len(name):,} characters)"
    )
    return MclError(
        f"{short_name}: {error.strerror or error}",
        "fix the path, its rights, or the space that there is",
    )


def _interrupted(stop: KeyboardInterrupt) -> MclError:
    return MclError(
        "interrupted: what was done is kept", str(stop) or "run the same command again to continue"
    )


def _unexpected(error: BaseException, verb: str, *, verbose: bool) -> MclError:
    """A fault of mcl itself as a sentence. Its traceback goes into a file, and is `shown` with -v,
    without the secrets that it may hold.
    """
    import traceback

    from mcl.base import files
    from mcl.base.errors import Unexpected, in_words

    trace = redacted("".join(traceback.format_exception(error)))
    if verbose:
        sys.stderr.write(trace)
    try:
        place = str(files.new_log("errors", trace))
    except MclError:  # the disk refuses, too
        sys.stderr.write(trace)
        place = "standard error"
    message = f"mcl {verb} met what it did not expect: {in_words(error)}"
    return Unexpected(message, f"this is a fault of mcl; its traceback is in {place}")


def _interrupt(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that an exception is or comes from: a library that is interrupted in its own
    clearing up raises anything.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A bug's traceback, without the secrets that its message may hold."""
    import traceback

    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def _global_flags(args: list[str]) -> tuple[frozenset[str], list[str]]:
    """The flags of every verb, wherever they stand, and the other words."""
    flags = GLOBAL_FLAGS.intersection(args)
    return flags, [word for word in args if word not in flags]


def _usage() -> str:
    width = max(map(len, VERBS))
    listed = (
        f"{title}\n" + "".join(f"  {verb.name:<{width}}  {verb.summary}\n" for verb in verbs)
        for title, verbs in SECTIONS.items()
    )
    return USAGE.format(verbs="\n".join(listed).rstrip())


if __name__ == "__main__":
    sys.exit(main())
