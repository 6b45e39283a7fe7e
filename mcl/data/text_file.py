"""Open a file of text: unpacked, whatever its name says, in the encoding that its bytes show."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import IO, TextIO, cast

from mcl.base.errors import DataError

_HEAD = 64  # bytes that show the encoding
_LONGEST_MAGIC = 8
_MAGIC = {  # the first bytes of what a file is packed or written with
    b"\x1f\x8b": ".gz",
    b"PK\x03\x04": ".zip",
    b"BZh": ".bz2",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\xd0\xcf\x11\xe0": ".xls",
}
_SHEET = "[Content_Types].xml"  # in the zip that a spreadsheet is


def encoding_of(path: Path, default: str) -> str:
    """The encoding that the first bytes say, else the default."""
    with opened(path, "latin-1") as file:
        head = file.read(_HEAD).encode("latin-1")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    half = len(head) // 2
    if half and head[1::2] == bytes(half):
        return "utf-16-le"
    if half and head[: 2 * half : 2] == bytes(half):
        return "utf-16-be"
    return "utf-8-sig" if default.lower().replace("_", "-") in ("utf-8", "utf8") else default


def opened(path: Path, encoding: str) -> TextIO:
    """The file as text, unpacked where its first bytes or its name say that it is packed."""
    pack = _pack(path)
    raw: IO[bytes]
    if pack == ".zip":
        raw = _member(path)
    elif pack == ".xls":
        raise _spreadsheet(path)
    elif pack == ".zst":
        import zstandard

        raw = zstandard.open(path, "rb")
    else:
        packed = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile}
        raw = path.open("rb") if pack not in packed else cast("IO[bytes]", packed[pack](path))
    try:
        return io.TextIOWrapper(raw, encoding=encoding)
    except BaseException:  # an encoding that there is not
        raw.close()
        raise


def _pack(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(_LONGEST_MAGIC)
    return next((p for magic, p in _MAGIC.items() if head.startswith(magic)), path.suffix.lower())


def _member(path: Path) -> IO[bytes]:
    """The one file in a zip; what a computer adds of its own is none."""
    archive = zipfile.ZipFile(path)
    every = archive.namelist()
    if _SHEET in every:
        raise _spreadsheet(path)
    names = [n for n in every if not n.endswith("/") and not _is_hidden(n)]
    if len(names) != 1:
        raise DataError(
            f"{path} holds {len(names)} files: {', '.join(names[:5])}",
            "unpack it and set data.path to one of them, or to their folder",
        )
    return archive.open(names[0])


def _is_hidden(name: str) -> bool:
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith(".")


def _spreadsheet(path: Path) -> DataError:
    return DataError(f"{path} is a spreadsheet, not a CSV", "save its sheet as CSV")
