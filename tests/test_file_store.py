"""Both stores, the directory and a real S3 server, hold the same promises."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
import time
import uuid
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

import fsspec
import pytest
from typing_extensions import override

from tap_defender_lr.errors import StoreFailedError
from tap_defender_lr.file_store import BLOCK, DirectoryStore
from tap_defender_lr.files_url import open_store, problems
from tap_defender_lr.remote_store import _options

if TYPE_CHECKING:
    from pathlib import Path

    from tap_defender_lr.file_store import FileStore
    from tests.s3 import S3

PARTS = ("tenant", "action", "0", "a.txt")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes and root are of POSIX")


class Home(Protocol):
    """A store, and a look at it from outside."""

    store: FileStore
    url: str

    def contents(self) -> dict[str, bytes]:
        """Every file that anybody sees."""

    def writes(self) -> object:
        """Changes when anything is put in place."""

    def leftovers(self) -> list[str]:
        """What should not be there."""


class Directory(Home):
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "evidence"
        self.url = str(self.folder)
        self.store = open_store(self.url)

    @override
    def contents(self) -> dict[str, bytes]:
        files = [path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    @override
    def writes(self) -> object:
        return sorted((path, path.stat().st_ino, path.stat().st_mtime_ns) for path in self.folder.rglob("*.*"))

    @override
    def leftovers(self) -> list[str]:
        return [path.name for path in self.folder.rglob(".*")]


class Bucket(Home):
    def __init__(self, s3: S3) -> None:
        self.s3 = s3
        self.bucket = s3.make_bucket(f"evidence-{uuid.uuid4().hex[:8]}")
        self.url = f"s3://{self.bucket}/a b/ü"
        self.store = open_store(self.url)

    @override
    def contents(self) -> dict[str, bytes]:
        return {key.removeprefix("a b/ü/"): body for key, body in self.s3.objects(self.bucket).items()}

    @override
    def writes(self) -> object:
        return self.s3.versions(self.bucket)

    @override
    def leftovers(self) -> list[str]:
        return ["an upload"] * self.s3.unfinished(self.bucket)


@pytest.fixture(params=["directory", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return Directory(tmp_path) if request.param == "directory" else Bucket(request.getfixturevalue("s3"))


def put(store: FileStore, content: bytes, parts: tuple[str, ...] = PARTS, *, commit: bool = True) -> str:
    writer = store.begin(parts)
    try:
        for start in range(0, len(content), 65536):
            writer.write(content[start : start + 65536])
        if commit:
            writer.commit(len(content), hashlib.sha256(content).hexdigest())
    finally:
        store.end(writer)
    return writer.url


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 12345])
def test_a_file_of_any_size_is_put_in_place(home: Home, size: int) -> None:
    content = os.urandom(size)
    put(home.store, content)
    assert home.contents() == {"tenant/action/0/a.txt": content}
    assert home.leftovers() == []


@pytest.mark.parametrize("size", [0, 1, BLOCK + 1, 2 * BLOCK + 1])
def test_what_is_not_committed_was_never_there(home: Home, size: int) -> None:
    put(home.store, b"x" * size, commit=False)
    assert home.contents() == {}
    assert home.leftovers() == []


def test_nobody_sees_a_file_before_it_is_complete(home: Home) -> None:
    writer = home.store.begin(PARTS)
    writer.write(b"x" * (BLOCK + 1))
    assert home.contents() == {}
    home.store.end(writer)


def test_the_same_file_is_not_written_again(home: Home) -> None:
    put(home.store, b"content")
    before = home.writes()
    put(home.store, b"content")
    assert home.writes() == before
    assert home.leftovers() == []


@pytest.mark.parametrize("other", [b"CONTENT", b"something longer", b""])
def test_another_file_in_its_place_is_replaced(home: Home, other: bytes) -> None:
    put(home.store, other)
    put(home.store, b"content")
    assert home.contents() == {"tenant/action/0/a.txt": b"content"}


def test_a_file_in_place_outlives_a_failed_attempt(home: Home) -> None:
    put(home.store, b"content")
    put(home.store, b"other" * BLOCK, commit=False)
    assert home.contents() == {"tenant/action/0/a.txt": b"content"}
    assert home.leftovers() == []


def test_several_threads_write_several_files(home: Home) -> None:
    contents = [os.urandom(BLOCK + number) for number in range(4)]
    jobs = [
        threading.Thread(target=put, args=(home.store, content, ("t", "a", str(number), "f")))
        for number, content in enumerate(contents)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert home.contents() == {f"t/a/{number}/f": content for number, content in enumerate(contents)}


def test_the_check_leaves_nothing(home: Home) -> None:
    home.store.check()
    assert home.contents() == {}
    assert home.leftovers() == []


def test_closing_discards_what_a_stuck_worker_has_open(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_defender_lr.file_store._CLOSING_SECONDS", 0.01)
    writer = home.store.begin(PARTS)
    writer.write(b"x" * (BLOCK + 1))
    home.store.close()
    assert home.contents() == {}
    assert home.leftovers() == []
    home.store.end(writer)


def test_closing_waits_a_moment_for_workers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_defender_lr.file_store._CLOSING_SECONDS", 60.0)
    writer, ended = home.store.begin(PARTS), threading.Event()

    def end() -> None:
        ended.set()
        home.store.end(writer)

    timer = threading.Timer(0.1, end)
    timer.start()
    began = time.monotonic()
    home.store.close()
    assert ended.is_set()
    assert time.monotonic() - began < 30
    timer.join()


class TestDirectory:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Directory:
        return Directory(tmp_path)

    @POSIX
    def test_only_the_owner_can_read_it(self, home: Directory) -> None:
        previous = os.umask(0)
        try:
            put(home.store, b"content")
        finally:
            os.umask(previous)
        modes = {path.name: path.stat().st_mode & 0o777 for path in home.folder.rglob("*")}
        assert modes == {"tenant": 0o700, "action": 0o700, "0": 0o700, "a.txt": 0o600}
        assert home.folder.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("form", ["{}", "file://{}", "file:{}", "FILE://localhost{}"])
    def test_it_may_be_written_as_a_path_or_an_url(self, tmp_path: Path, form: str) -> None:
        url = put(open_store(form.format(tmp_path / "evidence")), b"content")
        assert (tmp_path / "evidence" / "tenant" / "action" / "0" / "a.txt").read_bytes() == b"content"
        assert url.startswith("file:///")

    def test_the_url_is_a_full_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "home").mkdir()
        for files_url, folder in (
            ("a ü", "a ü"),
            ("~/x", "home/x"),
            ("file://" + str(tmp_path) + "/u%20v", "u v"),
        ):
            parts = urlsplit(put(open_store(files_url), b"content"))
            assert (parts.scheme, parts.netloc) == ("file", "")
            assert unquote(parts.path) == str(tmp_path / folder / "tenant" / "action" / "0" / "a.txt")

    @POSIX
    def test_a_link_in_its_place_is_replaced_not_followed(self, home: Directory, tmp_path: Path) -> None:
        put(home.store, b"content")
        (path,) = home.folder.rglob("a.txt")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_bytes(b"content")
        path.unlink()
        path.symlink_to(elsewhere)
        put(home.store, b"content")
        assert not path.is_symlink()
        put(home.store, b"other")
        assert elsewhere.read_bytes() == b"content"

    def test_what_a_killed_process_left_is_removed_once_it_is_old_or_the_file_is_there(self, home: Directory) -> None:
        put(home.store, b"content")
        (path,) = home.folder.rglob("a.txt")
        old, new = path.with_name(".a.txt.0123abcd.part"), path.with_name(".a.txt.4567abcd.part")
        for part in (old, new):
            part.write_bytes(b"half")
        os.utime(old, (0, time.time() - 3700))
        writer = home.store.begin(PARTS)
        assert (old.exists(), new.exists()) == (False, True)
        writer.write(b"content")
        writer.commit(7, hashlib.sha256(b"content").hexdigest())
        assert home.leftovers() == []

    def test_two_runs_may_store_the_same_file(self, home: Directory) -> None:
        first, second = home.store.begin(PARTS), open_store(home.url).begin(PARTS)
        for writer in (first, second):
            writer.write(b"content")
        for writer in (first, second):  # the second one's part is gone by now
            writer.commit(7, hashlib.sha256(b"content").hexdigest())
        assert home.contents() == {"tenant/action/0/a.txt": b"content"}
        third = home.store.begin(PARTS)
        third.write(b"another")
        put(home.store, b"content")
        with pytest.raises(StoreFailedError, match="is not there"):
            third.commit(7, hashlib.sha256(b"another").hexdigest())
        for writer in (first, second, third):
            writer.discard()

    def test_only_the_root_itself_is_made(self, tmp_path: Path) -> None:
        """A file server that is not mounted must not be mistaken for a directory."""
        store = open_store(str(tmp_path / "not" / "mounted"))
        with pytest.raises(StoreFailedError, match="the directory above it is not there"):
            store.check()
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_begun_after_the_end(self, home: Directory) -> None:
        home.store.close()
        with pytest.raises(StoreFailedError, match="the run has ended"):
            home.store.begin(PARTS)
        assert home.leftovers() == []

    @pytest.mark.parametrize(("code", "is_stored"), [(errno.EINVAL, True), (errno.EIO, False)])
    def test_a_file_server_that_cannot_sync(
        self, home: Directory, monkeypatch: pytest.MonkeyPatch, code: int, is_stored: bool
    ) -> None:
        def fsync(_descriptor: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr("os.fsync", fsync)
        with nullcontext() if is_stored else pytest.raises(StoreFailedError, match="Input/output error"):
            put(home.store, b"content")
        monkeypatch.undo()

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "evidence").write_text("I am a file.")
        store = DirectoryStore(tmp_path / "evidence")
        with pytest.raises(StoreFailedError, match=r"evidence: a file is where"):
            store.check()

    @POSIX
    def test_no_room(self, home: Directory) -> None:
        store = DirectoryStore(home.folder)
        writer = store.begin(PARTS)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, writer._file.fileno())  # type: ignore[attr-defined]
        os.close(full)
        with pytest.raises(StoreFailedError, match="No space left on device"):
            writer.write(b"x" * 1_000_000)
        store.end(writer)
        assert home.leftovers() == []


class TestRemote:
    def test_a_bucket_that_is_not_there(self, s3: S3) -> None:
        store = open_store("s3://nobody-made-this-bucket/folder")
        with pytest.raises(
            StoreFailedError, match="s3://nobody-made-this-bucket/folder: The specified bucket does not exist"
        ):
            store.check()
        with pytest.raises(StoreFailedError, match="bucket does not exist"):
            put(store, b"content")
        assert "nobody-made-this-bucket" not in [b["Name"] for b in s3.client.list_buckets()["Buckets"]]

    @pytest.mark.parametrize("arrived", [True, False])
    def test_an_answer_that_is_lost(self, s3: S3, monkeypatch: pytest.MonkeyPatch, arrived: bool) -> None:
        """Whether the upload was completed is looked up, not guessed."""
        home = Bucket(s3)
        writer = home.store.begin(PARTS)
        writer.write(b"content")
        complete = writer._file.commit  # type: ignore[attr-defined]

        def commit() -> None:
            if arrived:
                complete()
            raise TimeoutError("no answer")

        monkeypatch.setattr(writer._file, "commit", commit)  # type: ignore[attr-defined]
        with nullcontext() if arrived else pytest.raises(StoreFailedError, match="no answer"):
            writer.commit(7, hashlib.sha256(b"content").hexdigest())
        home.store.end(writer)
        assert home.contents() == ({"tenant/action/0/a.txt": b"content"} if arrived else {})
        assert home.leftovers() == []

    @pytest.mark.parametrize(
        ("scheme", "options"),
        [
            ("sftp", {"skip_instance_cache"}),  # it hands what it does not know to the SSH client, which refuses it
            ("gs", {"skip_instance_cache", "use_listings_cache"}),
            ("s3", {"skip_instance_cache", "use_listings_cache", "config_kwargs"}),
        ],
    )
    def test_what_drivers_are_told(self, scheme: str, options: set[str]) -> None:
        assert _options(scheme).keys() == options

    def test_what_somebody_has_configured_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 5}})
        assert "config_kwargs" not in _options("s3")

    @pytest.mark.usefixtures("s3")
    def test_no_credentials(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        with pytest.raises(StoreFailedError, match="credentials"):
            open_store("s3://bucket/folder").check()

    def test_any_other_file_system(self) -> None:
        """Here the one in memory: what is written to is visible there at once, so it has another name."""
        url = f"memory://evidence-{uuid.uuid4().hex}"
        store = open_store(url)
        store.check()
        assert put(store, b"content") == f"{url}/tenant/action/0/a.txt"
        put(store, b"unfinished", commit=False)
        files = fsspec.filesystem("memory")
        (path,) = files.find(url)
        before = files.info(path)
        assert path.endswith("/tenant/action/0/a.txt")
        put(store, b"content")
        assert files.info(path)["created"] == before["created"]
        files.pipe(f"{path.rpartition('/')[0]}/.a.txt.0123abcd.part", b"of a process that was killed")
        put(store, b"something else")
        assert {path: files.cat(path) for path in files.find(url)} == {path: b"something else"}


@pytest.mark.parametrize(
    ("files_url", "words"),
    [
        ("s3:/bucket/folder", "has a scheme without //"),
        ("abfs:container", "has a scheme without //"),
        ("file://server/share/x", "names another machine"),
        ("file://user:s3cret@localhost/x", "must hold no password"),
        ("file:///srv/x?y", "must hold no password, query or fragment"),
        ("sftp://user:s3/cret@host/x", "must hold no password"),
        ("~nosuchuser/x", "this machine knows no such home directory"),
        ("s3://[bucket/folder", "is not an address"),
        ("file://[x", "is not an address"),
        ("https://account.blob.core.windows.net/container", "is a web address, to which no file can be written"),
        ("http://localhost", "is a web address"),
        ("s3://", "names no bucket or container"),
        ("s3:///folder", "names no bucket or container"),
        ("s3://key:s3cret@bucket/folder", "must hold no password"),
        ("abfs://c@a.dfs.core.windows.net/f?sig=s3cret", "must hold no password, query or fragment"),
        ("simplecache::s3://bucket", "must be one address, not a chain"),
        ("gopher://host/folder", "begins with gopher://, which is unknown"),
        ("abfs://c@a.dfs.core.windows.net/f", "pip install 'tap-defender-lr[azure]'"),
        ("az://c/f", "pip_url: tap-defender-lr[azure]"),
        ("gs://bucket/f", "pip install 'tap-defender-lr[gcs]'"),
        ("gcs://bucket/f", "pip install 'tap-defender-lr[gcs]'"),
        ("sftp://host/f", "the driver is missing (SFTPFileSystem requires"),
    ],
)
def test_one_sentence_for_what_cannot_be_written_to(files_url: str, words: str) -> None:
    (sentence,) = problems(files_url)
    assert words in sentence
    assert sentence.startswith("`files_url`")
    assert sentence.endswith(".")
    assert "s3cret" not in sentence


@pytest.mark.parametrize(
    "files_url",
    [
        "evidence",
        "/srv/evidence",
        "~/evidence",
        "C:\\evidence",
        "C:/evidence",
        "//server/[evidence",
        "file:///srv/x",
        "s3://bucket",
        "s3://b/f/",
    ],
)
def test_what_can_be_written_to(files_url: str) -> None:
    assert list(problems(files_url)) == []
