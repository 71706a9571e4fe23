"""The setting `files_url`: what is wrong with it, and the store that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import fsspec

from tap_defender_lr.file_store import DirectoryStore
from tap_defender_lr.remote_store import EXTRAS, RemoteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_defender_lr.file_store import FileStore

_EXAMPLES = (
    "a directory, s3://bucket/folder, abfs://container@account.dfs.core.windows.net/folder or gs://bucket/folder"
)


def problems(files_url: str) -> Iterator[str]:
    """One sentence if no file could be stored there. Makes no call, but imports the driver."""
    scheme = _scheme(files_url)
    if scheme is None:
        return
    parts = urlsplit(files_url)
    if scheme in {"http", "https"}:
        yield f"`files_url` is a web address, to which no file can be written: use {_EXAMPLES}."
    elif "::" in files_url:
        yield f"`files_url` must be one address, not a chain of them: use {_EXAMPLES}."
    elif parts.password is not None or parts.query or parts.fragment:
        yield (
            "`files_url` must hold no password, query or fragment, since it is written into each row: the driver takes "
            "credentials from the environment."
        )
    elif scheme in EXTRAS and not parts.netloc:
        yield f"`files_url` names no bucket or container: use {_EXAMPLES}."
    else:
        yield from _driver_problems(scheme)


def _driver_problems(scheme: str) -> Iterator[str]:
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        if scheme in EXTRAS:
            package = f"tap-defender-lr[{EXTRAS[scheme]}]"
            yield (
                f"`files_url` begins with {scheme}://, for which the driver is missing: pip install '{package}' (with "
                f"Meltano: pip_url: {package})."
            )
        else:
            yield f"`files_url` begins with {scheme}://, for which the driver is missing ({str(error).rstrip('.')})."
    except ValueError:
        yield f"`files_url` begins with {scheme}://, which is unknown: use {_EXAMPLES}."


def open_store(files_url: str) -> FileStore:
    """The store that the setting names. Checks nothing yet.

    Raises:
        StoreRefusedError: The driver does not take the address.
    """
    return DirectoryStore(_directory(files_url)) if _scheme(files_url) is None else RemoteStore(files_url)


def _scheme(files_url: str) -> str | None:
    """`s3` for `s3://…`, None for a directory. A single letter is a drive of Windows."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?=//|:)|(file|local):", files_url)
    scheme = (found[1] or found[2]).lower() if found else None
    return None if scheme in {None, "file", "local"} else scheme


def _directory(files_url: str) -> Path:
    if not re.match("(?i)(?:file|local):", files_url):
        return Path(files_url).expanduser().absolute()
    path = unquote(urlsplit(files_url).path)
    return Path(path.lstrip("/") if re.match("/+[A-Za-z]:", path) else path).absolute()
