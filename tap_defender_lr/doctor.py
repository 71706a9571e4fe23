"""`--doctor`: walks the path that a run takes, and says in plain words what does not work and what to change."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import requests

from tap_defender_lr import files_url, machine_action, timestamps
from tap_defender_lr.client import PAGE_SIZE
from tap_defender_lr.errors import CallsSpentError, StoreFailedError, TapError, TimeIsUpError
from tap_defender_lr.quota import HOUR, MINUTE
from tap_defender_lr.streams.outcome import status_without_asking
from tap_defender_lr.streams.reading import duration
from tap_defender_lr.text import counted
from tap_defender_lr.transport import CONNECT_SECONDS, Authorization, describe, new_session
from tap_defender_lr.workers import start, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tap_defender_lr.planning import Item
    from tap_defender_lr.run import Run
    from tap_defender_lr.streams.command_results import CommandResultsStream

_MOST_CALLS = 3
_MOST_CALLS_FOR_THE_LIST = 2
_PATIENCE_SECONDS = 61.0
"""How long each step that calls the API waits at most: a full minute is soon over, a full hour is not."""
_ENOUGH = "Machine.ReadWrite.All"
_PERHAPS_ENOUGH = "Machine.Read.All"
_WHERE = (
    "In the Entra admin center: App registrations → the app → API permissions → Add a permission → APIs my "
    "organization uses → WindowsDefenderATP → Application permissions → {role}, then Grant admin consent, and wait a "
    "few minutes."
)


@dataclass(frozen=True)
class Check:
    """One step of the walk.

    Attributes:
        status: `failed` if a run would not work; `skipped` if an earlier step has to work first, or no call is
            possible now.
        advice: What to do about it.
    """

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    advice: str | None = None


def examine(run: Run, results: CommandResultsStream) -> Iterator[Check]:
    """The checks after the settings, each as soon as it is made. At most `_MOST_CALLS` calls of the API.

    Args:
        run: With valid settings.
        results: Knows which commands have a result that is worth a call.
    """
    return _Walk(run, results).checks()


def render(checks: Iterable[Check], *, as_json: bool, write: Callable[[str], None]) -> bool:
    """Write the checks as they come, and tell whether a run would work."""
    done: list[Check] = []
    for check in checks:
        done.append(check)
        if not as_json:
            write(f"{check.status:<8} {check.name:<9} {check.detail}")
            if check.advice:
                write(f"{'':<19}→ {check.advice}")
    works = all(check.status != "failed" for check in done)
    if as_json:
        write(json.dumps({"works": works, "checks": [asdict(check) for check in done]}, indent=2, ensure_ascii=False))
    else:
        write("A run would work." if works else "A run would not work yet.")
    return works


class _Walk:
    """A step that raises `TapError` is a failed check; the later ones that need it are skipped."""

    def __init__(self, run: Run, results: CommandResultsStream) -> None:
        self._run = run
        self._results = results
        self._items: list[Item] = []

    def checks(self) -> Iterator[Check]:
        settings = self._run.settings
        self._run.lifetime.end_in(None)  # `max_run_minutes` is for runs, and somebody may have to sign in with a code
        hosts = {"api": settings.api_url}
        if settings.auth_method != "managed_identity":
            hosts = {"sign-in": settings.login_url, **hosts}
        reachable = True
        for name, url in hosts.items():
            check = self._in_background(lambda url=url, name=name: _reach(name, url))  # type: ignore[misc]
            reachable = reachable and check.status == "ok"
            yield check
        steps: list[tuple[str, Callable[[], Check]]] = [
            ("token", self._token),
            ("roles", self._roles),
            ("list", self._list),
            ("result", self._result),
        ]
        if settings.files_url is not None:
            yield self._in_background(self._files)
        works = reachable
        for name, step in steps:
            if not works:
                yield Check(name, "skipped", "An earlier step has to work first.")
                continue
            try:
                check = self._in_background(step)
            except TapError as error:
                check = Check(name, "failed", str(error))
            except TimeIsUpError:
                check = self._not_now(name)
            except CallsSpentError as error:
                calls = counted(self._run.client.calls, "call", "calls")
                last = f"The last call: {error}" if str(error) else "The service gave no answer of use"
                detail = f"{last}; the doctor has made the {calls} that it may."
                check = Check(name, "failed", detail, "It may be down, or throttle: try again in a few minutes.")
            # Roles that look wrong are no reason to give up: the calls will tell.
            works = check.status not in {"failed", "skipped"} or name == "roles"
            yield check
        yield self._in_background(self._quota)

    def _in_background(self, step: Callable[[], Check]) -> Check:
        """So that Ctrl-C does not wait for the network."""
        return take(start(step), self._run.lifetime)

    def _limit(self, calls: int) -> None:
        """Bounds for the step that begins."""
        self._run.client.most_calls = calls
        self._run.lifetime.end_in(_PATIENCE_SECONDS)

    def _not_now(self, name: str) -> Check:
        left = self._run.ledger.left() or {}
        why = "The quota is spent" if 0 in left.values() else "The service asks to wait"
        when = duration(self._run.lifetime.refused_seconds)
        return Check(name, "skipped", f"{why}: the next call is possible in {when}.", "Run the doctor again then.")

    def _token(self) -> Check:
        self._run.credential.token()
        claims = self._run.credential.claims
        name = claims.get("app_displayname") or claims.get("upn") or claims.get("name") or "no name"
        until = f", until {timestamps.from_unix(claims['exp'])[11:16]} UTC" if claims.get("exp") else ""
        app = claims.get("appid") or self._run.settings.client_id
        return Check("token", "ok", f"Signed in to tenant {self._run.credential.tenant_id} as {name} ({app}){until}.")

    def _roles(self) -> Check:
        claims = self._run.credential.claims
        if "scp" in claims:
            return _scopes(set(str(claims["scp"]).split()))
        granted = set(claims.get("roles") or ())
        extra = sorted(granted - {_ENOUGH, _PERHAPS_ENOUGH})
        listed = f"The token has {', '.join(sorted(granted))}" if granted else "The token has no role at all"
        more = f" Not needed, and better taken away: {', '.join(extra)}." if extra else ""
        if _ENOUGH in granted:
            return Check("roles", "warning" if extra else "ok", f"{listed}: enough.", more.strip() or None)
        if _PERHAPS_ENOUGH in granted:
            detail = f"{listed}. {_PERHAPS_ENOUGH} was enough for years; Microsoft's newest pages name {_ENOUGH}."
            return Check("roles", "warning", detail, more.strip() or None)
        return Check("roles", "failed", f"{listed}, and needs {_ENOUGH}.", _WHERE.format(role=_ENOUGH) + more)

    def _list(self) -> Check:
        settings = self._run.settings
        self._limit(_MOST_CALLS_FOR_THE_LIST)
        rows: list[dict[str, Any]] = []
        try:
            rows.extend(itertools.islice(self._run.client.machine_actions(settings.start_date), PAGE_SIZE))
            is_all = len(rows) < PAGE_SIZE
        except (CallsSpentError, TimeIsUpError):
            if not rows:
                raise
            is_all = False
        found = (action for action in map(machine_action.from_api, rows) if action is not None)
        actions = {action.id: action for action in found}.values()  # pages overlap
        self._items = [item for action in actions for item in self._results.items_of(action) or ()]
        since = timestamps.shift(timestamps.from_unix(time.time()), -settings.lookback_days * 24 * 3600)
        recent = sum(action.creation >= since for action in actions)
        more = "" if is_all else "at least "
        what = counted(len(actions), "Live Response action", "Live Response actions")
        detail = f"The service lists {more}{what}, {recent:,} of them in the last {settings.lookback_days} days."
        if actions:
            return Check("list", "ok", detail)
        return Check("list", "warning", detail, "Sessions that were opened by hand in the portal are not in this API.")

    def _result(self) -> Check:
        asked = [item for item in self._items if _costs_a_call(item)]
        if not asked:
            return Check("result", "skipped", "There is no result to try.")
        newest = max(asked, key=lambda item: item.order)
        command = newest.command
        assert command is not None  # noqa: S101  items of results all have one
        what = f"command {command.index} of action {newest.action.id}"
        self._limit(_MOST_CALLS)
        fetched = self._run.fetcher.fetch(newest.action, command, patient=False)
        if fetched.download is not None:
            fetched.download.body.close()
            return Check("result", "ok", f"Downloaded the result of {what}: {fetched.download.size:,} bytes.")
        if fetched.absent is not None:
            return Check("result", "warning", f"The service has no result of {what} ({fetched.absent}).")
        return Check(
            "result",
            "failed",
            f"The result of {what} cannot be read ({fetched.failed}).",
            "If a firewall or proxy is between, it must let through *.blob.core.windows.net (government clouds: "
            "*.blob.core.usgovcloudapi.net).",
        )

    def _files(self) -> Check:
        """Before everything else: a file that cannot be stored ends a run."""
        url = self._run.settings.files_url
        try:
            files_url.open_store(str(url)).check()
        except StoreFailedError as error:
            advice = "Check that it exists and that the tap may write there."
            return Check("files", "failed", f"`files_url`: nothing can be stored there ({error}).", advice)
        return Check("files", "ok", f"Collected files go to {url}, which answers.")

    def _quota(self) -> Check:
        left = self._run.ledger.left()
        if left is None:
            return Check("quota", "skipped", "The ledger of calls cannot be reached.")
        files = self._run.settings.files_url is not None
        calls = 1 + sum(_costs_a_call(item, files=files) for item in self._items)
        detail = f"{left[MINUTE]:,} calls are left this minute, {left[HOUR]:,} this hour."
        if self._items:
            results = counted(len(self._items), "result", "results")
            detail += f" A first run reads {results} and takes {duration(self._run.ledger.forecast(calls))}."
        return Check("quota", "ok", detail)


def _reach(name: str, url: str) -> Check:
    """Whether a host answers over TLS. Without a token: the service does not count it."""
    try:
        with new_session(1) as session:
            session.get(
                f"{url}/", auth=Authorization(None), timeout=CONNECT_SECONDS, allow_redirects=False, stream=True
            ).close()
    except OSError as error:
        advice = "Check the address, name resolution, and whether a proxy is needed (HTTPS_PROXY)."
        if isinstance(error, requests.exceptions.SSLError):
            advice = "Set REQUESTS_CA_BUNDLE to a file that holds the authority of the certificate."
        elif isinstance(error, requests.exceptions.ProxyError):
            advice = "Check HTTPS_PROXY and NO_PROXY."
        return Check(name, "failed", f"{url} cannot be used: {describe(error)}.", advice)
    return Check(name, "ok", f"{url} answers, and its certificate is trusted.")


def _costs_a_call(item: Item, *, files: bool = False) -> bool:
    return item.command is not None and status_without_asking(item.action, item.command, files=files) is None


def _scopes(granted: set[str]) -> Check:
    """Of a person who signed in with a code."""
    missing = [] if "Machine.LiveResponse" in granted else ["Machine.LiveResponse"]
    missing += [] if granted & {"Machine.Read", "Machine.ReadWrite"} else ["Machine.Read"]
    listed = f"The token has the delegated permissions {', '.join(sorted(granted))}"
    if missing:
        advice = _WHERE.replace("Application permissions", "Delegated permissions").format(role=" and ".join(missing))
        return Check("roles", "failed", f"{listed}, and needs {' and '.join(missing)}.", advice)
    return Check("roles", "ok", f"{listed}: enough. A person sees only the device groups of their own.")


def settings_checks(problems: Iterable[str], warnings: Iterable[str], summary: str) -> list[Check]:
    """The first check: what the settings themselves tell."""
    failed = [Check("settings", "failed", problem) for problem in problems]
    if failed:
        return [*failed, Check("the rest", "skipped", "The settings have to be right first.")]
    return [Check("settings", "ok", summary), *(Check("settings", "warning", warning) for warning in warnings)]


def summary(config: Any) -> str:
    """The settings in a few words."""
    return f"Valid: sign-in with {config.auth_method} at {config.login_url}, API at {config.api_url}."
