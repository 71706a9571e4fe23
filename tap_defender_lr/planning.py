"""Which items a stream still has to emit, and what it must remember: machine actions + state → plan → state. Pure.

An *item* is what becomes one record: a command of a final action, or a version of an action. Each stream has its own
state, flat and small, since STATE is written after every few records:

- `replication_key_value`, the bookmark: the `last_update` up to which all was emitted. It only moves forward.
- `done`: fingerprints of emitted items that the next run could take for new ones: those within the overlap
  of one hour before the bookmark (servers replicate late), and those of open actions. With `actions` in the settings
  it remembers every item, and every action that was read as a whole, so that nothing is asked for twice.
- `open`: fingerprints of actions to look at again however old their last update is: the ones that wait for their
  device, since it is not documented whether the end of an action moves its last update, and late ones not yet read.
- `retry`: items that failed, as [action id, command index, Unix time of the first failure, creation time].

Lists, because Meltano merges dictionaries of an older state into a newer one, but replaces lists.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tap_defender_lr import timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tap_defender_lr.machine_action import Command, MachineAction

OVERLAP_SECONDS = 3600
RETRY_SECONDS = 3 * 24 * 3600
"""How long a failed item is tried again in later runs before it is given up."""


def fingerprint(*parts: object) -> str:
    """11 characters (64 bits of a hash) that stand for an item or an action in state."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def action_key(action_id: str) -> str:
    """What stands for an action in state."""
    return fingerprint(action_id.lower())


def command_key(action_id: str, index: int) -> str:
    """What stands for a command in state."""
    return fingerprint(action_id.lower(), index)


@dataclass(frozen=True)
class Retry:
    """A command whose result could not be read.

    Attributes:
        first_failure: Unix seconds.
        creation: Creation time of the action, so that the listing can start early enough to hold it.
    """

    action_id: str
    index: int
    first_failure: int
    creation: str

    def is_over(self, now: float) -> bool:
        return now - self.first_failure >= RETRY_SECONDS


@dataclass(frozen=True, slots=True)
class Item:
    """What becomes one record.

    Attributes:
        command: None for an item of `machine_actions`.
        retry: Set when an earlier run failed to read it.
        replaces: Set when its rows replace those of an older item with the same value here. After a newer one they must
            not be written any more: a loader that upserts would put old rows in the place of new ones.
        moot: There is nothing to emit; the item is only there to be remembered as done.
    """

    action: MachineAction
    command: Command | None = None
    retry: Retry | None = None
    replaces: tuple[str, str] | None = None
    moot: bool = False

    @property
    def fingerprint(self) -> str:
        """What stands for it in state. Not kept: a first run may have millions of items."""
        action = self.action
        if self.command is not None:
            return command_key(action.id, self.command.index)
        return fingerprint(action.id.lower(), action.last_update, action.status)

    @property
    def order(self) -> tuple[str, str, int]:
        return self.action.last_update, self.action.id, self.command.index if self.command else 0

    @property
    def age(self) -> tuple[str, str]:
        """When it ended on the device (the service may not move the last update then), and its action."""
        ended = self.action.end_time(self.command) if self.command else None
        return ended or self.action.last_update, self.action.id


@dataclass(frozen=True)
class StreamState:
    """The state of one stream as an earlier run left it. Anything odd in it counts as not there."""

    bookmark: str | None = None
    done: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()
    retry: tuple[Retry, ...] = ()

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StreamState:
        return cls(
            bookmark=timestamps.normalize(state.get("replication_key_value")),
            done=frozenset(_texts(state.get("done"))),
            open=frozenset(_texts(state.get("open"))),
            retry=tuple(_retries(state.get("retry"))),
        )

    def list_from(self, lookback_days: int) -> str | None:
        """The earliest creation time that the listing must hold, or None for all that the service has."""
        if self.bookmark is None:
            return None
        start = min([timestamps.shift(self.bookmark, -lookback_days * 24 * 3600), *(r.creation for r in self.retry)])
        # Year 1 is how .NET writes "no time"; not every reader of OData takes it.
        return None if start < timestamps.EPOCH else start


@dataclass(frozen=True)
class _Tracked:
    """What state has to know of an action beyond its items.

    Attributes:
        key: Fingerprint of the action.
        items: Fingerprints of its items.
        whole: The items are all that the action has, none was left out by a setting.
    """

    last_update: str
    key: str
    items: tuple[str, ...]
    is_open: bool
    whole: bool


class _DoneItems:
    """Fingerprints of items that were emitted, in the order of their last update."""

    def __init__(self) -> None:
        self._stamps: list[str] = []
        self._fingerprints: list[str] = []

    def add(self, last_update: str, fingerprint: str) -> None:
        place = bisect.bisect_right(self._stamps, last_update)
        self._stamps.insert(place, last_update)
        self._fingerprints.insert(place, fingerprint)

    def since(self, floor: str) -> list[str]:
        """Those whose last update is not before `floor`."""
        return self._fingerprints[bisect.bisect_left(self._stamps, floor) :]


class Plan:
    """What a stream is going to emit, and the bookkeeping of what it has emitted.

    Attributes:
        items: In the order in which they are to be emitted: failed ones of earlier runs, then by last update.
        waiting: Number of actions that are not final yet.
        newest: What rows replace → the age of the newest item that an earlier run has read for it.
        lost: Failed items of earlier runs that are given up because the service does not list their action any more.
    """

    def __init__(
        self,
        items: tuple[Item, ...],
        tracked: Sequence[_Tracked],
        known: _DoneItems,
        state: StreamState,
        *,
        latest: str,
        end: str,
        newest: Mapping[tuple[str, str], tuple[str, str]],
        moot: Sequence[Item] = (),
        lost: Iterable[Retry] = (),
        explicit: bool = False,
    ) -> None:
        self.items = items
        self.newest = newest
        self.lost = tuple(lost)
        self._next = self._first_new = sum(item.retry is not None for item in items)
        self._tracked = tracked
        self._known = known
        self._explicit = explicit
        self._bookmark = state.bookmark
        self._latest = latest
        self._end = end
        self._done = set(state.done)
        self._retry = {(retry.action_id, retry.index): retry for retry in state.retry if retry not in self.lost}
        self._open = {entry.key for entry in tracked if entry.is_open}
        if explicit:  # what was not asked for in this run is as open as it was
            self._open |= state.open.difference(entry.key for entry in tracked)
        self._remembered = [entry for entry in tracked if entry.key in state.open and not entry.is_open]
        self.waiting = len(self._open)
        for item in moot:
            self._finish(item)

    @property
    def again(self) -> Iterator[Item]:
        """The items that failed in an earlier run."""
        return islice(self.items, self._first_new)

    @property
    def new(self) -> Iterator[Item]:
        """All the others."""
        return islice(self.items, self._first_new, None)

    @property
    def left(self) -> set[str]:
        """Fingerprints of the items that were neither emitted nor are known to fail."""
        return {item.fingerprint for item in islice(self.items, self._next, None)} - self._done

    @property
    def failing(self) -> set[str]:
        """Fingerprints of the items that the next run tries again."""
        return {command_key(*key) for key in self._retry}

    def emitted(self, item: Item) -> None:
        """All records of this item were written. The bookmark moves as far as all items before it were emitted, too."""
        self._finish(item)
        while self._next < len(self.items) and self.items[self._next].fingerprint in self._done:
            self._advance(self.items[self._next].action.last_update)
            self._next += 1  # the first of the new ones that was not emitted

    def completed(self) -> None:
        """Every item was emitted: the next run need not look further back than to the last action that has ended."""
        self._advance(self._end)

    def _finish(self, item: Item) -> None:
        fingerprint = item.fingerprint
        self._done.add(fingerprint)
        self._known.add(item.action.last_update, fingerprint)
        if item.command is not None:
            self._retry.pop((item.action.id, item.command.index), None)

    def _advance(self, last_update: str) -> None:
        # An action that is dated into the future must not hide all that come after it.
        if not self._explicit and last_update:
            self._bookmark = max(self._bookmark or "", min(last_update, self._latest))

    def failed(self, item: Item, now: float) -> None:
        """The item could not be read and shall be tried again first thing in the next run."""
        if item.command is not None:
            key = (item.action.id, item.command.index)
            self._retry[key] = item.retry or Retry(*key, first_failure=int(now), creation=item.action.creation)

    def state(self) -> dict[str, Any]:
        """What the stream's state must say now, so that the next run continues exactly here."""
        floor = _floor(self._bookmark)
        # New items are emitted in the order of their last update, so only one that is wanted for another reason
        # than its last update, because it was seen open, can be older than the overlap and still unread.
        late = [e for e in self._remembered if e.last_update < floor and not self._done.issuperset(e.items)]
        open_actions = self._open.union(entry.key for entry in late)
        if self._explicit:
            read = self._done.difference(command_key(*failing) for failing in self._retry)
            whole = (e.key for e in self._tracked if e.whole and not e.is_open and read.issuperset(e.items))
            done = self._done.union(whole)
        else:
            before = (e.items for e in self._tracked if e.last_update < floor and e.key in open_actions)
            done = self._done.intersection(chain(self._known.since(floor), *before))
        retry = [[r.action_id, r.index, r.first_failure, r.creation] for r in self._retry.values()]
        state: dict[str, Any] = {"done": sorted(done), "open": sorted(open_actions), "retry": retry}
        return state if self._bookmark is None else {**state, "replication_key_value": self._bookmark}


def make_plan(
    actions: Iterable[MachineAction],
    state: StreamState,
    items_of: Callable[[MachineAction], Sequence[Item] | None],
    *,
    now: float,
    explicit: bool = False,
    replaces: bool = False,
) -> Plan:
    """Decide what is to be emitted.

    Args:
        actions: What the service lists, each action once.
        state: What earlier runs left.
        items_of: The items of one action by index, none for one that is not ready; None if it will never have any.
        now: Unix seconds.
        explicit: The actions were named in the settings: bookmark and overlap do not apply.
        replaces: Some items replace others, so that those that were read long ago have to be looked at.
    """
    floor = _floor(state.bookmark)
    retries = {(retry.action_id, retry.index): retry for retry in state.retry}
    failing = {retry.action_id for retry in state.retry}
    again: list[Item] = []
    new: list[Item] = []
    moot: list[Item] = []
    tracked: list[_Tracked] = []
    known = _DoneItems()
    newest: dict[tuple[str, str], tuple[str, str]] = {}
    end = ""
    # The age of what was read before has to be unpacked: quick for neighbours of the listing, slow in any other order.
    for action in actions if replaces else sorted(actions, key=_by_last_update):
        is_final, is_near = action.is_final, action.last_update >= floor
        if is_final:
            end = max(end, action.last_update)
        key = action_key(action.id) if state.open or explicit or not is_final else ""
        was_open = key in state.open
        is_wanted = explicit or is_near or was_open
        # One that is not final is remembered, however late the service lists it: its end may not move its last update.
        if is_final and not (is_wanted or replaces or action.id in failing):
            continue  # it was done long ago
        items = items_of(action)
        if items is None:
            continue
        for item in items:
            retry = retries.pop((action.id, item.command.index), None) if failing and item.command else None
            is_done = is_wanted and bool(state.done) and item.fingerprint in state.done
            if is_done and is_near:
                known.add(action.last_update, item.fingerprint)
            if retry is not None:
                again.append(replace(item, retry=retry))
            elif is_wanted and not is_done:
                (moot if item.moot else new).append(item)
            elif item.replaces is not None:
                newest[item.replaces] = max(newest.get(item.replaces, ("", "")), item.age)
        if explicit or was_open or not is_final:
            tracked.append(_track(action, key, items))
    return Plan(
        items=(*_ordered(again), *_ordered(new)) if replaces else (*again, *new),
        tracked=tracked,
        known=known,
        state=state,
        latest=timestamps.from_unix(now),
        end=end,
        newest=newest,
        moot=moot,
        # What is named in the settings comes in batches: it may be in another one.
        lost=[retry for retry in retries.values() if retry.is_over(now) and not explicit],
        explicit=explicit,
    )


def _by_last_update(action: MachineAction) -> tuple[str, str]:
    return action.last_update, action.id


def _ordered(items: Iterable[Item]) -> list[Item]:
    """By last update; those of one action stay as they are."""
    return sorted(items, key=lambda item: _by_last_update(item.action))


def _track(action: MachineAction, key: str, items: Sequence[Item]) -> _Tracked:
    covered = {item.command.index if item.command else None for item in items}
    whole = None in covered or covered.issuperset(command.index for command in action.commands)
    fingerprints = tuple(item.fingerprint for item in items)
    return _Tracked(action.last_update, key, fingerprints, is_open=not action.is_final, whole=whole)


def _floor(bookmark: str | None) -> str:
    return "" if bookmark is None else timestamps.shift(bookmark, -OVERLAP_SECONDS)


def _texts(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


def _retries(value: object) -> Iterable[Retry]:
    for entry in value if isinstance(value, list) else []:
        match entry:
            case [str(action_id), int(index), int(first_failure), str(creation)]:
                if timestamps.normalize(creation) == creation:
                    yield Retry(action_id, index, first_failure, creation)
