"""Runs one program and prints its wall time, CPU time and peak memory as JSON.

Usage: python -I -S stopwatch.py STDOUT_FILE STDERR_FILE PROGRAM [ARGUMENT...]

A process of its own, and a small one: on Linux a program's peak memory is never less than that of the process which
started it.
"""

import json
import resource
import subprocess
import sys
import time

_MAX_SECONDS = 1200


def main() -> None:
    with open(sys.argv[1], "wb") as output, open(sys.argv[2], "wb") as errors:  # noqa: PTH123  pathlib is big
        start = time.perf_counter()
        try:
            code = subprocess.call(
                sys.argv[3:], stdin=subprocess.DEVNULL, stdout=output, stderr=errors, timeout=_MAX_SECONDS
            )
        except subprocess.TimeoutExpired:
            code = None
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss * 1024
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps({"exit_code": code, "wall_seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
