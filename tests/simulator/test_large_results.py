"""Results that are made while they are sent: whole, resumed, broken off, read slowly."""

from __future__ import annotations

import gzip
import logging
import re
import ssl
import threading
from contextlib import closing, contextmanager
from http.client import HTTPSConnection, IncompleteRead
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from defender_simulator import App, Result, Rule, Simulator, Tenant
from defender_simulator.fleet import command, machine_action

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPMessage

ACTION = "00000000-0000-0000-0000-000000000001"
DATA = bytes(range(256)) * 4 + b"the end"
BIG = 600_000  # more than the server sends at once
DOCS = Path(__file__).resolve().parents[2] / "docs" / "simulator.md"


class Downloads:
    """Whoever has a link."""

    def __init__(self, sim: Simulator, session: requests.Session) -> None:
        self.sim = sim
        self._session = session
        app = sim.tenant.apps[0]
        form = {
            "grant_type": "client_credentials",
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "scope": sim.token_scope,
        }
        token = session.post(f"{sim.login_url}/{sim.tenant.tenant_id}/oauth2/v2.0/token", form, timeout=10).json()
        path = f"api/machineactions/{ACTION}/GetLiveResponseResultDownloadLink(index=0)"
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        self._link = session.get(f"{sim.api_url}/{path}", headers=headers, timeout=10).json()["value"]

    def __call__(self, headers: dict[str, str] | None = None, **options: Any) -> requests.Response:
        return self._session.get(self._link, headers=headers, timeout=10, **options)

    def broken_off(self, headers: dict[str, str] | None = None) -> tuple[HTTPMessage, bytes]:
        """Every byte before the break. urllib3 keeps some of them back."""
        url = urlsplit(self._link)
        context = ssl.create_default_context(cafile=self.sim.ca_file)
        with closing(HTTPSConnection(url.netloc, timeout=10, context=context)) as connection:
            connection.request("GET", f"{url.path}?{url.query}", headers=headers or {})
            answer = connection.getresponse()
            with pytest.raises(IncompleteRead) as caught:
                answer.read()
        return answer.headers, caught.value.partial

    def put(self, result: Result) -> None:
        self.sim.tenant.results[ACTION, 0] = result


@contextmanager
def serving() -> Iterator[Downloads]:
    action = machine_action(action_id=ACTION, created=1_700_000_000, commands=[command(0, "GetFile")])
    app = App("aaaaaaaa-0000-0000-0000-000000000001", "right-secret")
    tenant = Tenant("11111111-2222-3333-4444-555555555555", [app], [action], {(ACTION, 0): Result(DATA)})
    with Simulator(tenant) as sim, requests.Session() as session:
        session.verify = sim.ca_file
        session.trust_env = False
        yield Downloads(sim, session)


@pytest.fixture(scope="module")
def shared() -> Iterator[Downloads]:
    with serving() as downloads:
        yield downloads


@pytest.fixture
def download(shared: Downloads) -> Downloads:
    shared.sim.rules.clear()
    return shared


def cut_up(data: bytes, length: int) -> Callable[[int], Iterator[bytes]]:
    return lambda offset: (data[start : start + length] for start in range(offset, len(data), length))


def in_pieces(length: int = 100) -> Result:
    return Result(pieces=cut_up(DATA, length), size=len(DATA))


@pytest.mark.parametrize("length", [1, 100, 1024, len(DATA), 10_000])
def test_pieces_of_any_size(download: Downloads, length: int) -> None:
    download.put(in_pieces(length))
    for _ in range(2):  # made anew each time
        answer = download()
        assert (answer.status_code, answer.content) == (200, DATA)
        assert answer.headers["Content-Length"] == str(len(DATA))
        assert answer.headers["Accept-Ranges"] == "bytes"


def test_headers_of_a_file(download: Downloads) -> None:
    disposition = "attachment; filename=Security.evtx.gz"
    download.put(Result(headers={"Content-Disposition": disposition}, pieces=cut_up(DATA, 100), size=len(DATA)))
    assert download().headers["Content-Disposition"] == disposition
    assert download({"Range": "bytes=5-"}).headers["Content-Disposition"] == disposition


@pytest.mark.parametrize("result", [pytest.param(Result(DATA), id="body"), pytest.param(in_pieces(), id="pieces")])
@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-", slice(0, None)),
        ("bytes=0-0", slice(0, 1)),
        ("bytes=99-100", slice(99, 101)),
        ("bytes=100-199", slice(100, 200)),
        ("bytes=101-", slice(101, None)),
        (f"bytes={len(DATA) - 1}-", slice(len(DATA) - 1, None)),
        ("bytes=500-99999", slice(500, None)),
    ],
)
def test_ranges(download: Downloads, result: Result, wanted: str, part: slice) -> None:
    download.put(result)
    answer = download({"Range": wanted, "If-Match": result.etag})
    first, end, _ = part.indices(len(DATA))
    assert (answer.status_code, answer.content) == (206, DATA[part])
    assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(DATA)}"
    assert answer.headers["Content-Length"] == str(end - first)
    assert answer.headers["ETag"] == result.etag


@pytest.mark.parametrize("result", [pytest.param(Result(DATA), id="body"), pytest.param(in_pieces(), id="pieces")])
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Range": f"bytes={len(DATA)}-"}, 416, "InvalidRange"),
        ({"Range": f"bytes={len(DATA) + 1}-"}, 416, "InvalidRange"),
        ({"If-Match": '"0x1"'}, 412, "ConditionNotMet"),
        ({"Range": "bytes=5-", "If-Match": '"0x1"'}, 412, "ConditionNotMet"),
        ({"Range": f"bytes={len(DATA)}-", "If-Match": '"0x1"'}, 412, "ConditionNotMet"),
    ],
)
def test_refusals(download: Downloads, result: Result, headers: dict[str, str], status: int, code: str) -> None:
    download.put(result)
    answer = download(headers)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (status, code)
    assert answer.headers.get("Content-Range") == (f"bytes */{len(DATA)}" if status == 416 else None)


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=5-"}, {"Range": "bytes=99999-"}])
def test_without_size_there_are_no_ranges(download: Downloads, headers: dict[str, str]) -> None:
    download.put(Result(pieces=cut_up(DATA, 100)))
    answer = download(headers)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert not {"Content-Length", "Content-Range", "Accept-Ranges"} & answer.headers.keys()


def test_an_empty_result_in_pieces(download: Downloads) -> None:
    download.put(Result(pieces=lambda _offset: iter(()), size=0))
    assert (download().content, download().headers["Content-Length"]) == (b"", "0")
    assert download({"Range": "bytes=0-"}).status_code == 416


def test_etags(download: Downloads) -> None:
    make = cut_up(DATA, 100)
    results = [Result(pieces=make, size=len(DATA)), Result(pieces=make, size=len(DATA)), Result(DATA), Result(b"{}")]
    found = []
    for result in results:
        download.put(result)
        etag, again = (download().headers["ETag"] for _ in range(2))
        assert etag == again == result.etag
        assert re.fullmatch('"0x[0-9A-F]{16}"', etag)
        found.append(etag)
    assert len(set(found)) == len(results)
    assert Result(DATA).etag == Result(DATA, {"X-More": "1"}).etag  # those of `body` tell the bytes


def test_a_result_that_changed_is_not_resumed(download: Downloads) -> None:
    download.put(in_pieces())
    etag = download().headers["ETag"]
    download.put(in_pieces())
    assert download({"Range": "bytes=5-", "If-Match": etag}).status_code == 412


# Faults


@pytest.mark.parametrize("size", [BIG, None])
@pytest.mark.parametrize("cut", [0, 1, 7_000, 7_001, 262_144, 599_999])
def test_cut(download: Downloads, cut: int, size: int | None) -> None:
    data = DATA * (BIG // len(DATA) + 1)
    download.put(Result(pieces=cut_up(data[:BIG], 7_000), size=size))
    download.sim.rules.append(Rule("blob", cut=cut))
    headers, body = download.broken_off()
    assert headers["Content-Length"] == (str(size) if size else None)
    assert body == data[:cut]


def test_a_cut_within_one_large_piece(download: Downloads) -> None:
    download.put(Result(pieces=lambda _offset: repeat(bytes(3 * BIG)), size=3 * BIG))
    download.sim.rules.append(Rule("blob", cut=BIG + 1))
    headers, body = download.broken_off()
    assert headers["Content-Length"] == str(3 * BIG)
    assert len(body) == BIG + 1


@pytest.mark.parametrize("result", [pytest.param(Result(DATA), id="body"), pytest.param(in_pieces(), id="pieces")])
def test_a_download_that_breaks_and_is_resumed_and_breaks_again(download: Downloads, result: Result) -> None:
    download.put(result)
    download.sim.rules += [
        Rule("blob", cut=150, if_range=False, times=1),
        Rule("blob", cut=20, if_range=True, times=1),
    ]
    headers, first = download.broken_off()
    etag = headers["ETag"]
    headers, second = download.broken_off({"Range": "bytes=150-", "If-Match": etag})
    assert headers["Content-Length"] == str(len(DATA) - 150)
    third = download({"Range": "bytes=170-", "If-Match": etag})
    assert (len(first), len(second), third.status_code) == (150, 20, 206)
    assert first + second + third.content == DATA


@pytest.mark.parametrize(
    ("if_range", "headers", "status"),
    [
        (None, {}, 503),
        (None, {"Range": "bytes=5-"}, 503),
        (True, {}, 200),
        (True, {"Range": "bytes=5-"}, 503),
        (True, {"x-ms-range": "bytes=5-"}, 503),
        (False, {}, 503),
        (False, {"Range": "bytes=5-"}, 206),
        (False, {"x-ms-range": "bytes=5-"}, 206),
    ],
)
def test_if_range(download: Downloads, if_range: bool | None, headers: dict[str, str], status: int) -> None:
    download.put(in_pieces())
    rule = Rule("blob", 503, if_range=if_range)
    download.sim.rules.append(rule)
    assert download(headers).status_code == status
    assert (rule.seen, rule.fired) == ((1, 1) if status == 503 else (0, 0))


@pytest.mark.parametrize("result", [pytest.param(Result(DATA), id="body"), pytest.param(in_pieces(), id="pieces")])
@pytest.mark.parametrize(
    "name", ["ETag", "etag", "Accept-Ranges", "Content-Disposition", "Content-Length", "Date", "X-Not-There"]
)
def test_a_rule_takes_a_header_away(download: Downloads, result: Result, name: str) -> None:
    download.put(result)
    normal = {key.lower() for key in download().headers}
    download.sim.rules.append(Rule("blob", headers={name: None, "X-More": "1"}))
    answer = download()
    assert (answer.status_code, answer.content) == (200, DATA)
    more = {"x-more"} | ({"transfer-encoding"} if name == "Content-Length" else set())
    assert {key.lower() for key in answer.headers} == normal - {name.lower()} | more


def test_headers_that_are_made_may_be_taken_away(download: Downloads) -> None:
    download.put(in_pieces())
    download.sim.rules.append(Rule("blob", headers=lambda now: {"ETag": None, "X-Now": str(now)}))
    answer = download({"Range": "bytes=5-"})
    assert answer.status_code == 206
    assert "ETag" not in answer.headers
    assert "X-Now" in answer.headers


def test_drip(download: Downloads) -> None:
    download.put(Result(pieces=cut_up(DATA[:50], 20), size=50))
    download.sim.rules.append(Rule("blob", drip=0.0001))
    assert download().content == DATA[:50]


def test_what_rules_do_not_change(download: Downloads) -> None:
    download.put(in_pieces())
    download.sim.rules.append(Rule("blob", transform=lambda body: body + b"more"))
    assert download().content == DATA


# Memory, and clients that go away


class Endless:
    """Counts what was made; tells when the server has let go of it."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = threading.Event()

    def __call__(self, _offset: int) -> Iterator[bytes]:
        try:
            for piece in repeat(bytes(100_000)):
                self.made += len(piece)
                yield piece
        finally:
            self.closed.set()


@pytest.mark.parametrize("cut", [None, 10**12])
@pytest.mark.parametrize("size", [None, 10**12])
def test_no_more_is_made_than_the_client_reads(
    size: int | None, cut: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    endless = Endless()
    with serving() as download:
        download.put(Result(pieces=endless, size=size))
        download.sim.rules.append(Rule("blob", cut=cut))
        with download(stream=True) as answer:
            read = 0
            while read < 30_000_000:
                read += len(answer.raw.read(1_000_000))
                # The sockets of both sides hold some megabytes.
                assert endless.made - read < 20_000_000
        assert endless.closed.wait(10)
        made = endless.made
        download.put(Result(DATA))
        download.sim.rules.clear()
        assert download().content == DATA
        assert endless.made == made
    # asyncio may say that the client was gone when it looked (CPython 3.11).
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_a_cut_lets_go_of_the_rest(download: Downloads) -> None:
    endless = Endless()
    download.put(Result(pieces=endless))
    download.sim.rules.append(Rule("blob", cut=200_000))
    assert len(download.broken_off()[1]) == endless.made == 200_000
    assert endless.closed.wait(10)


def test_the_page_tells_how() -> None:
    section = DOCS.read_text(encoding="utf-8").partition("\n## Large results\n")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)  # the text is our own
    large, piece = names["large"], names["PIECE"]
    with serving() as download:
        download.put(Result(headers=large.headers, pieces=large.pieces, size=3 * len(piece)))
        answer = download()
        assert gzip.decompress(answer.content) == b"0123456789abcdef" * 65_536 * 3
        assert answer.headers["Content-Disposition"] == "attachment; filename=memory.dmp.gz"
        for offset in (1, len(piece), len(piece) + 5):
            assert download({"Range": f"bytes={offset}-"}).content == answer.content[offset:]
