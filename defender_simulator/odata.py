"""The query options of the machine actions list: filter, order, paging (pure)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from odata_query import ast
from odata_query.exceptions import ODataException, ODataSyntaxError
from odata_query.grammar import ODataLexer, ODataParser

Action = dict[str, Any]
Predicate = Callable[[Action], bool]

#: Largest `$top`, as documented.
MAX_TOP = 10_000
#: The fields that Microsoft documents for `$filter`, with their types.
FILTER_FIELDS = {
    "id": "Edm.String",
    "status": "Edm.String",
    "machineId": "Edm.String",
    "type": "Edm.String",
    "requestor": "Edm.String",
    "creationDateTimeUtc": "Edm.DateTimeOffset",
}
ORDER_FIELDS = ("creationDateTimeUtc", "lastUpdateDateTimeUtc")

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d)?(?:\.(\d{1,7}))?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
_TICKS_PER_SECOND = 10_000_000
_COMPARISONS: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}


class QueryError(ValueError):
    """A query that the service answers with 400; `code` is the error code of the answer."""

    def __init__(self, message: str, code: str = "ODataError") -> None:
        super().__init__(message)
        self.code = code


@lru_cache(maxsize=65_536)
def ticks(text: str) -> int:
    """Time as the service counts it: units of 100 ns since 1970, exactly. The text has 0 to 7 decimals and a zone."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time with a zone: {text}")
    minute, second, fraction, zone = match.groups()
    whole = datetime.fromisoformat(f"{minute}{second or ':00'}{'+00:00' if zone in 'zZ' else zone}")
    seconds = round((whole - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds())
    return seconds * _TICKS_PER_SECOND + int((fraction or "").ljust(7, "0"))


@dataclass(frozen=True)
class Operand:
    kind: str
    value: Callable[[Action], Any]


def compile_filter(text: str) -> Predicate:
    try:
        tree = ODataParser().parse(ODataLexer().tokenize(text.strip()))
    except ODataSyntaxError as error:
        raise QueryError(f"Syntax error in $filter '{text}': {error}", "BadRequest") from error
    except ODataException as error:
        raise QueryError(str(error)) from error
    if tree is None:
        raise QueryError("$filter is empty.", "BadRequest")
    return _predicate(tree)


def _predicate(node: Any) -> Predicate:
    if isinstance(node, ast.BoolOp):
        left, right = _predicate(node.left), _predicate(node.right)
        if isinstance(node.op, ast.And):
            return lambda action: left(action) and right(action)
        return lambda action: left(action) or right(action)
    if isinstance(node, ast.Compare):
        return _comparison(node)
    if isinstance(node, ast.Call) and node.func.name == "startswith":
        text, start = (_operand(argument) for argument in node.args)
        if (text.kind, start.kind) != ("Edm.String", "Edm.String"):
            raise QueryError("No function signature for the function with name 'startswith' matches the arguments.")
        return lambda action: (text.value(action) or "").startswith(start.value(action))
    raise QueryError(f"The query filter uses '{type(node).__name__}', which is not supported here.")


def _comparison(node: Any) -> Predicate:
    compare = _COMPARISONS.get(type(node.comparator))
    if compare is None:
        raise QueryError(f"The operator '{type(node.comparator).__name__}' is not supported here.")
    left, right = _operand(node.left), _operand(node.right)
    equality = compare in {operator.eq, operator.ne}
    if left.kind != right.kind and not (equality and "null" in {left.kind, right.kind}):
        raise QueryError(
            "A binary operator with incompatible types was detected. Found operand types "
            f"'{left.kind}' and '{right.kind}' for operator kind '{type(node.comparator).__name__}'."
        )

    def holds(action: Action) -> bool:
        first, second = left.value(action), right.value(action)
        if not equality and (first is None or second is None):
            return False  # OData: an order comparison with null is false
        return compare(first, second)

    return holds


def _operand(node: Any) -> Operand:
    if isinstance(node, ast.Identifier):
        name = ".".join((*node.namespace, node.name))
        kind = FILTER_FIELDS.get(name)
        if kind is None:
            raise QueryError(f"The property '{name}' cannot be used in the $filter query option.")
        if kind == "Edm.DateTimeOffset":
            return Operand(kind, lambda action: None if action[name] is None else ticks(action[name]))
        return Operand(kind, lambda action: action[name])
    if isinstance(node, ast.DateTime):
        try:
            time = ticks(node.val)
        except ValueError as error:
            raise QueryError(str(error), "BadRequest") from error
        return Operand("Edm.DateTimeOffset", lambda _action: time)
    if isinstance(node, ast.String):
        text: str = node.val
        return Operand("Edm.String", lambda _action: text)
    if isinstance(node, ast.Null):
        return Operand("null", lambda _action: None)
    return Operand(f"Edm.{type(node).__name__}", lambda _action: None)


@dataclass(frozen=True)
class Query:
    """One reading of the list. `top` is None when the caller left the size of a page to the service."""

    options: dict[str, str]
    where: Predicate
    order: str
    descending: bool
    top: int | None
    skip: int

    @classmethod
    def parse(cls, query_string: str) -> Query:
        options = dict(parse_qsl(query_string, keep_blank_values=True))
        for name in options:
            if name not in {"$filter", "$top", "$skip", "$orderby"}:
                raise QueryError(f"The query parameter '{name}' is not supported.")
        order, descending = _order(options.get("$orderby", "creationDateTimeUtc desc"))
        top = _number(options, "$top")
        if top is not None and top > MAX_TOP:
            raise QueryError(f"The limit of '{MAX_TOP}' for Top query has been exceeded. The value is '{top}'.")
        return cls(
            options=options,
            where=compile_filter(options["$filter"]) if "$filter" in options else lambda _action: True,
            order=order,
            descending=descending,
            top=top,
            skip=_number(options, "$skip") or 0,
        )

    def page(self, actions: Iterable[Action], page_size: int) -> tuple[list[Action], str | None]:
        """Gives a page, and the query string of the next one. With `$top` there is no next: the caller uses `$skip`."""
        rows = [action for action in actions if self.where(action)]
        rows.sort(key=lambda action: ticks(action[self.order]), reverse=self.descending)
        size = page_size if self.top is None else min(self.top, page_size)
        end = self.skip + size
        if self.top is not None or end >= len(rows):
            return rows[self.skip : end], None
        following = urlencode({**self.options, "$skip": str(end)}, safe="$", quote_via=quote)
        return rows[self.skip : end], following


def _order(text: str) -> tuple[str, bool]:
    match = re.fullmatch(r"\s*(\w+)(?:\s+(asc|desc))?\s*", text)
    if match is None or match[1] not in ORDER_FIELDS:
        raise QueryError(f"The $orderby query option '{text}' is not supported here.")
    return match[1], match[2] == "desc"


def _number(options: dict[str, str], name: str) -> int | None:
    text = options.get(name)
    if text is None:
        return None
    if re.fullmatch("[0-9]{1,9}", text) is None:
        raise QueryError(f"Invalid value '{text}' for {name} query option found. It requires a non-negative integer.")
    return int(text)
