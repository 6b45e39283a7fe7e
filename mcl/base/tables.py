"""A table as lines of text for the width that there is.

No word is broken and nothing is cut. What does not fit is dropped by rank, then turned: rows for
columns, or one block of lines per row. A column of sentences wraps between words.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

GAP = "  "
SENTENCE_WORDS = 4  # a cell of so many words, and longer than SENTENCE characters, may wrap
SENTENCE = 24
TURNED_ROWS = 5  # a table of more rows is not turned into columns but into blocks

Lines = list[str]


@dataclass(frozen=True)
class _Column:
    header: str
    cells: tuple[str, ...]
    left: bool

    @property
    def wraps(self) -> bool:
        return any(
            len(cell) > SENTENCE and len(cell.split()) >= SENTENCE_WORDS for cell in self.cells
        )

    @property
    def natural(self) -> int:
        return max(map(len, (self.header, *self.cells)))

    @property
    def narrowest(self) -> int:
        head = max(map(len, self.header.split()), default=0)
        if not self.wraps:
            return max(head, *map(len, self.cells), 0)
        words = max(len(word) for cell in self.cells for word in cell.split() or [""])
        return max(head, words, min(SENTENCE, self.natural))


def lines(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    left: int = 1,
    least: Sequence[str] = (),
) -> Lines:
    """Header, rule and rows. `left`: so many columns are aligned left, the others are numbers.
    `least`: columns that may be missing where there is no room, the first one first; the last line
    names them.
    """
    visible = [
        _Column(name, tuple(row[i] for row in rows), i < left) for i, name in enumerate(columns)
    ]
    dropped: Lines = []
    for name in ("", *least):
        if any(column.header == name for column in visible) and name:
            visible = [column for column in visible if column.header != name]
            dropped.append(name)
        if _total([column.narrowest for column in visible]) <= width:
            note = (
                textwrap.wrap(f"not shown at this width: {', '.join(dropped)}", width)
                if dropped
                else []
            )
            return [*_grid(visible, width), *note]
    return _turned(columns, rows, width)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * max(0, len(widths) - 1)


def _grid(columns: Sequence[_Column], width: int) -> Lines:
    widths = _widths(columns, width)
    header = [_wrapped(column.header, size) for column, size in zip(columns, widths, strict=True)]
    output = _row(columns, widths, header)
    output.append(GAP.join("─" * size for size in widths))
    for i in range(len(columns[0].cells) if columns else 0):
        output += _row(
            columns,
            widths,
            [_wrapped(c.cells[i], size) for c, size in zip(columns, widths, strict=True)],
        )
    return output


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """Each its narrowest, and what is left to those that can use it, the most modest first."""
    widths = [column.narrowest for column in columns]
    spare = width - _total(widths)
    wanting = sorted(range(len(columns)), key=lambda i: columns[i].natural - widths[i])
    for place, i in enumerate(wanting):
        more = min(columns[i].natural - widths[i], spare // (len(wanting) - place))
        widths[i] += more
        spare -= more
    return widths


def _row(columns: Sequence[_Column], widths: Sequence[int], cells: Sequence[Lines]) -> Lines:
    depth = max(map(len, cells), default=0)
    output = []
    for line in range(depth):
        texts = [cell[line] if line < len(cell) else "" for cell in cells]
        aligned = [
            text.ljust(size) if column.left or column.wraps else text.rjust(size)
            for column, size, text in zip(columns, widths, texts, strict=True)
        ]
        output.append(GAP.join(aligned).rstrip())
    return output


def _wrapped(text: str, width: int) -> Lines:
    pieces: Lines = []
    for line in text.split("\n"):
        pieces += textwrap.wrap(
            line, max(1, width), break_long_words=False, break_on_hyphens=False
        ) or [""]
    return pieces


def _turned(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Lines:
    """Rows for columns where they are few and fit, else a block of lines for each; a list of facts
    stays one.
    """
    if len(columns) == 2 and all(len(row[0]) <= width // 2 for row in rows):
        return _facts(columns, rows, width)
    if 0 < len(rows) <= TURNED_ROWS:
        heads = [columns[0], *(row[0] for row in rows)]
        cells = [[name, *(row[i] for row in rows)] for i, name in enumerate(columns) if i]
        turned = [
            _Column(head, tuple(row[i] for row in cells), i == 0) for i, head in enumerate(heads)
        ]
        if _total([column.narrowest for column in turned]) <= width:
            return _grid(turned, width)
    name_width = max(map(len, columns), default=0)
    room = max(1, width - name_width - len(GAP))
    output: Lines = []
    for row in rows:
        for name, cell in zip(columns, row, strict=True):
            if not cell:
                continue
            first, *rest = _wrapped(cell, room)
            output.append(f"{name.ljust(name_width)}{GAP}{first}".rstrip())
            output += [" " * (name_width + len(GAP)) + more for more in rest]
        output.append("")
    return output[:-1]


def _facts(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Lines:
    """Names and values side by side; a value with a word that does not fit there is below its
    name.
    """
    size = max(
        (len(name) for name in (columns[0], *(row[0] for row in rows)) if len(name) <= width // 2),
        default=0,
    )
    room = max(1, width - size - len(GAP))
    output: Lines = []
    if size + len(GAP) + len(columns[1]) <= width and len(columns[0]) <= size:
        output += [
            f"{columns[0].ljust(size)}{GAP}{columns[1]}".rstrip(),
            "─" * size + GAP + "─" * min(room, len(columns[1])),
        ]
    for name, cell in rows:
        if max(map(len, cell.split()), default=0) <= room:
            first, *rest = _wrapped(cell, room)
            output.append(f"{name.ljust(size)}{GAP}{first}".rstrip())
            output += [" " * (size + len(GAP)) + more for more in rest]
        else:
            output += [name, *(GAP + more for more in _wrapped(cell, max(1, width - len(GAP))))]
    return output
