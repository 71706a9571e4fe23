"""The setting `files_url`: what is wrong with it, and the store that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

import fsspec

from tap_defender_lr.file_store import DirectoryStore
from tap_defender_lr.remote_store import EXTRAS, RemoteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_defender_lr.file_store import FileStore

_EXAMPLES = (
    "a directory, s3://bucket/folder, abfs://container@account.dfs.core.windows.net/folder or gs://bucket/folder"
)
_FILE_URL = re.compile("(?i)(?:file|local):")


def problems(files_url: str) -> Iterator[str]:
    """One sentence if no file could be stored there. Makes no call, but imports the driver."""
    scheme = _scheme(files_url)
    if scheme is None and not _FILE_URL.match(files_url):
        yield from _path_problems(files_url)
        return
    try:
        parts = urlsplit(files_url)
    except ValueError:  # half an IPv6 address in brackets, say
        yield f"`files_url` is not an address: use {_EXAMPLES}."
        return
    if "::" in files_url:
        yield f"`files_url` must be one address, not a chain of them: use {_EXAMPLES}."
    elif not _is_plain(parts):
        yield (
            "`files_url` must hold no password, query or fragment, since it is written into each row: the driver takes "
            "credentials from the environment."
        )
    elif scheme is None:
        if parts.netloc not in {"", "localhost"}:
            yield "`files_url` names another machine: write the path under which this one sees its directory."
    elif scheme in {"http", "https"}:
        yield f"`files_url` is a web address, to which no file can be written: use {_EXAMPLES}."
    elif scheme in EXTRAS and not parts.netloc:
        yield f"`files_url` names no bucket or container: use {_EXAMPLES}."
    else:
        yield from _driver_problems(scheme)


def _path_problems(path: str) -> Iterator[str]:
    if re.match("[A-Za-z][A-Za-z0-9+.-]+:", path):  # a single letter is a drive of Windows
        yield f"`files_url` has a scheme without //, or a colon in the name of its directory: use {_EXAMPLES}."
        return
    try:
        Path(path).expanduser()
    except RuntimeError:
        yield "`files_url` begins with ~, but this machine knows no such home directory: write the whole path."


def _is_plain(parts: SplitResult) -> bool:
    try:
        return parts.password is None and not parts.query and not parts.fragment and parts.port is not False
    except ValueError:  # a password with a slash in it looks like a port
        return False


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
    """The store that the setting names.

    Raises:
        StoreFailedError: The driver does not take the address, or does not get there.
    """
    return DirectoryStore(_directory(files_url)) if _scheme(files_url) is None else RemoteStore(files_url)


def _scheme(files_url: str) -> str | None:
    """`s3` for `s3://…`, None for a directory."""
    found = re.match("([A-Za-z][A-Za-z0-9+.-]+):(?=//|:)", files_url)
    scheme = found[1].lower() if found else None
    return None if scheme in {None, "file", "local"} else scheme


def _directory(files_url: str) -> Path:
    if not _FILE_URL.match(files_url):
        return Path(files_url).expanduser().absolute()
    path = unquote(urlsplit(files_url).path)
    return Path(path.lstrip("/") if re.match("/+[A-Za-z]:", path) else path).absolute()
