"""A week of an invented company, day by day, through the real tap, the real Meltano and a simulated Defender API.

`make demo`, or anywhere: `python -m scripts.demo`. Each run is the next day. Needs no tenant and no account, and after
the installation no network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from defender_simulator import Simulator
from defender_simulator.fleet import make_tenant, next_day
from scripts import demo_tables, report, script_library

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from defender_simulator import Tenant

ROOT = Path(__file__).resolve().parent.parent
TAP, LOADER = "tap-defender-lr", "target-jsonl"
SCRIPT = "installed-software"
"""The one of `docs/scripts` whose output becomes a table."""
DEVICES = 24
"""So many that the results of the first two days fit into the 100 calls a minute of the service: nothing waits."""
DAYS = 7
DAY_SECONDS = 24 * 3600
END_SECONDS_AGO = 2 * 3600
"""The last day ends that long before the first run. In a fresher action the tap waits for a result to appear."""
INSTALL_SECONDS, RUN_SECONDS = 900, 300

_CHATTER = ("Beginning ", "Skipping parse", f"{TAP} v")
"""How lines of the SDK begin that tell nothing to somebody who watches."""


class StepFailedError(Exception):
    """A step of the demo failed: what to tell, and the end of its log."""

    def __init__(self, sentence: str, log: Path) -> None:
        super().__init__(sentence)
        self.log = log


@dataclass
class Story:
    """What the demo remembers from run to run.

    Attributes:
        began: Unix time of the first run: the days of the story count from it.
        days: How many days have been played.
    """

    began: float
    days: int = 0

    @classmethod
    def load(cls, path: Path) -> Story:
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls(began=time.time())

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def end_of(self, day: int) -> float:
        return self.began - END_SECONDS_AGO - (DAYS - day) * DAY_SECONDS

    def tenant(self, day: int) -> Tenant:
        """The invented company at the end of a day; the same for everybody, but for the dates."""
        tenant = make_tenant(devices=DEVICES, now=self.end_of(1))
        for each in range(2, day + 1):
            next_day(tenant, devices=DEVICES, now=self.end_of(each))
        return tenant


class Demo:
    """Everything that it makes lies in one directory, a Meltano project of its own."""

    def __init__(self, directory: Path, console: Console) -> None:
        self.directory = directory
        self.console = console
        self.output = directory / "output"
        self.files = directory / "files"
        self.report = directory / "report.html"

    def play(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        story_file = self.directory / "story.json"
        story = Story.load(story_file)
        story.save(story_file)
        day = min(story.days + 1, DAYS)
        self.install()
        known = demo_tables.keys(self.output)
        with Simulator(story.tenant(day)) as simulator:
            self._say_day(day, story, simulator)
            began = time.monotonic()
            self.run(simulator)
            seconds = time.monotonic() - began
            calls = Counter(call.endpoint for call in simulator.log)
        self._say_what_came(known, calls, seconds)
        report.write(self.output, self.report, "Contoso: what the fleet answered to Live Response")
        again = story.days >= DAYS
        story.days = day
        story.save(story_file)
        self._say_next(day, again=again)

    def reset(self) -> None:
        """Forget the days, the rows and Meltano's state. What is installed stays."""
        state = self.directory / ".meltano"
        for path in (self.output, self.files, state / "run"):
            shutil.rmtree(path, ignore_errors=True)
        for path in (self.directory / "story.json", self.report, *state.glob("meltano.db*")):
            path.unlink(missing_ok=True)

    def install(self) -> None:
        """Install tap and loader into environments that Meltano keeps for them, with the pinned versions."""
        project = self._project()
        stamp = self.directory / "installed"
        inputs = [ROOT / "pyproject.toml", *(ROOT / "requirements").glob("*.txt")]
        digest = hashlib.sha256(project.encode() + sys.version.encode() + str(self.directory).encode())
        for path in sorted(inputs):
            digest.update(path.read_bytes())
        if stamp.exists() and stamp.read_text(encoding="utf-8") == digest.hexdigest():
            return
        stamp.unlink(missing_ok=True)
        (self.directory / "meltano.yml").write_text(project, encoding="utf-8")
        log = self.directory / "install.log"
        began = time.monotonic()
        with self.console.status(f"Meltano installs {TAP} and {LOADER}, once …"):
            for _ in _lines(["install", "--clean"], self._environment(), self.directory, log, INSTALL_SECONDS):
                pass
        stamp.write_text(digest.hexdigest(), encoding="utf-8")
        self.console.print(f"Meltano installed {TAP} and {LOADER} in {time.monotonic() - began:.0f} s.")

    def run(self, simulator: Simulator) -> None:
        """Run tap and loader, and show what the tap has to say."""
        for old in self.directory.glob("quota.sqlite*"):  # the simulator has forgotten the calls of the day before, too
            old.unlink()
        environment = self._environment(simulator.settings())
        # The tap must trust the certificate of the simulator, and reach it past any proxy.
        environment |= {"REQUESTS_CA_BUNDLE": simulator.ca_file, "NO_PROXY": "localhost", "no_proxy": "localhost"}
        environment["MELTANO_CLI_LOG_FORMAT"] = "json"
        command = ["run", "--no-install", TAP, LOADER]
        self.console.print(f"\n[bold]$ meltano run {TAP} {LOADER}[/bold]")
        log = self.directory / "meltano.log"
        for line in _lines(command, environment, self.directory, log, RUN_SECONDS):
            if _worth_showing(line):
                style = {"info": "default", "warning": "yellow"}.get(line["level"], "red")
                self.console.print(Padding(Text(str(line["event"]), style), (0, 0, 0, 2), expand=False))

    def _project(self) -> str:
        """The checkout's meltano.yml, with the pinned versions and without anything of the user's own project."""
        project = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
        for kind, source, constraints in (
            ("extractors", ["-e", ROOT.as_posix()], "dev.txt"),
            ("loaders", [project["plugins"]["loaders"][0]["pip_url"]], "target-jsonl.txt"),
        ):
            (plugin,) = project["plugins"][kind]
            plugin["pip_url"] = shlex.join([*source, "-c", (ROOT / "requirements" / constraints).as_posix()])
        project["plugins"]["extractors"][0]["config"] = {"script_streams": [script_library.entry(SCRIPT)]}
        return "# Made by the demo from the meltano.yml of the checkout.\n" + yaml.safe_dump(project, sort_keys=False)

    def _environment(self, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
        """The user's environment, without what is meant for another Meltano project, and with the tap's settings."""
        prefix = f"{TAP}_".upper().replace("-", "_")
        foreign = ("MELTANO_", prefix, f"{LOADER}_".upper().replace("-", "_"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        places = {"quota_store": str(self.directory / "quota.sqlite"), "files_url": str(self.files)}
        settings = {**(settings or {}), **places}
        environment |= {f"{prefix}{name.upper()}": str(value) for name, value in settings.items()}
        return environment | {"MELTANO_PROJECT_ROOT": str(self.directory), "NO_COLOR": "1", "PYTHONUTF8": "1"}

    def _say_day(self, day: int, story: Story, simulator: Simulator) -> None:
        date = datetime.fromtimestamp(story.end_of(day), tz=timezone.utc)
        self.console.rule(f"Day {day} of {DAYS}", align="left")
        self.console.print(
            f"{date:%A, %d %B, %H:%M} UTC. Contoso, an invented company, runs scripts on its {DEVICES} devices. Its "
            f"Defender API is simulated on {simulator.api_url}, as strict as the real one: sign-in, signed links, 100 "
            "calls a minute.",
            highlight=False,
        )

    def _say_what_came(self, known: set[tuple[str, int]], calls: Mapping[str, int], seconds: float) -> None:
        new = demo_tables.keys(self.output) - known
        self.console.print()
        self.console.print(demo_tables.scripts(self.output, new))
        self.console.print()
        if new:
            self.console.print(demo_tables.newest(self.output, new))
            self.console.print()
        self.console.print(demo_tables.software(self.output))
        self.console.print()
        lists, links = calls.get("list", 0), calls.get("link", 0)
        self.console.print(
            f"[bold]New in this run: {_count(len(new), 'result')}[/bold], in {seconds:.0f} s, "
            f"for {_count(lists, 'list call')} and {_count(links, 'link call')}.",
            highlight=False,
        )

    def _say_next(self, day: int, *, again: bool) -> None:
        files = sum(path.is_file() for path in self.files.rglob("*"))
        self.console.print(f"Rows:   {self._shown(self.output)}{os.sep}*.jsonl", soft_wrap=True, highlight=False)
        self.console.print(
            f"Files:  {self._shown(self.files)}, {_count(files, 'file')} collected from devices",
            soft_wrap=True,
            highlight=False,
        )
        self.console.print(f"Report: {self._shown(self.report)}, for your browser", soft_wrap=True, highlight=False)
        self.console.print(f"Log:    {self._shown(self.directory / 'meltano.log')}", soft_wrap=True, highlight=False)
        if again:
            text = "The week was over already, so nothing new could come: a run like this one costs one call."
        elif day == DAYS:
            text = "The week is over; the next run finds nothing new."
        else:
            text = "Next: the same command again. A day goes by, and only what is new is read."
        if day == DAYS:
            text += " To start anew: python -m scripts.demo --reset"
        self.console.print(f"[bold]{text}[/bold]", highlight=False)

    def _shown(self, path: Path) -> Path:
        return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _lines(
    command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path, limit: float
) -> Iterator[dict[str, Any]]:
    """Run Meltano and yield what it logs, line by line. All of it goes into the log file, in a readable form.

    Raises:
        StepFailedError: It failed, or took longer than `limit` seconds.
    """
    what = f"`meltano {' '.join(command)}`"
    with log.open("w", encoding="utf-8") as file, _meltano(command, environment, directory, limit) as (process, late):
        assert process.stdout is not None
        for text in process.stdout:
            line = _parsed(text)
            file.write(_readable(line) if line else text)
            file.flush()
            if line:
                yield line
    if late.is_set():
        raise StepFailedError(f"{what} took longer than {limit:.0f} s.", log)
    if process.returncode != 0:
        raise StepFailedError(f"{what} failed with exit code {process.returncode}.", log)


@contextmanager
def _meltano(
    arguments: Sequence[str], environment: Mapping[str, str], directory: Path, limit: float
) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
    """A Meltano process that does not outlive its block; the event tells that it took too long and was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "meltano.cli", *arguments],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    late = threading.Event()

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limit, kill)
    timer.daemon = True
    timer.start()
    try:
        with process:
            try:
                yield process, late
            except BaseException:
                process.terminate()
                raise
    finally:
        timer.cancel()


def _parsed(text: str) -> dict[str, Any] | None:
    """One line of Meltano's log as JSON, or None for anything else, such as a traceback."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"event", "level"} <= line.keys() else None


def _readable(line: Mapping[str, Any]) -> str:
    time_of_day = str(line.get("timestamp", ""))[11:19]
    text = f"{time_of_day} {line['level']:7} {line.get('name') or 'meltano'}: {line['event']}\n"
    return text + "".join(f"{line[more]}\n" for more in ("metric_info", "exception") if line.get(more))


def _worth_showing(line: Mapping[str, Any]) -> bool:
    if line["level"] in {"error", "critical"}:
        return True
    logger = str(line.get("plugin_logger", "")).replace("_", "-")
    return logger.startswith(TAP) and not str(line["event"]).startswith(_CHATTER)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__)
    parser.add_argument("--reset", action="store_true", help="begin with day 1 again; what is installed stays")
    parser.add_argument("--directory", type=Path, default=ROOT / ".demo", help="where everything goes (default: .demo)")
    options = parser.parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a Windows console may not have every character
    console = Console()
    demo = Demo(options.directory.resolve(), console)
    try:
        if options.reset:
            demo.reset()
        demo.play()
    except StepFailedError as error:
        tail = deque(error.log.read_text(encoding="utf-8").splitlines(), maxlen=25)
        console.print(f"\n[red bold]{escape(str(error))}[/red bold] The end of {error.log}:\n", soft_wrap=True)
        console.print("\n".join(tail), markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped. The next run continues.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
