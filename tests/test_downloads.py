from __future__ import annotations

import base64
import gzip
import hashlib
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator
from tap_defender_lr.downloads import BlobStore, Download, LinkRefusedError, Spool
from tap_defender_lr.errors import InterruptedRunError, NotFoundError, ReadFailedError, StoreFailedError
from tests.conftest import NOON, World, action_id
from tests.test_client import Side as ApiSide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BODY = bytes(range(256)) * 4000


class Side:
    """A blob store, and a client that brings links to it."""

    def __init__(self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.simulator = simulator
        self.client = ApiSide(simulator, monkeypatch).client
        self.blobs = BlobStore()

    def link(self) -> str:
        return self.client.download_link(action_id(1), 0)

    def download(self, **arguments: Any) -> Download:
        return self.bring(self.link(), **arguments)

    def bring(self, link: str, *, keep_bytes: int = 10**7, check: Callable[[], None] = lambda: None) -> Download:
        with closing(self.blobs.transfer(Spool(keep_bytes))) as transfer:
            return transfer.receive(link, check)


class ServiceClock:
    now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def service_clock() -> ServiceClock:
    return ServiceClock()


@pytest.fixture
def side(world: World, service_clock: ServiceClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    world.add(1, body=BODY)
    with Simulator(world.tenant, clock=service_clock) as simulator:
        yield Side(simulator, monkeypatch)


def test_the_body_as_it_came_with_its_size_and_hash(side: Side) -> None:
    download = side.download()
    with download.body:
        assert download.body.read() == BODY
    assert (download.size, download.sha256, download.complete) == (len(BODY), hashlib.sha256(BODY).hexdigest(), True)


def test_no_token_and_the_link_byte_for_byte(side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    side.download().body.close()
    assert side.simulator.calls("link")[0].headers["authorization"].startswith("Bearer ")
    (call,) = side.simulator.calls("blob")
    assert "authorization" not in call.headers
    assert "%2B" in call.query or "%2F" in call.query or "%3D" in call.query


def test_no_escape_of_the_link_is_rewritten(side: Side) -> None:
    """The signature stands for the text that was signed; `requests` by itself would unquote %7E and %2D."""
    query = "rscd=a%7Eb%2Dc&sig=x%2By%2Fz%3D"
    with pytest.raises((LinkRefusedError, NotFoundError, ReadFailedError)):
        side.bring(f"{side.simulator.blob_url}/container/a%7Eb?{query}")
    (call,) = [call for call in side.simulator.log if call.path.startswith("/container")]
    assert (call.path, call.query) == ("/container/a%7Eb", query)


def test_only_the_beginning_is_kept_of_what_is_too_long(side: Side) -> None:
    download = side.download(keep_bytes=1000)
    with download.body:
        assert download.body.read() == BODY[:1000]
    assert (download.size, download.sha256, download.complete) == (len(BODY), hashlib.sha256(BODY).hexdigest(), False)


def test_a_content_encoding_is_left_as_it_is(side: Side, world: World) -> None:
    packed = gzip.compress(b"text")
    world.give_result(1, 0, packed, Content_Encoding="gzip")
    download = side.download()
    with download.body:
        assert download.body.read() == packed


def test_expired_link_may_be_renewed(side: Side, service_clock: ServiceClock) -> None:
    link = side.link()
    service_clock.now += 1801
    with pytest.raises(LinkRefusedError, match="status 403 AuthenticationFailed") as raised:
        side.bring(link)
    assert raised.value.renewable
    assert raised.value.valid_in is None


def test_a_link_that_is_not_valid_yet_says_when_it_will_be(side: Side, service_clock: ServiceClock) -> None:
    link = side.link()
    service_clock.now -= 20
    with pytest.raises(LinkRefusedError) as raised:
        side.bring(link)
    assert raised.value.valid_in == pytest.approx(20, abs=1)


def test_a_refusal_that_no_new_link_cures(side: Side) -> None:
    side.simulator.rules.append(Rule("blob", 403, headers={"x-ms-error-code": "AuthorizationFailure"}))
    with pytest.raises(LinkRefusedError) as raised:
        side.download()
    assert not raised.value.renewable


def test_no_blob(side: Side) -> None:
    side.simulator.rules.append(
        Rule("blob", 404, b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>BlobNotFound</Code></Error>")
    )
    with pytest.raises(NotFoundError, match="status 404 BlobNotFound"):
        side.download()


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"drop": True}, "connection failed|cut off"),
        ({"cut": 5000}, "cut off"),
        ({"status": 503, "body": "busy"}, "status 503"),
        ({"status": 302, "headers": {"Location": "https://elsewhere.example/"}}, "status 302"),
        ({"headers": {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}}, "checksum"),
    ],
)
def test_what_may_pass(side: Side, rule: dict[str, Any], reason: str) -> None:
    side.simulator.rules.append(Rule("blob", **rule))
    with pytest.raises(ReadFailedError, match=reason) as raised:
        side.download()
    assert "sig=" not in str(raised.value)


def test_a_download_can_be_stopped_between_two_chunks(side: Side) -> None:
    def stop() -> None:
        raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        side.download(check=stop)


def test_a_disk_that_is_full_is_named(side: Side, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StoreFailedError, match="temporary file"):
        side.download()


class TestGoingOn:
    """A transfer that breaks off is asked to go on, and what comes together is the blob, whatever happens."""

    def receive(self, side: Side, *, tries: int = 5, keep_bytes: int = 10**7) -> tuple[bytes, Download, int]:
        """What arrived, and how many tries it took."""
        with closing(side.blobs.transfer(Spool(keep_bytes))) as transfer:
            for number in range(1, tries + 1):
                with suppress(ReadFailedError):
                    download = transfer.receive(side.link(), lambda: None)
                    with download.body:
                        return download.body.read(), download, number
        raise AssertionError("it did not arrive")

    def test_where_it_broke_off(self, side: Side) -> None:
        side.simulator.rules += [Rule("blob", cut=cut, times=1) for cut in (1, 65_537, 400_000)]
        body, download, tries = self.receive(side)
        assert (body, download.size, download.sha256) == (BODY, len(BODY), hashlib.sha256(BODY).hexdigest())
        assert tries == 4
        ranges = [call.headers.get("range") for call in side.simulator.calls("blob")]
        assert ranges == [None, "bytes=1-", "bytes=65538-", "bytes=465538-"]
        tags = {call.headers.get("if-match") for call in side.simulator.calls("blob")[1:]}
        assert tags == {side.simulator.tenant.results[action_id(1), 0].etag}

    @pytest.mark.parametrize(
        ("headers", "body", "resumed"),
        [
            pytest.param({"ETag": None}, None, False, id="no tag"),
            pytest.param({"ETag": 'W/"1"'}, None, False, id="a weak tag"),
            pytest.param({}, BODY[::-1], True, id="another blob by now"),
            pytest.param({}, BODY[:1000], True, id="a shorter one by now"),
        ],
    )
    def test_from_the_beginning_where_it_cannot_go_on(
        self, side: Side, world: World, headers: dict[str, str | None], body: bytes | None, resumed: bool
    ) -> None:
        side.simulator.rules.append(Rule("blob", cut=500_000, times=1, headers=headers))
        with closing(side.blobs.transfer(Spool(10**7))) as transfer:
            with pytest.raises(ReadFailedError, match="cut off"):
                transfer.receive(side.link(), lambda: None)
            if body is not None:
                world.give_result(1, 0, body)
            download = transfer.receive(side.link(), lambda: None)
            # What was of no use has earned its time all the same.
            assert transfer.received == 500_000 + transfer.size
        with download.body:
            assert download.body.read() == (body or BODY)
        assert download.sha256 == hashlib.sha256(body or BODY).hexdigest()
        ranges = [call.headers.get("range") for call in side.simulator.calls("blob")]
        assert ranges == [None, *["bytes=500000-"] * resumed, None]

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param({"status": 206, "body": b"x" * 600_000}, id="a part without a range"),
            pytest.param(
                {"status": 206, "body": b"x" * 9, "headers": {"Content-Range": "bytes 5-13/1024000"}}, id="another part"
            ),
            pytest.param(
                {"status": 206, "body": b"x" * 9, "headers": {"Content-Range": "bytes 400000-400008/400009"}},
                id="of a blob of another size",
            ),
            pytest.param(
                {"headers": {"ETag": '"other"'}, "transform": lambda body: bytes(len(body))}, id="of another blob"
            ),
            pytest.param({"status": 416, "body": "<Error/>"}, id="no such range"),
            pytest.param({"status": 412, "body": "<Error/>"}, id="it has changed"),
        ],
    )
    def test_a_part_that_does_not_fit_is_not_taken(self, side: Side, answer: dict[str, Any]) -> None:
        side.simulator.rules += [Rule("blob", cut=400_000, times=1), Rule("blob", if_range=True, **answer)]
        body, _, tries = self.receive(side)
        assert (body, tries) == (BODY, 2)

    def test_a_part_that_is_shorter_than_asked_for_is_taken(self, side: Side) -> None:
        part: dict[str, Any] = {
            "status": 206,
            "body": BODY[400_000:400_009],
            "headers": {"Content-Range": "bytes 400000-400008/1024000"},
        }
        side.simulator.rules += [
            Rule("blob", cut=400_000, times=1),
            Rule("blob", if_range=True, times=1, **part),
        ]
        body, _, tries = self.receive(side)
        assert (body, tries) == (BODY, 3)
        assert side.simulator.calls("blob")[-1].headers["range"] == "bytes=400009-"

    def test_the_checksum_is_of_the_whole(self, side: Side) -> None:
        whole = base64.b64encode(hashlib.md5(BODY).digest()).decode()
        side.simulator.rules += [
            Rule("blob", cut=400_000, times=1, headers={"Content-MD5": whole}),
            Rule("blob", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, if_range=True),
        ]
        assert self.receive(side)[0] == BODY

    def test_only_its_beginning_is_kept_all_the_same(self, side: Side) -> None:
        side.simulator.rules.append(Rule("blob", cut=400_000, times=1))
        body, download, _ = self.receive(side, keep_bytes=500_000)
        assert (body, download.size, download.complete) == (BODY[:500_000], len(BODY), False)
