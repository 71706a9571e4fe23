"""Proxies, TLS inspection and one's own authorities hold on all three legs: sign-in, API and blob store.

A real proxy reads along: the tap is told of it, and of the proxy's authority, only by environment variables.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from defender_simulator import Simulator
from tests.conftest import Cli, Run, World
from tests.intercepting_proxy import InterceptingProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
LEGS = ("login", "api", "blob")
PASSWORD = "pass-word-Of-The-Proxy"
RESULTS = 3
_OF_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
_OF_AUTHORITIES = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"}
_WITHOUT_REPETITION = (
    "from tap_defender_lr import __main__, auth, client, fetching; "
    "auth._PAUSES = (0.0,); client._MAX_TRIES = fetching._DOWNLOAD_TRIES = 1; __main__.main()"
)


class OfficeCli(Cli):
    """Knows no proxy and no authority but those that a test gives it, and reaches nothing but by one try."""

    def __init__(self, folder: Path, simulator: Simulator, **settings: Any) -> None:
        super().__init__(folder, simulator, **settings)
        unset = _OF_PROXIES | _OF_AUTHORITIES
        self.environment = {name: value for name, value in self.environment.items() if name.upper() not in unset}
        self.environment["TAP_DEFENDER_LR_LOGLEVEL"] = "DEBUG"

    @override
    def command(self, *arguments: str, state: dict[str, Any] | None = None, **settings: Any) -> list[str]:
        python, _module, _name, *others = super().command(*arguments, state=state, **settings)
        return [python, "-c", _WITHOUT_REPETITION, *others]

    def run_with(self, **environment: str) -> Run:
        self.environment |= environment
        return self.run()


@pytest.fixture
def simulator(world: World) -> Iterator[Simulator]:
    for number in range(1, RESULTS + 1):
        world.add(number)
    with Simulator(world.tenant) as simulator:
        yield simulator


@pytest.fixture
def proxy(simulator: Simulator) -> Iterator[InterceptingProxy]:
    with InterceptingProxy(simulator.ca_file) as proxy:
        yield proxy


@pytest.fixture
def cli(tmp_path: Path, simulator: Simulator) -> OfficeCli:
    return OfficeCli(tmp_path, simulator)


@pytest.fixture
def both_authorities(tmp_path: Path, simulator: Simulator, proxy: InterceptingProxy) -> str:
    """The bundle of a company: what everybody trusts, and its own proxy."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(simulator.ca_file).read_bytes() + Path(proxy.ca_file).read_bytes())
    return str(bundle)


def address(simulator: Simulator, leg: str) -> str:
    """`localhost:port` of sign-in, API or blob store."""
    return str(getattr(simulator, f"{leg}_url")).removeprefix("https://")


def check_everything_arrived(run: Run) -> None:
    assert run.code == 0, run.stderr
    assert [record["result_status"] for record in run.records()] == ["fetched"] * RESULTS


def check_sentence(run: Run, *words: str) -> None:
    """The run ended with exit code 1 and one sentence; nothing arrived, and nothing was written off as failed."""
    assert run.code == 1, run.stderr
    assert "Traceback" not in run.stderr
    assert run.records() == []
    (sentence,) = [line for line in run.stderr.splitlines() if "| ERROR" in line]
    for word in words:
        assert word in sentence


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_all_legs_go_through_the_proxy(
    simulator: Simulator, proxy: InterceptingProxy, cli: OfficeCli, variable: str
) -> None:
    proxy.login = f"tap:{PASSWORD}"
    url = proxy.url.replace("//", f"//{proxy.login}@")
    # REQUESTS_CA_BUNDLE counts more than SSL_CERT_FILE, which alone counts as much.
    others = {"SSL_CERT_FILE": simulator.ca_file} if variable == "REQUESTS_CA_BUNDLE" else {}
    run = cli.run_with(HTTPS_PROXY=url, **others, **{variable: proxy.ca_file})
    check_everything_arrived(run)
    assert set(proxy.connects) == {address(simulator, leg) for leg in LEGS}
    # Every request that has reached a server is one that the proxy has read: none went past it.
    read = {leg: [line for host, line in proxy.requests if host == address(simulator, leg)] for leg in LEGS}
    assert sorted(line.split()[1] for lines in read.values() for line in lines) == sorted(
        call.path + (f"?{call.query}" if call.query else "") for call in simulator.log
    )
    assert any(line.startswith("POST") and "/oauth2/v2.0/token" in line for line in read["login"])
    assert sum("GetLiveResponseResultDownloadLink(index=0)" in line for line in read["api"]) == RESULTS
    assert sum("sig=" in line for line in read["blob"]) == len(read["blob"]) == RESULTS
    for secret in (PASSWORD, *simulator.secrets()):
        assert secret not in run.stdout + run.stderr


@pytest.mark.parametrize("inspected", ["all", "api"])
def test_without_the_authority_of_the_proxy_one_sentence_says_which_variable(
    simulator: Simulator, proxy: InterceptingProxy, cli: OfficeCli, inspected: str
) -> None:
    """Proxies often spare the hosts of Microsoft, but not the blob store, whose name they do not know."""
    if inspected != "all":
        proxy.uninspected = {address(simulator, leg) for leg in LEGS if leg != inspected}
    run = cli.run_with(HTTPS_PROXY=proxy.url, REQUESTS_CA_BUNDLE=simulator.ca_file)
    check_sentence(run, "certificate is not trusted", "REQUESTS_CA_BUNDLE")
    assert proxy.requests == []


@pytest.mark.parametrize("direct", ["all", "api"])
def test_no_proxy_leads_past_it(
    simulator: Simulator, proxy: InterceptingProxy, cli: OfficeCli, both_authorities: str, direct: str
) -> None:
    no_proxy = "localhost" if direct == "all" else f"example.com,{address(simulator, direct)}"
    run = cli.run_with(HTTPS_PROXY=proxy.url, NO_PROXY=no_proxy, REQUESTS_CA_BUNDLE=both_authorities)
    check_everything_arrived(run)
    through = set() if direct == "all" else set(LEGS) - {direct}
    assert set(proxy.connects) == {address(simulator, leg) for leg in through}


@pytest.mark.parametrize(("refused", "status"), [("login", 407), ("api", 403)])
def test_a_proxy_that_lets_nobody_through(
    simulator: Simulator, proxy: InterceptingProxy, cli: OfficeCli, refused: str, status: int
) -> None:
    proxy.refused = {address(simulator, refused): status}
    run = cli.run_with(HTTPS_PROXY=proxy.url, REQUESTS_CA_BUNDLE=proxy.ca_file)
    check_sentence(run, "the proxy refused", "HTTPS_PROXY")
    assert address(simulator, refused) not in {host for host, _ in proxy.requests}


def test_a_proxy_that_is_not_there(simulator: Simulator, cli: OfficeCli) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        nowhere = f"127.0.0.1:{unused.getsockname()[1]}"
        run = cli.run_with(HTTPS_PROXY=f"http://tap:{PASSWORD}@{nowhere}", REQUESTS_CA_BUNDLE=simulator.ca_file)
    check_sentence(run, "the proxy refused", "HTTPS_PROXY")
    assert PASSWORD not in run.stderr
    assert simulator.log == []


def test_a_proxy_without_a_host(simulator: Simulator, cli: OfficeCli) -> None:
    run = cli.run_with(HTTPS_PROXY="http://:3128", REQUESTS_CA_BUNDLE=simulator.ca_file)
    check_sentence(run, "HTTPS_PROXY is no usable address")


def test_a_bundle_that_is_not_there(cli: OfficeCli, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    check_sentence(cli.run_with(REQUESTS_CA_BUNDLE=missing), "REQUESTS_CA_BUNDLE")
