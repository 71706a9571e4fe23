"""`python -m defender_simulator`: the simulator from the command line, for a first look at the tap without a tenant."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from defender_simulator.fleet import make_tenant
from defender_simulator.simulator import Simulator

_PORTS = (9443, 9444, 9445)
_QUOTA = (100, 1500)

_DESCRIPTION = """\
A Microsoft Defender for Endpoint API, an Entra sign-in and a blob store on localhost over TLS, with an invented fleet
of devices and the results of scripts that ran on them. It is as strict as the service: real tokens, signed links that
expire, the same quota, the same errors. Nothing leaves this machine."""

_EXAMPLE = """\
example, in two terminals:
  python -m defender_simulator --devices 40 --write-config demo

  export REQUESTS_CA_BUNDLE=demo/ca.pem
  tap-defender-lr --config demo/config.json

The certificate is made anew at each start, and trusted only where the variable is set."""


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    simulator = Simulator(
        make_tenant(devices=options.devices, seed=options.seed),
        calls_per_minute=options.calls_per_minute,
        calls_per_hour=options.calls_per_hour,
        api_latency=tuple(options.api_latency),
        blob_latency=tuple(options.blob_latency),
        ports=tuple(options.ports),
        seed=options.seed,
    )
    with simulator:
        print(f"sign-in {simulator.login_url}   API {simulator.api_url}   blob store {simulator.blob_url}")
        if options.write_config is not None:
            write_config(simulator, options.write_config, _quota_settings(options))
            print(f"export REQUESTS_CA_BUNDLE={options.write_config / 'ca.pem'}")
            print(f"tap-defender-lr --config {options.write_config / 'config.json'}")
        print("Stop with Ctrl-C.", flush=True)
        while not stop.wait(0.5):  # a wait without end could not be interrupted on Windows
            pass
    counts = Counter(call.endpoint for call in simulator.log)
    print(f"{counts.total()} requests: " + (", ".join(f"{n} {name}" for name, n in counts.items()) or "none"))


def write_config(simulator: Simulator, directory: Path, more: dict[str, Any]) -> None:
    """Writes `config.json` for the tap, readable by its owner only, and `ca.pem` into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(simulator.ca_file, directory / "ca.pem")
    path = directory / "config.json"
    path.unlink(missing_ok=True)  # the mode is set at creation only
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump({**simulator.settings(), **more}, file, indent=2)
        file.write("\n")


def _quota_settings(options: argparse.Namespace) -> dict[str, int]:
    """The tap knows the service's quota; another one it must be told."""
    if (options.calls_per_minute, options.calls_per_hour) == _QUOTA:
        return {}
    return {"calls_per_minute": options.calls_per_minute, "calls_per_hour": options.calls_per_hour}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m defender_simulator",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--devices", type=int, default=40, metavar="N", help="size of the fleet (default: %(default)s)")
    add("--seed", type=int, default=7, metavar="N", help="another seed, another fleet (default: %(default)s)")
    add(
        "--ports",
        type=int,
        nargs=3,
        default=_PORTS,
        metavar=("SIGN_IN", "API", "BLOB"),
        help="0 takes any free port (default: 9443 9444 9445)",
    )
    add("--calls-per-minute", type=int, default=_QUOTA[0], metavar="N", help="quota (default: %(default)s)")
    add("--calls-per-hour", type=int, default=_QUOTA[1], metavar="N", help="quota (default: %(default)s)")
    for server in ("api", "blob"):
        add(
            f"--{server}-latency",
            type=float,
            nargs=2,
            default=(0.0, 0.0),
            metavar=("LOW", "HIGH"),
            help=f"seconds to an answer of the {server} server (default: 0 0)",
        )
    add(
        "--write-config",
        type=Path,
        metavar="DIR",
        help="write config.json for the tap and ca.pem into DIR, and print the commands to run",
    )
    return parser


if __name__ == "__main__":
    main()
