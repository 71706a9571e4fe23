"""The command line: whatever ends a run ends it with one sentence on stderr and the documented exit code."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import NoReturn

import click

from tap_defender_lr import redaction
from tap_defender_lr.errors import TapError
from tap_defender_lr.tap import TapDefenderLr


def main() -> NoReturn:
    """Run the tap and exit: 0 done, 1 a stated failure, 143 and 130 after SIGTERM and SIGINT."""
    redaction.install()
    code = _run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        pass
    if code or threading.active_count() > 1:
        # Workers may hang in a download, and a dead pipe raises again when the interpreter flushes it.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    logger = logging.getLogger(TapDefenderLr.name)
    try:
        code = TapDefenderLr.cli(standalone_mode=False)
    except SystemExit as exit_:
        if not isinstance(exit_.code, str):
            return exit_.code or 0
        logger.error("%s", exit_.code)
    except click.Abort:
        return 130
    except click.ClickException as error:
        logger.error("%s", error.format_message())
    except TapError as error:
        logger.error("%s", error)
    except Exception:
        logger.exception("This is a bug in the tap; please report it with these lines.")
    else:
        return code if isinstance(code, int) else 0
    return 1


if __name__ == "__main__":
    main()
