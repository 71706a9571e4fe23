"""What becomes of the bytes of one file, in chunks of any size: the rest is tested through the command line."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from defender_simulator.fleet import command, machine_action
from tap_defender_lr import machine_action as decoding
from tap_defender_lr.collected_file import FileCollector, FileSink
from tap_defender_lr.downloads import ReceiveAgainError
from tap_defender_lr.file_store import DirectoryStore
from tests.conftest import NOON, action_id
from tests.evidence import files_in, pack, sha256

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = bytes(range(256)) * 100
PLACE = f"tenant/{action_id(1)}/0/Security.evtx"


@pytest.fixture
def sink(tmp_path: Path) -> FileSink:
    collector = FileCollector(DirectoryStore(tmp_path), lambda: "tenant", max_bytes=len(CONTENT))
    collected = command(0, "GetFile", params={"Path": "C:\\Logs\\Security.evtx"})
    action = decoding.from_api(machine_action(action_id=action_id(1), created=NOON, commands=[collected]))
    assert action is not None
    return collector.sink(action, action.commands[0])


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
def test_a_broken_packing_is_asked_for_once_more_and_then_kept(sink: FileSink, tmp_path: Path, step: int) -> None:
    broken = pack(CONTENT)[:-3]
    feed(sink, broken, step)
    with pytest.raises(ReceiveAgainError, match="ends too early"):
        sink.finish(len(broken), sha256(broken))
    feed(sink, broken, step)
    file = sink.finish(len(broken), sha256(broken))
    assert file.problem == "the gzip stream ends too early: the file is stored as it came"
    assert files_in(tmp_path) == {PLACE: broken}


def test_closing_leaves_nothing(sink: FileSink, tmp_path: Path) -> None:
    feed(sink, CONTENT, 1000)
    assert len(files_in(tmp_path)) == 1
    sink.close()
    sink.close()
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("told", [True, False])
def test_nothing_more_is_wanted_of_what_is_too_large_on_the_wire(sink: FileSink, tmp_path: Path, told: bool) -> None:
    body = CONTENT * 3
    feed(sink, body, 1000, told=told)
    assert sink.is_full
    file = sink.finish(None, None)
    assert (file.size, file.sha256, file.url, file.download_size) == (None, None, None, None)
    assert file.problem is not None
    assert files_in(tmp_path) == {}


def test_what_arrived_is_counted(sink: FileSink) -> None:
    feed(sink, pack(CONTENT), 1000)
    sink.finish(1, "")
    collector = sink._collector
    assert (collector.received, collector.stored, collector.stored_bytes) == (len(pack(CONTENT)), 1, len(CONTENT))
