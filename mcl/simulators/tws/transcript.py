"""All traffic on disk, in the columns of the recordings of real servers: one message per line,
separated by tabs.

    seq · client · direction (S server to client, C client to server) · server version · kind ·
    provenance · fields as JSON · note

The note has the seconds since the server started and the market clock. A line `# …` is something
that happened to the server.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from mcl.base.errors import BrokerError
from mcl.base.files import private_file, refuse_no_file
from mcl.simulators.tws.messages import MessageError, Values
from mcl.simulators.tws.request_messages import REQUESTS
from mcl.simulators.tws.response_messages import ANSWERS
from mcl.simulators.tws.stamps import local_time

_ANSWERS = {message.id: message for message in ANSWERS.values()}
_HEAD = "# seq\tclient\tdirection\tserver_version\tkind\tprovenance\tfields\tnote\n"


class Transcript:
    """Appends to `path`. Lines reach the disk when the file is closed, or at the latest after a
    second of traffic.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = private_file(path).open("a", encoding="utf-8")
        except OSError as error:
            raise BrokerError(
                f"the transcript {path} cannot be written: {error.strerror or error}"
            ) from None
        self._start = self._flushed = time.monotonic()
        self._seq = 0
        if self._file.tell() == 0:
            self._file.write(_HEAD)

    def message(
        self, direction: str, client: int, version: int, fields: list[str], market_ns: int
    ) -> None:
        self._seq += 1
        now = time.monotonic()
        note = f"t={now - self._start:.6f} {local_time(market_ns)}"
        text = json.dumps(fields, ensure_ascii=False)
        columns = (f"{self._seq:06d}", f"client-{client}", direction, str(version or "?"))
        self._file.write("\t".join((*columns, "raw", "simulated", text, note)) + "\n")
        if now - self._flushed > 1:
            self._file.flush()
            self._flushed = now

    def note(self, text: str, market_ns: int) -> None:
        self._file.write(f"# {local_time(market_ns)} {text}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()


class TranscriptLine(NamedTuple):
    """One message of a transcript: `values` by name where its table is known and fits, else by
    position.
    """

    seq: str
    client: str
    direction: str
    name: str
    values: Values
    note: str


def read(path: Path) -> Iterator[TranscriptLine]:
    """The messages of a transcript or of a recording. BrokerError for a file that is none."""
    refuse_no_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"the transcript {path} cannot be read: {error}") from None
    for number, row in enumerate(text.splitlines(), 1):
        if row.startswith("#") or not row.strip():
            continue
        columns = row.split("\t")
        if len(columns) < 7:
            raise BrokerError(
                f"line {number} of {path} has {len(columns)} columns; a transcript has 8"
            )
        yield _line(columns, number, path)


def _line(columns: list[str], number: int, path: Path) -> TranscriptLine:
    try:
        fields = json.loads(columns[6])
    except ValueError:
        raise BrokerError(f"line {number} of {path}: the fields are no JSON list") from None
    name, values = _named(columns[2], columns[3], fields)
    return TranscriptLine(
        columns[0], columns[1], columns[2], name, values, columns[7] if len(columns) > 7 else ""
    )


def _named(direction: str, version: str, fields: list[str]) -> tuple[str, Values]:
    tables = _ANSWERS if direction == "S" else REQUESTS
    plain = {str(n): text for n, text in enumerate(fields[1:], 1)}
    if not fields or not fields[0].isdigit() or (len(fields) == 2 and not fields[1].isdigit()):
        return "handshake", {str(n): text for n, text in enumerate(fields)}
    message = tables.get(int(fields[0]))
    if message is None:
        return f"message {fields[0]}", plain
    try:
        return message.name, message.decode(int(version) if version.isdigit() else 178, fields)
    except MessageError:
        return message.name, plain


def summary(line: TranscriptLine, whole: bool = False) -> str:
    """Return the important fields of a message on one line; with `whole` all that are not empty."""
    brief = line.values if whole else {k: v for k, v in line.values.items() if k in _TELLING}
    fields = {k: v for k, v in brief.items() if v not in ("", None, False, [])}
    if not fields and not whole:
        fields = {k: v for k, v in list(line.values.items())[:6] if v not in ("", None, False, [])}
    return " ".join(f"{k}={_short(v)}" for k, v in fields.items())


def _short(value: object) -> str:
    text = f"[{len(value)}]" if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


_TELLING = {  # what a reader looks for first
    *(
        "order_id",
        "req_id",
        "code",
        "text",
        "status",
        "filled",
        "remaining",
        "average_price",
        "why_held",
        "action",
        "quantity",
    ),
    *(
        "order_type",
        "limit_price",
        "aux_price",
        "tif",
        "oca_group",
        "parent_id",
        "transmit",
        "what_if",
        "order_ref",
        "local_symbol",
    ),
    *(
        "execution_id",
        "side",
        "shares",
        "price",
        "commission",
        "realized",
        "position",
        "average_cost",
        "key",
        "value",
        "currency",
    ),
    *(
        "tick_type",
        "size",
        "date",
        "open",
        "high",
        "low",
        "close",
        "time",
        "accounts",
        "client_id",
        "bars",
    ),
}
