"""The pieces of one result → records and errors. Pure."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tap_defender_lr.pieces import Reject, Row, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tap_defender_lr.columns import Table

logger = logging.getLogger(__name__)

MAX_ROWS = 200_000
"""Rows that one result becomes: ten megabytes of output hold more only if a device wants to fill the warehouse."""
MAX_ERRORS = 100
"""Errors of one result that have a row of their own: a device may print anything, also ten megabytes of them."""


class ResultRows:
    """The pieces of one result → records and errors, and how many there were.

    Attributes:
        complete: The whole output was read and every piece of it has its row.
    """

    def __init__(
        self, table: Table, keys: Sequence[str], about: Mapping[str, Any], *, absent: Iterable[str] = ()
    ) -> None:
        self.rows = self.errors = 0
        self.complete = True
        self._table = table
        self._about = about
        self._absent = tuple(absent)  # from the catalog
        # A row has its own place in its result; without it in the key, two rows can have the same one.
        self._keys = () if "row_index" in keys else tuple(keys)
        self._seen: dict[tuple[Any, ...], tuple[int, int]] = {}
        self._told: set[tuple[str | None, str]] = set()
        self._missing = [key for key in keys if key in about and about[key] is None]

    def read(self, pieces: Iterable[Row | Reject]) -> Iterator[dict[str, Any] | Reject]:
        """Yield records, and the errors that have a row of their own."""
        try:
            for piece in pieces:
                if self.rows >= MAX_ROWS:
                    self.complete = False
                    yield from self._tell([Reject(f"there are more than {MAX_ROWS:,} rows in this result")])
                    return
                yield from self._read(piece)
        except Exception as error:  # noqa: BLE001  one output must never stop the others
            self.complete = False
            yield from self._tell([bug(error)])

    def _read(self, piece: Row | Reject) -> Iterator[dict[str, Any] | Reject]:
        if isinstance(piece, Reject):
            self.complete = False
            yield from self._tell([piece])
            return
        cells, errors = self._table.cells(piece)
        if cells is None or self._missing:
            self.complete = False
            if cells is not None:
                reason = f"its key column `{self._missing[0]}` is empty: the service does not tell it"
                errors = [_reject(piece, reason)]
            yield from self._tell(errors)
            return
        yield from self._tell(errors)
        if not errors and all(cell is None for cell in cells.values()):
            yield from self._tell([replace(_reject(piece, "there is nothing in the row"), once=True)])
            return
        record = {**self._about, "row_index": piece.index, **cells}
        if self._keys and (twin := self._twin(record, cells, piece.index)) is not None:
            yield from self._tell([_reject(piece, twin)] if twin else [])
            return
        self.rows += 1
        for name in self._absent:
            record.pop(name, None)
        yield record

    def _twin(self, record: Mapping[str, Any], cells: Mapping[str, Any], index: int) -> str | None:
        """What is wrong with a row whose key an earlier row has: nothing if all its columns are the same."""
        key = tuple(repr(cell) if isinstance(cell, (dict, list)) else cell for cell in map(record.get, self._keys))
        content = hash(repr(cells))
        earlier, same = self._seen.setdefault(key, (index, content))
        if earlier == index:
            return None
        if content == same:
            return ""
        return f"row {earlier} has the same key ({', '.join(self._keys)}): a column is missing in `key_properties`"

    def _tell(self, errors: Iterable[Reject]) -> Iterator[Reject]:
        for error in errors:
            if error.once:
                if (error.column, error.reason) in self._told:
                    continue
                self._told.add((error.column, error.reason))
            self.errors += 1
            if self.errors <= MAX_ERRORS:
                yield error


def _reject(row: Row, reason: str) -> Reject:
    return Reject(reason, shown(row.values), row.location, row.index)


def bug(error: Exception) -> Reject:
    """What is told of an output over which the tap stumbled."""
    logger.error("This is a bug in the tap; please report it with these lines.", exc_info=error)
    return Reject(f"the tap could not read on ({type(error).__name__}): please report it")
