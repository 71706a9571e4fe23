"""The one choke point: no token, secret or download link in any text that leaves the process.

Every log record of the process passes through here when it is made, whichever logger or handler it is for
(`install`), and every sentence that quotes the service or an exception is redacted before it becomes a log line,
an error or a `result_error`. The whole query string of an URL counts as secret: a download link is a credential.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

MASK = "***"
_PATTERNS = (
    # The query string of an URL or of a request line ("GET /container/blob?se=…&sig=… HTTP/1.1").
    (re.compile(r"((?:https?://|/)[^\s\"'<>?]*)\?[^\s\"'<>]*"), rf"\1?{MASK}"),
    (re.compile(r"((?:^|[?&;\s\"'])sig=)[^&\s\"'<>]+"), rf"\1{MASK}"),
    # JSON web tokens, whole or as the argument of an Authorization header.
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?"), MASK),
    (re.compile(r"(?i)(bearer\s+)[\w.~+/-]{8,}=*"), rf"\1{MASK}"),
    (
        re.compile(
            r"(?i)((?:client_secret|client_assertion|access_token|refresh_token)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+"
        ),
        rf"\1{MASK}",
    ),
)
_known: tuple[str, ...] = ()


def remember(secret: str | None) -> None:
    """From now on this very text is masked wherever it appears."""
    global _known  # noqa: PLW0603  replaced as a whole, so that other threads can go over it meanwhile
    if secret and len(secret) >= 8 and secret not in _known:
        _known = (*_known, secret)


def redact(text: object) -> str:
    """The text without any secret."""
    result = str(text)
    for secret in _known:
        result = result.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        result = pattern.sub(replacement, result)
    return result


class _RedactedRecord(logging.LogRecord):
    """A log record that holds no secret, neither in its message nor in its exception."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._redact_message()
        if self.exc_info and self.exc_info[1] is not None:
            # A formatter prints `exc_text` when it is set; structured ones read the exception itself,
            # so that is replaced by a bare stand-in with a redacted text.
            self.exc_text = redact("".join(traceback.format_exception(*self.exc_info)).rstrip())
            self.exc_info = _stand_in(self.exc_info[1], self.exc_info[2])

    def _redact_message(self) -> None:
        try:
            message = super().getMessage()
        except (TypeError, ValueError):  # a wrong format string must not hide what it wanted to say
            message = f"{self.msg} {self.args}"
        redacted = redact(message)
        if redacted != message:
            self.msg, self.args = redacted, ()


def _stand_in(
    error: BaseException, trace: TracebackType | None
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    kind = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})
    return kind, kind(redact(error)), trace


def install() -> None:
    """Make every log record of this process pass through redaction."""
    logging.setLogRecordFactory(_RedactedRecord)
