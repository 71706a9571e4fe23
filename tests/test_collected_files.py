"""Files of GetFile through the command line, into a directory and into a real S3 server: hashed, never half there."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from defender_simulator import Rule, Simulator
from tests.conftest import TENANT_ID, Cli, Run, World, action_id
from tests.evidence import EVENT_LOG, add_file, files_in, pack, record, sha256, stored
from tests.watching import WatchedCli, check_sentence, fetched, reason, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.s3 import S3

ABOUT = ("file_name", "file_size", "file_sha256", "file_url", "result_size", "result_sha256", "result_error")


@pytest.fixture
def make_cli(tmp_path: Path) -> Callable[..., Cli]:
    return lambda simulator, **settings: WatchedCli(
        tmp_path, simulator, **{"files_url": str(tmp_path / "evidence"), **settings}
    )


class TestWhatIsStored:
    def test_a_packed_file(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        packed = pack(EVENT_LOG, "Security.evtx")
        add_file(world, 1, packed)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator).run()
            calls = [len(simulator.calls(endpoint)) for endpoint in ("list", "link", "blob")]
        assert run.code == 0, run.stderr
        assert calls == [1, 1, 1]
        path = tmp_path / "evidence" / TENANT_ID / action_id(1) / "0" / "Security.evtx"
        found = record(run, 1)
        assert {name: found[name] for name in ABOUT} == {
            "file_name": "Security.evtx",
            "file_size": len(EVENT_LOG),
            "file_sha256": sha256(EVENT_LOG),
            "file_url": path.as_uri(),
            "result_size": len(packed),
            "result_sha256": sha256(packed),
            "result_error": None,
        }
        assert found["result_status"] == "fetched"
        assert (found["script_output"], found["script_output_truncated"], found["exit_code"]) == (None, None, None)
        assert path.read_bytes() == EVENT_LOG
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "Plan: 1 result to read; 1 call for a download link (1 file among them)" in run.stderr
        assert "1 file stored, 5.0 MB in all." in run.stderr

    def test_any_content(self, world: World, make_cli: Callable[..., Cli]) -> None:
        contents = {
            "not packed": (b"plain bytes", b"plain bytes"),
            "empty": (b"", b""),
            "one byte": (b"\x1f", b"\x1f"),
            "an empty file, packed": (pack(b""), b""),
            "several members and padding": (pack(b"a") + pack(b"b") + bytes(512), b"ab"),
            "a file that is gzip itself": (pack(pack(b"content")), pack(b"content")),
            "no other packing is undone": (b"PK\x03\x04 a ZIP archive", b"PK\x03\x04 a ZIP archive"),
        }
        for number, (body, _) in enumerate(contents.values(), 1):
            add_file(world, number, body)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator).run()
        assert statuses(run) == fetched(range(1, len(contents) + 1)), run.stderr
        for number, (body, content) in enumerate(contents.values(), 1):
            found = record(run, number)
            assert stored(run, number).read_bytes() == content
            assert (found["file_size"], found["file_sha256"]) == (len(content), sha256(content))
            assert (found["result_size"], found["result_sha256"]) == (len(body), sha256(body))

    def test_broken_packing_is_kept_as_it_came(self, world: World, make_cli: Callable[..., Cli]) -> None:
        broken = {
            pack(EVENT_LOG)[:-5]: "the gzip stream ends too early",
            pack(EVENT_LOG)[:90_000] + b"?" * 90_000: "the gzip stream is damaged",
            pack(b"a") + b"garbage": "the gzip stream is damaged",
            b"\x1f\x8bonly looks like it": "the gzip stream is damaged",
        }
        for number, body in enumerate(broken, 1):
            add_file(world, number, body)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator).run()
            calls = [len(simulator.calls(endpoint)) for endpoint in ("link", "blob")]
        assert statuses(run) == dict.fromkeys(range(1, 5), "unreadable"), run.stderr
        assert calls == [4, 12]
        for number, (body, words) in enumerate(broken.items(), 1):
            assert reason(run, number) == f"{words}: the file is stored as it came"
            found = record(run, number)
            assert stored(run, number).read_bytes() == body
            assert (found["file_size"], found["result_size"]) == (len(body), len(body))
            assert found["file_sha256"] == found["result_sha256"] == sha256(body)

    def test_what_is_too_large_has_a_row_that_says_so(
        self, world: World, make_cli: Callable[..., Cli], tmp_path: Path
    ) -> None:
        bomb, packed, plain = pack(bytes(50_000_000)), pack(bytes(1_000_001)), bytes(1_000_001)
        # What is much too large already on the wire is not read to its end.
        for number, body in enumerate((bomb, packed, plain, os.urandom(3_000_000), pack(bytes(1_000_000))), 1):
            add_file(world, number, body)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator, max_file_bytes=1_000_000).run()
        assert run.code == 0, run.stderr
        assert statuses(run) == dict.fromkeys(range(1, 5), "unreadable") | fetched([5])
        for number, body in enumerate((bomb, packed, plain, b""), 1):
            assert reason(run, number) == "the file is larger than 1,000,000 bytes (`max_file_bytes`): it is not stored"
            found = record(run, number)
            assert (found["file_size"], found["file_sha256"], found["file_url"]) == (None, None, None)
            whole = (len(body), sha256(body)) if body else (None, None)
            assert (found["result_size"], found["result_sha256"]) == whole
        assert list(files_in(tmp_path / "evidence")) == [f"{TENANT_ID}/{action_id(5)}/0/Security.evtx"]

    def test_hostile_names(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        passwd = 'attachment; filename="/etc/passwd"'
        names: list[tuple[str | None, dict[str, str], bytes, str, str]] = [
            ("..\\..\\..\\x", {}, b"", "x", "x"),
            ("/etc/cron.d/../../x y", {}, b"", "x y", "x_y"),
            ("C:\\CON", {}, b"", "CON", "_CON"),
            ("C:\\" + "n" * 4000 + ".evtx", {}, b"", "n" * 4000 + ".evtx", "n" * 115 + ".evtx"),
            ("C:\\a\x1b[2J\r\n\u202eexe.txt", {}, b"", "a\x1b[2J\r\n\u202eexe.txt", "a_2J_exe.txt"),
            ("..", {}, b"", "..", "file"),
            (None, {"Content_Disposition": "attachment; filename=..%2F..%2Fy.exe.gz"}, b"", "y.exe", "y.exe"),
            (None, {}, pack(b"", "../../z.exe"), "z.exe", "z.exe"),
            (None, {}, b"", "file", "file"),
            ("C:\\", {"Content_Disposition": passwd}, b"", "passwd", "passwd"),
        ]
        for number, (path, headers, body, _, _) in enumerate(names, 1):
            add_file(world, number, body, path, headers=headers)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator).run()
        assert statuses(run) == fetched(range(1, 11)), run.stderr
        assert [record(run, number)["file_name"] for number in range(1, 11)] == [name for *_, name, _ in names]
        assert sorted(files_in(tmp_path / "evidence")) == [
            f"{TENANT_ID}/{action_id(number)}/0/{safe}" for number, (*_, safe) in enumerate(names, 1)
        ]
        outside = {path.name for path in tmp_path.iterdir()}
        assert outside <= {"evidence", "config.json", "state.json", "quota.sqlite", "temporary", "home"}

    def test_an_id_from_the_service_does_not_lead_out_of_the_folder(
        self, world: World, make_cli: Callable[..., Cli], tmp_path: Path
    ) -> None:
        add_file(world, 1, b"content")
        world.tenant.actions[0]["id"] = "..%2F..%2F.."
        world.tenant.results = {("..%2F..%2F..", 0): world.tenant.results[action_id(1), 0]}
        with Simulator(world.tenant) as simulator:
            make_cli(simulator).run()
        assert not [path for path in tmp_path.rglob("Security.evtx") if tmp_path / "evidence" not in path.parents]


class TestWhatItCosts:
    KEY = ("machine_action_id", "command_index", "result_status")

    @pytest.mark.parametrize(
        ("columns", "is_wanted"),
        [
            pytest.param(KEY, False, id="no column of files"),
            pytest.param((*KEY, "file_name"), False, id="only its name"),
            pytest.param((*KEY, "file_sha256"), True, id="its hash"),
        ],
    )
    def test_a_call_only_if_somebody_wants_the_file(
        self, world: World, make_cli: Callable[..., Cli], tmp_path: Path, columns: tuple[str, ...], is_wanted: bool
    ) -> None:
        add_file(world, 1, b"content")
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            run = cli.run("--catalog", str(self.catalog(cli, columns)))
            assert len(simulator.calls("link")) == is_wanted
        assert run.code == 0, run.stderr
        assert statuses(run) == {1: "fetched" if is_wanted else "skipped"}
        assert (tmp_path / "evidence").exists() == is_wanted

    def test_none_without_files_url(self, world: World, make_cli: Callable[..., Cli]) -> None:
        add_file(world, 1, b"content")
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator, files_url=None).run()
            assert simulator.calls("link") == []
        assert statuses(run) == {1: "skipped"}
        assert record(run, 1)["file_name"] == "Security.evtx"

    def catalog(self, cli: Cli, columns: tuple[str, ...]) -> Path:
        catalog = json.loads(run_plainly(cli, "--discover").stdout)
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                if entry["breadcrumb"]:
                    entry["metadata"]["selected"] = entry["breadcrumb"][1] in columns
                else:
                    entry["metadata"]["selected"] = stream["tap_stream_id"] == "live_response_results"
        file = cli.folder / "catalog.json"
        file.write_text(json.dumps(catalog))
        return file

    def test_an_unchanged_second_run_costs_one_call_and_writes_nothing(
        self, world: World, make_cli: Callable[..., Cli]
    ) -> None:
        for number in (1, 2, 3):
            add_file(world, number, pack(EVENT_LOG))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            first = cli.run()
            simulator.clear_log()
            second = cli.run(state=first.states[-1])
            assert [call.endpoint for call in simulator.log if call.endpoint in {"list", "link", "blob"}] == ["list"]
        assert second.records() == []
        assert second.code == 0

    def test_what_is_there_already_is_not_written_again(self, world: World, make_cli: Callable[..., Cli]) -> None:
        add_file(world, 1, pack(EVENT_LOG))
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            path = stored(cli.run(), 1)
            before = path.stat()
            again = cli.run()
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
            path.write_bytes(b"somebody was here")
            healed = cli.run()
        assert record(again, 1)["file_url"] == path.as_uri()
        assert statuses(healed) == {1: "fetched"}
        assert path.read_bytes() == EVENT_LOG

    def test_a_test_of_the_connection_fetches_no_file(
        self, world: World, make_cli: Callable[..., Cli], tmp_path: Path
    ) -> None:
        add_file(world, 1, pack(EVENT_LOG))
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator).run("--test")
            assert run.code == 0, run.stderr
            assert simulator.calls("blob") == []
        assert not (tmp_path / "evidence").exists()


class TestStores:
    def test_a_bucket(self, world: World, make_cli: Callable[..., Cli], s3: S3) -> None:
        bucket = s3.make_bucket("collected")
        packed = pack(EVENT_LOG * 4)
        add_file(world, 1, packed)
        add_file(world, 2, b"small", "/etc/os-release")
        add_file(world, 3, packed[:-1])
        add_file(world, 4, pack(bytes(30_000_000)))
        with Simulator(world.tenant) as simulator:
            simulator.rules.append(Rule("blob", action_id=action_id(1), cut=6_000_000, times=1))
            cli = make_cli(simulator, files_url=f"s3://{bucket}/live-response", max_file_bytes=25_000_000)
            run = cli.run()
            again = cli.run()
        assert run.code == 0, run.stderr
        assert statuses(run) == {1: "fetched", 2: "fetched", 3: "unreadable", 4: "unreadable"}
        assert statuses(again) == statuses(run)
        keys = {n: f"live-response/{TENANT_ID}/{action_id(n)}/0/" for n in (1, 2, 3)}
        assert s3.objects(bucket) == {
            f"{keys[1]}Security.evtx": EVENT_LOG * 4,
            f"{keys[2]}os-release": b"small",
            f"{keys[3]}Security.evtx": packed[:-1],
        }
        assert record(run, 1)["file_url"] == f"s3://{bucket}/{keys[1]}Security.evtx"
        assert s3.unfinished(bucket) == 0
        assert s3.versions(bucket) == 3
        for text in (run.stdout, run.stderr):
            assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in text
            assert "Signature=" not in text

    def test_nobody_needs_the_store_of_files_that_are_not_there(
        self, world: World, make_cli: Callable[..., Cli]
    ) -> None:
        world.add(1)
        with Simulator(world.tenant) as simulator:
            run = make_cli(simulator, files_url="ftp://localhost:1/evidence").run()
        assert run.code == 0, run.stderr
        assert statuses(run) == fetched([1])

    def test_what_concerns_single_files_is_no_outage(self, world: World, make_cli: Callable[..., Cli]) -> None:
        """Each has its row, however many they are, and is tried again."""
        for number in range(1, 8):
            add_file(world, number, b"content")
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator)
            for number in range(1, 8):  # somebody has put a file where the folder of the action should be
                blocked = cli.folder / "evidence" / TENANT_ID / action_id(number)
                blocked.parent.mkdir(parents=True, exist_ok=True)
                blocked.write_text("in the way")
            first = cli.run()
            for number in range(1, 8):
                (cli.folder / "evidence" / TENANT_ID / action_id(number)).unlink()
            second = cli.run(state=first.states[-1])
        assert first.code == 0, first.stderr
        assert statuses(first) == dict.fromkeys(range(1, 8), "failed")
        assert "it cannot be stored" in reason(first, 1)
        assert "a file is where a directory should be" in reason(first, 1)
        assert statuses(second) == fetched(range(1, 8))

    @pytest.mark.parametrize(
        ("files_url", "words"),
        [
            ("s3://no-such-bucket", "s3://no-such-bucket: The specified bucket does not exist"),
            ("/proc/version/evidence", "/proc/version/evidence: a file is where a directory should be"),
            ("/not-mounted/evidence", "/not-mounted/evidence: the directory above it is not there"),
        ],
    )
    @pytest.mark.usefixtures("s3")
    def test_a_store_that_is_not_there_holds_up_only_files(
        self, world: World, make_cli: Callable[..., Cli], files_url: str, words: str
    ) -> None:
        for number in range(1, 8):
            add_file(world, number, b"content")
        for number in (8, 9):
            world.add(number)
        with Simulator(world.tenant) as simulator:
            cli = make_cli(simulator, files_url=files_url)
            run = cli.run()
            links = len(simulator.calls("link"))
            doctor = run_plainly(cli, "--doctor")
            mended = cli.run(state=run.states[-1], files_url=str(cli.folder / "evidence"))
        check_sentence(run, f"`files_url`: nothing can be stored there ({words}", "files are left for the next run")
        assert statuses(run) == fetched([8, 9])
        assert links < 9  # no more files are asked for once it is known
        assert doctor.code == 1
        assert f"failed   files     `files_url`: nothing can be stored there ({words}" in doctor.stdout
        assert "Traceback" not in doctor.stderr
        assert statuses(mended) == fetched(range(1, 8))


class TestInterruptions:
    def test_a_signal_leaves_no_partial_file(self, world: World, make_cli: Callable[..., Cli], tmp_path: Path) -> None:
        add_file(world, 1, b"x" * 200_000)
        with Simulator(world.tenant) as simulator:
            simulator.rules.append(Rule("blob", drip=0.01))
            cli = make_cli(simulator)
            process = subprocess.Popen(
                cli.command(), env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            await_part(tmp_path / "evidence")
            process.send_signal(signal.SIGTERM)
            stdout, _ = process.communicate(timeout=30)
            assert files_in(tmp_path / "evidence") == {}
            simulator.rules.clear()
            last = json.loads(stdout.splitlines()[-1])
            after = cli.run(state=last["value"])
        assert process.returncode == 143
        assert last["type"] == "STATE"
        assert statuses(after) == {1: "fetched"}

    def test_a_kill_costs_only_the_file_itself(
        self, world: World, make_cli: Callable[..., Cli], tmp_path: Path
    ) -> None:
        add_file(world, 1, b"x" * 200_000)
        with Simulator(world.tenant) as simulator:
            simulator.rules.append(Rule("blob", drip=0.01))
            cli = make_cli(simulator)
            process = subprocess.Popen(
                cli.command(), env=cli.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            part = await_part(tmp_path / "evidence")
            process.kill()
            process.wait()
            os.utime(part, (0, time.time() - 3700))
            simulator.rules.clear()
            after = cli.run()
        assert statuses(after) == {1: "fetched"}
        assert list(files_in(tmp_path / "evidence")) == [f"{TENANT_ID}/{action_id(1)}/0/Security.evtx"]


def run_plainly(cli: Cli, *arguments: str) -> Run:
    """For output that is no Singer messages."""
    done = subprocess.run(cli.command(*arguments), env=cli.environment, capture_output=True, timeout=120, check=False)
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def await_part(folder: Path) -> Path:
    """The file under its temporary name, as soon as there is one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for part in folder.rglob(".*.part"):
            return part
        time.sleep(0.02)  # a process is waited for, not a time
    raise AssertionError("no file was begun")


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and modes are of POSIX")
