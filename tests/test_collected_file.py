"""What becomes of the bytes of one file, in chunks of any size: the rest is tested through the command line."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from defender_simulator.fleet import command, machine_action
from tap_defender_lr import machine_action as decoding
from tap_defender_lr.collected_file import FileCollector, FileSink
from tap_defender_lr.downloads import ReceiveAgainError
from tests.conftest import NOON, action_id
from tests.evidence import files_in, pack, sha256

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 100
PLACE = f"tenant/{action_id(1)}/0/Security.evtx"


@pytest.fixture
def sink(tmp_path: Path) -> FileSink:
    return make_sink(tmp_path)


def make_sink(folder: Path, *, action: str = action_id(1), path: str | None = "C:\\Logs\\Security.evtx") -> FileSink:
    collector = FileCollector(str(folder), lambda: "tenant", max_bytes=len(CONTENT))
    collected = command(0, "GetFile", params={"Path": path} if path else {})
    decoded = decoding.from_api(machine_action(action_id=action, created=NOON, commands=[collected]))
    assert decoded is not None
    return collector.sink(decoded, decoded.commands[0])


def feed(sink: FileSink, body: bytes, step: int, *, told: bool = True) -> None:
    sink.begin({}, len(body) if told else None)
    for start in range(0, len(body), step):
        sink.write(body[start : start + step])


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("step", [1, 2, 3, 1000, 10**6])
@pytest.mark.parametrize("body", [CONTENT, pack(CONTENT)], ids=["not packed", "gzip"])
def test_chunks_of_any_size(sink: FileSink, tmp_path: Path, body: bytes, step: int, told: bool) -> None:
    feed(sink, body, step, told=told)
    file = sink.finish(len(body), sha256(body))
    assert (file.size, file.sha256, file.problem) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), None)
    assert (file.download_size, file.download_sha256) == (len(body), sha256(body))
    assert files_in(tmp_path) == {PLACE: CONTENT}


@pytest.mark.parametrize("step", [1, 1000])
def test_after_a_new_beginning_nothing_of_the_old_one_is_left(sink: FileSink, tmp_path: Path, step: int) -> None:
    feed(sink, pack(b"something else")[:-3], step)
    feed(sink, pack(CONTENT), step)
    assert sink.finish(1, "").sha256 == sha256(CONTENT)
    assert files_in(tmp_path) == {PLACE: CONTENT}


@pytest.mark.parametrize("step", [1, 1000])
def test_a_damaged_packing_is_asked_for_once_more_and_then_kept(sink: FileSink, tmp_path: Path, step: int) -> None:
    broken = pack(CONTENT)[:-3]
    for _ in range(2):
        feed(sink, broken, step)
        with pytest.raises(ReceiveAgainError, match="ends too early"):
            sink.finish(len(broken), sha256(broken))
    feed(sink, broken, step)
    file = sink.finish(len(broken), sha256(broken))
    assert file.problem == "the gzip stream ends too early: the file is stored as it came"
    assert files_in(tmp_path) == {PLACE: broken}


def test_what_suffered_on_the_way_once_is_sound_the_second_time(sink: FileSink, tmp_path: Path) -> None:
    """An answer without a length that is cut short looks complete."""
    feed(sink, pack(CONTENT)[:-3], 1000, told=False)
    with pytest.raises(ReceiveAgainError):
        sink.finish(1, "")
    feed(sink, pack(CONTENT), 1000, told=False)
    file = sink.finish(1, "")
    assert (file.problem, file.sha256) == (None, sha256(CONTENT))
    assert files_in(tmp_path) == {PLACE: CONTENT}


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_a_name_in_the_gzip_header_is_found_in_chunks_of_any_size(tmp_path: Path, step: int) -> None:
    sink = make_sink(tmp_path, path=None)
    feed(sink, pack(CONTENT, "from the header.log"), step)
    assert sink.finish(1, "").name == "from the header.log"
    assert list(files_in(tmp_path)) == [f"tenant/{action_id(1)}/0/from_the_header.log"]


def test_an_id_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    sink = make_sink(tmp_path / "evidence", action="../../../x")
    feed(sink, CONTENT, 1000)
    sink.finish(1, sha256(CONTENT))
    assert list(files_in(tmp_path)) == ["evidence/tenant/_.._.._x/0/Security.evtx"]


def test_closing_leaves_nothing(sink: FileSink, tmp_path: Path) -> None:
    feed(sink, CONTENT, 1000)
    assert len(files_in(tmp_path)) == 1
    sink.close()
    sink.close()
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("told", [True, False])
def test_nothing_more_is_wanted_of_what_is_too_large_on_the_wire(sink: FileSink, tmp_path: Path, told: bool) -> None:
    body = CONTENT * 3
    sink.begin({}, len(body) if told else None)
    assert sink.is_full == told  # without a single byte, if its length is told
    feed(sink, body, 1000, told=told)
    assert sink.is_full
    file = sink.finish(None, None)
    assert (file.size, file.sha256, file.url, file.download_size) == (None, None, None, None)
    assert file.problem is not None
    assert files_in(tmp_path) == {}


def test_what_was_not_read_to_its_end_is_never_put_in_place(sink: FileSink, tmp_path: Path) -> None:
    """Even if all of it that came would fit: a little content in a lot of packing."""
    body = pack(b"abc") + bytes(len(CONTENT) * 2) + pack(b"def")
    feed(sink, body, 1000, told=False)
    assert sink.is_full
    assert sink.finish(None, None).url is None
    assert files_in(tmp_path) == {}


def test_what_arrived_is_counted(sink: FileSink) -> None:
    feed(sink, pack(CONTENT), 1000)
    sink.finish(1, "")
    collector = sink._collector
    assert (collector.received, collector.stored, collector.stored_bytes) == (len(pack(CONTENT)), 1, len(CONTENT))
