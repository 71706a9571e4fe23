"""JSONPath in settings: the common simple paths quickly, all others with the library that the SDK uses."""

from __future__ import annotations

import re
from typing import Any

from jsonpath_ng.ext.parser import parse

from tap_defender_lr.text import clean

_SIMPLE = re.compile(r"\$((?:\.[A-Za-z_][A-Za-z0-9_-]*)*)")
_ALL = "[*]"


class JsonPath:
    """A path that may end with `[*]`: whether it does makes no difference, since lists are always looked into."""

    def __init__(self, text: str) -> None:
        """Read the path.

        Raises:
            Exception: It is none. The library has many errors for that: `is_valid` knows them.
        """
        self.text = text
        path = text.strip().removesuffix(_ALL) or "$"
        below = path.removeprefix("$")
        self.below = f".{below}" if below and below[0] not in ".[" else below
        simple = _SIMPLE.fullmatch(path)
        self._names = None if simple is None else simple[1].split(".")[1:]
        self._expression = parse(path)

    @staticmethod
    def is_valid(text: str) -> bool:
        """Whether it can be read at all."""
        try:
            JsonPath(text)
        except Exception:  # noqa: BLE001  the library raises almost anything, also bare exceptions
            return False
        return True

    def find(self, document: Any) -> list[Any]:
        """The values at the path, none if there is no such path in the document."""
        if self._names is None:
            try:  # in a document of limited depth, since the library recurses
                return [match.value for match in self._expression.find(clean(document))]
            except Exception:  # noqa: BLE001  a filter or function meets a value that it is not made for
                return []
        for name in self._names:
            if not isinstance(document, dict) or name not in document:
                return []
            document = document[name]
        return [document]
