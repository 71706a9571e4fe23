"""Names of collected files: what a device says, and what a store is told. Pure.

A compromised device chooses the names of its files, and perhaps the headers around them, so nothing in them may lead
out of the folder, hide the file, be taken for a device or for an option of a command, or need quoting in an URL.
"""

from __future__ import annotations

import re
import unicodedata
from email.message import Message
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tap_defender_lr.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMELESS = "file"
_MAX_GIVEN = 4096
_MAX_SAFE = 120
_MAX_ENDING = 16
_WINDOWS_DEVICES = re.compile(r"(?:CON|PRN|AUX|NUL|CLOCK\$|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9])(?=\.|$)", re.IGNORECASE)
_OF_EVERY_RESULT = re.compile(r"output_[0-9a-f-]{36}_\d+\b", re.IGNORECASE)
"""Links of all results carry such a name (`rscd`): it says nothing about the file."""
_FEXTRA, _FNAME = 4, 8


def last_part(path: str) -> str | None:
    """The part after the last slash or backslash, at most 4,096 characters of it; None if there is none."""
    name = re.split(r"[/\\]", path.strip())[-1]
    return clean_text(name)[:_MAX_GIVEN] or None


def safe_name(name: str) -> str:
    """A name of at most 120 letters, digits, `.`, `_` and `-` that resembles the given one, and is harmless."""
    letters = unicodedata.normalize("NFKD", name[:_MAX_GIVEN])
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", letters).lstrip(".-").rstrip(".")
    if len(safe) > _MAX_SAFE:
        stem, _, ending = safe.rpartition(".")
        ending = f".{ending}" if stem and len(ending) <= _MAX_ENDING else ""
        safe = f"{safe[: _MAX_SAFE - len(ending)].rstrip('.')}{ending}"
    if _WINDOWS_DEVICES.match(safe):
        safe = f"_{safe}"
    return safe or NAMELESS


def name_in_headers(headers: Mapping[str, str]) -> str | None:
    """The name in `Content-Disposition`, if it is one of a file; SOAR products met `<name>.gz`, percent-encoded."""
    message = Message()
    message["Content-Disposition"] = headers.get("Content-Disposition", "").encode("ascii", "replace").decode()
    try:
        name = message.get_filename()
    except (TypeError, ValueError):  # the email package stumbles over some
        return None
    if not name or _OF_EVERY_RESULT.match(name):
        return None
    name = last_part(unquote(name))
    return name.removesuffix(".gz") or None if name else None


def name_in_gzip(head: bytes) -> str | None:
    """The name in the header of a gzip stream (RFC 1952: ISO 8859-1, ended by a zero byte)."""
    flags = head[3] if len(head) >= 10 else 0
    if not flags & _FNAME:
        return None
    start = 10
    if flags & _FEXTRA:
        start += 2 + int.from_bytes(head[10:12], "little")
    end = head.find(b"\0", start)
    return last_part(head[start:end].decode("latin-1")) if end > start else None
