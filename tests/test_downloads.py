from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from defender_simulator import Rule, Simulator
from tap_defender_lr.downloads import BlobStore, LinkRefusedError
from tap_defender_lr.errors import InterruptedRunError, NotFoundError, ReadFailedError
from tests.conftest import NOON, World, action_id
from tests.test_client import Side as ApiSide

if TYPE_CHECKING:
    from collections.abc import Iterator
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

    def download(self, **arguments: Any) -> Any:
        defaults: dict[str, Any] = {"keep_bytes": 10**7, "seconds": 60.0, "stop": lambda: None}
        return self.blobs.download(self.link(), **{**defaults, **arguments})


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
        side.blobs.download(
            f"{side.simulator.blob_url}/container/a%7Eb?{query}", keep_bytes=1, seconds=60.0, stop=lambda: None
        )
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
        side.blobs.download(link, keep_bytes=1, seconds=60.0, stop=lambda: None)
    assert raised.value.renewable
    assert raised.value.valid_in is None


def test_a_link_that_is_not_valid_yet_says_when_it_will_be(side: Side, service_clock: ServiceClock) -> None:
    link = side.link()
    service_clock.now -= 20
    with pytest.raises(LinkRefusedError) as raised:
        side.blobs.download(link, keep_bytes=1, seconds=60.0, stop=lambda: None)
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
        side.download(stop=stop)


def test_a_disk_that_is_full_is_named(side: Side, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(ReadFailedError, match="temporary file"):
        side.download()
