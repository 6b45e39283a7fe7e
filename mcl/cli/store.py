"""store backup, store restore, store gc."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from pathlib import Path

from mcl import composition
from mcl.base import terminal
from mcl.base.errors import StoreError
from mcl.base.words import many
from mcl.tracking.purge import Waste
from mcl.tracking.store import Store


def backup(args: Namespace) -> int:
    from mcl.ops.backup import backup as write

    done = write(composition.root(), Path(args.to) if args.to else None, data=args.data)
    answer = {
        "path": str(done.path),
        "files": done.files,
        "bytes_read": done.bytes_read,
        "bytes_written": done.bytes_written,
    }
    lines = [
        f"{done.path}: {many(done.files, 'file')},"
        f" {_mb(done.bytes_read)} in {_mb(done.bytes_written)}"
    ]
    uri = Store().uri
    if uri.startswith("http"):
        lines.append(
            f"the runs are on the server {uri}: its database and its artifacts are not in this file"
        )
    terminal.answer(answer, lambda: terminal.say("\n".join(lines)))
    return 0


def restore(args: Namespace) -> int:
    from mcl.ops.restore import restore as put
    from mcl.ops.restore import verify

    if args.archive is None:
        return _finish()
    if args.check:
        manifest = verify(Path(args.archive))
        answer = {
            "made_at": manifest.made_at,
            "files": len(manifest.files),
            "root": manifest.root,
            "version": manifest.version,
        }
        terminal.answer(
            answer,
            lambda: terminal.say(
                f"{args.archive}: whole, {many(len(manifest.files), 'file')} of {manifest.root},"
                f" {manifest.made_at}"
            ),
        )
        return 0
    done = put(Path(args.archive), composition.root(), replace=args.replace)
    answer = {
        "made_at": done.made_at,
        "files": done.files,
        "parts": list(done.parts),
        "aside": [str(path) for path in done.aside],
    }
    terminal.answer(answer, lambda: _show_restored(done.files, done.parts, done.aside))
    return 0


def _finish() -> int:
    from mcl.ops.restore import finish

    if not finish(composition.root()):
        raise StoreError("no restore was cut off here", "mcl store restore FILE")
    terminal.answer({"finished": True}, lambda: terminal.say("the restore is finished"))
    return 0


def collect(args: Namespace) -> int:
    from mcl.ops.retention import collect as remove
    from mcl.ops.retention import waste

    root = composition.root()
    candidates = waste(root, args.older_than, args.keep)
    won = 0 if args.dry_run else remove(root, candidates)
    answer = {
        "removed": not args.dry_run,
        "bytes": won,
        "items": [{"what": w.what, "where": w.where, "bytes": w.size} for w in candidates],
    }
    terminal.answer(answer, lambda: _show_waste(candidates, won, dry=args.dry_run))
    return 0


def _show_restored(files: int, parts: tuple[str, ...], aside: tuple[Path, ...]) -> None:
    terminal.say(f"restored {many(files, 'file')}: {', '.join(parts)}")
    for path in aside:
        terminal.say(f"the former one is {path}; mcl store gc removes it after a while")


def _show_waste(candidates: list[Waste], won: int, *, dry: bool) -> None:
    counts = Counter(item.what for item in candidates)
    sizes = {what: sum(item.size for item in candidates if item.what == what) for what in counts}
    if counts:
        terminal.table(
            "waste",
            ["what", "number", "size"],
            [[what, n, _mb(sizes[what])] for what, n in counts.items()],
        )
    terminal.say(
        "nothing was removed; leave out --dry-run"
        if dry and candidates
        else f"{_mb(won)} freed"
        if candidates
        else "nothing to remove"
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
