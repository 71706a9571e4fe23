"""How often a result is asked for, with a service that answers from a list and a clock that only waits move."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import pytest

from defender_simulator.fleet import command, machine_action
from tap_defender_lr import machine_action as decoding
from tap_defender_lr.downloads import Download, LinkRefusedError
from tap_defender_lr.errors import (
    NotFoundError,
    PermissionDeniedError,
    ReadFailedError,
    StoreFailedError,
    TimeIsUpError,
)
from tap_defender_lr.fetching import _DOWNLOAD_SECONDS, _SLOWEST, Fetched, ResultFetcher, _Budget
from tap_defender_lr.lifetime import Lifetime
from tests.conftest import NOON, action_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_defender_lr.client import DefenderClient
    from tap_defender_lr.downloads import BlobStore

ID = action_id(1)
LINK = "https://blobs.example/x?sig=1"
OTHER = f"https://blobs.example/x?rscd=attachment%3Bfilename%3Doutput_{action_id(2)}_0.json&sig=1"
OWN = f"https://blobs.example/x?rscd=attachment%3Bfilename%3Doutput_{ID.upper()}_0.json&sig=1"
DONE = Download(io.BytesIO(b""), 0, "", complete=True)
ABSENT, FAILED = NotFoundError("status 404"), ReadFailedError("status 500")
EXPIRED = LinkRefusedError("status 403 AuthenticationFailed", renewable=True)
EARLY = LinkRefusedError("status 403 AuthenticationFailed", renewable=True, valid_in=7.0)
MORE_ROOM = StoreFailedError("no room")
MIB = 1024 * 1024
FIREWALL = LinkRefusedError("status 403 AuthorizationFailure", renewable=False)


class Service:
    """Plays client and blob store: answers, or raises, what comes next in its lists."""

    def __init__(self, links: list[Any], downloads: list[Any], *, sizes: Iterable[int] = ()) -> None:
        self.links, self.downloads, self.sizes = iter(links), iter(downloads), iter(sizes)
        self.size = self.received = 0
        self.is_closed = False
        self.asked: list[str] = []

    def download_link(self, action_id: str, index: int, *, begun: bool = False) -> str:
        assert (action_id, index) == (ID, 0)
        assert begun == (self.size > 0)
        self.asked.append("link")
        return cast("str", self._next(self.links))

    def transfer(self, _sink: Any) -> Service:
        return self

    def receive(self, _link: str, _check: Any) -> Download:
        self.asked.append("blob")
        self.size += next(self.sizes, 0)
        return cast("Download", self._next(self.downloads))

    def close(self) -> None:
        self.is_closed = True

    def _next(self, answers: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def fetch(service: Service, *, age: float = 10_000, seconds: float | None = None) -> tuple[Fetched, float]:
    now = [NOON]
    lifetime = Lifetime(seconds, clock=lambda: now[0], sleep=lambda wait: now.__setitem__(0, now[0] + wait))
    fetcher = ResultFetcher(
        cast("DefenderClient", service), cast("BlobStore", service), lifetime, keep_bytes=1, clock=lambda: now[0]
    )
    action = decoding.from_api(
        machine_action(action_id=ID, created=NOON - age - 60, updated=NOON - age, commands=[command(0)])
    )
    assert action is not None
    return fetcher.fetch(action, action.commands[0]), now[0] - NOON


@pytest.mark.parametrize(
    ("links", "downloads", "asked"),
    [
        pytest.param([LINK], [DONE], "link blob", id="at once"),
        pytest.param([OWN], [DONE], "link blob", id="a link that names this command"),
        pytest.param([ABSENT, LINK], [DONE], "link link blob", id="there a little later"),
        pytest.param([LINK, LINK], [EXPIRED, DONE], "link blob link blob", id="expired: one new link"),
        pytest.param([OTHER, LINK], [DONE], "link link blob", id="of another command: one new link"),
        pytest.param([LINK], [EARLY, DONE], "link blob blob", id="not valid yet: the same link later"),
        pytest.param([LINK], [FAILED, FAILED, FAILED, DONE], "link blob blob blob blob", id="a download that heals"),
        pytest.param([LINK, LINK], [ABSENT, DONE], "link blob link blob", id="the blob is there a little later"),
    ],
)
def test_it_arrives(links: list[Any], downloads: list[Any], asked: str) -> None:
    service = Service(links, downloads)
    fetched, _ = fetch(service)
    assert fetched.download is DONE
    assert " ".join(service.asked) == asked


@pytest.mark.parametrize(
    ("links", "downloads", "sizes", "asked"),
    [
        pytest.param(
            [LINK], [*[FAILED] * 9, DONE], [MIB] * 9, "link" + " blob" * 10, id="breaks again and again, but goes on"
        ),
        pytest.param(
            [LINK] * 3, [EXPIRED, FAILED, EXPIRED, DONE], [0, MIB], "link blob link blob blob link blob", id="expires"
        ),
    ],
)
def test_a_long_download_goes_on_as_long_as_something_comes(
    links: list[Any], downloads: list[Any], sizes: list[int], asked: str
) -> None:
    service = Service(links, downloads, sizes=sizes)
    fetched, _ = fetch(service)
    assert fetched.download is DONE
    assert " ".join(service.asked) == asked


@pytest.mark.parametrize(
    ("links", "downloads", "sizes", "asked"),
    [
        pytest.param(
            [LINK], [FAILED] * 9, [MIB, MIB, 9, 9, 9, 9], "link" + " blob" * 5, id="a few bytes are no progress"
        ),
        pytest.param(
            [LINK] * 2, [FAILED, EXPIRED, EXPIRED], [9], "link blob blob link blob", id="a new link is refused at once"
        ),
        pytest.param([LINK], [MORE_ROOM], [], "link blob", id="no room: not tried again"),
    ],
)
def test_a_long_download_ends_when_nothing_comes(
    links: list[Any], downloads: list[Any], sizes: list[int], asked: str
) -> None:
    service = Service(links, downloads, sizes=sizes)
    fetched, _ = fetch(service)
    assert fetched.failed is not None
    assert " ".join(service.asked) == asked
    assert service.is_closed


@pytest.mark.parametrize(("received", "allowed"), [(0, 600), (50_000_000, 1100), (3_000_000_000, 30_600)])
def test_the_more_of_a_file_comes_the_longer_it_may_take(received: int, allowed: float) -> None:
    assert _Budget(_DOWNLOAD_SECONDS, _SLOWEST).left(received) == allowed
    assert _Budget(_DOWNLOAD_SECONDS).left(received) == 600


@pytest.mark.parametrize(
    ("links", "downloads", "asked", "reason"),
    [
        pytest.param(
            [LINK, LINK], [EXPIRED, EXPIRED], "link blob link blob", "also with a new link", id="expired twice"
        ),
        pytest.param([LINK], [EARLY, EARLY], "link blob blob", "also when tried again later", id="not valid later"),
        pytest.param([LINK], [FIREWALL], "link blob", "AuthorizationFailure", id="no new link would help"),
        pytest.param([OTHER, OTHER], [], "link link", "result of another command", id="of another command twice"),
        pytest.param(
            [LINK], [FAILED] * 4, "link blob blob blob blob", "status 500, 4 times in a row", id="keeps failing"
        ),
        pytest.param([FAILED], [], "link", "status 500", id="no link"),
    ],
)
def test_it_fails(links: list[Any], downloads: list[Any], asked: str, reason: str) -> None:
    service = Service(links, downloads)
    fetched, _ = fetch(service)
    assert fetched.failed is not None
    assert reason in fetched.failed
    assert " ".join(service.asked) == asked


@pytest.mark.parametrize(("age", "calls", "seconds"), [(299, 5, 30), (301, 2, 2), (-600, 5, 30)])
def test_what_is_not_there_is_asked_for_again_within_reason(age: float, calls: int, seconds: float) -> None:
    service = Service([ABSENT] * 9, [])
    fetched, waited = fetch(service, age=age)
    assert fetched.absent == "status 404"
    assert len(service.asked) == calls
    assert waited == pytest.approx(seconds)


def test_a_link_that_is_valid_much_later_is_waited_for_no_longer_than_a_minute() -> None:
    late = LinkRefusedError("status 403", renewable=True, valid_in=5000.0)
    assert fetch(Service([LINK], [late, DONE]))[1] == pytest.approx(60)


def test_what_concerns_the_run_is_raised() -> None:
    with pytest.raises(PermissionDeniedError):
        fetch(Service([PermissionDeniedError("no role")], []))


def test_nothing_is_begun_when_the_time_is_up() -> None:
    service = Service([LINK], [DONE])
    with pytest.raises(TimeIsUpError):
        fetch(service, seconds=0)
    assert service.asked == []
