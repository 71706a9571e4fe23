"""The list of tenants: what the file says, and what is wrong with it."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_NUMBERS = {"every_minutes": 60, "stale_after_hours": 6, "retries": 3, "first_wait_seconds": 60}
_SET_HERE = {"quota_store": "it is in PostgreSQL for all tenants"}
_EACH = {"max_run_minutes": 15}
"""What a tenant has if the list says nothing: a run without an end would wait for its quota in a place of the queue."""
_PATHS = ("files_url", "certificate_path", "federated_token_file", "token_cache_path")
_AROUND_SECONDS = 300
"""What a run may take beside `max_run_minutes`: to start, and until all is loaded."""


class TenantsError(Exception):
    """The list of tenants, or a secret that it names, cannot be used. One sentence for a person."""


@dataclass(frozen=True)
class Reference:
    """Where a value is found when a run needs it: `kind` is `env` or `file`."""

    kind: str
    place: str

    def read(self, variable: Callable[[str], str | None]) -> str:
        """The value. Without the line feed at the end that editors leave behind."""
        if self.kind == "env":
            value = variable(self.place)
            if not value:
                raise TenantsError(f"The environment variable {self.place} is not set.")
            return value
        try:
            value = Path(self.place).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise TenantsError(f"The file {self.place} cannot be read ({reason}).") from None
        if not value:
            raise TenantsError(f"The file {self.place} is empty.")
        return value


@dataclass(frozen=True)
class Tenant:
    """One tenant: settings of the tap by name, of which some are only references."""

    name: str
    settings: Mapping[str, Any]

    @property
    def schema(self) -> str:
        """Where its tables are in the warehouse."""
        return f"tenant_{self.name}"

    @property
    def account(self) -> str:
        """What the ledger of calls knows it by: the tap makes the same text of its settings."""
        tenant, app, identity = (
            str(self.settings.get(name) or "").strip()
            for name in ("tenant_id", "client_id", "managed_identity_client_id")
        )
        return f"{tenant}/{app or identity}".lower()

    @property
    def references(self) -> dict[str, Reference]:
        return {name: value for name, value in self.settings.items() if isinstance(value, Reference)}

    def environment(self, variable: Callable[[str], str | None]) -> dict[str, str]:
        """Settings as Meltano takes them. This is where secrets are read."""
        found = {}
        for name, value in self.settings.items():
            text = value.read(variable) if isinstance(value, Reference) else value
            found[f"TAP_DEFENDER_LR_{name.upper()}"] = text if isinstance(text, str) else json.dumps(text)
        return found


@dataclass(frozen=True)
class Tenants:
    """All tenants, and what holds for all of them."""

    every_minutes: int
    stale_after_hours: int
    retries: int
    first_wait_seconds: int
    tenants: tuple[Tenant, ...]

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self.tenants)

    def __getitem__(self, name: str) -> Tenant:
        found = next((tenant for tenant in self.tenants if tenant.name == name), None)
        if found is None:
            raise TenantsError(f"There is no tenant {name} in the list.")
        return found

    def secret_variables(self) -> set[str]:
        """Variables that hold a secret of one tenant, which the processes of others must not see."""
        references = (reference for tenant in self.tenants for reference in tenant.references.values())
        return {reference.place for reference in references if reference.kind == "env"}


def read(file: Path, project: Path) -> Tenants:
    """The list in that file. The settings that a tenant may have are those that Meltano's project file knows."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TenantsError(f"The list of tenants {file} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError):  # their texts may show a secret that stands in the wrong place
        raise TenantsError(f"The list of tenants {file} is not YAML.") from None
    (plugin,) = yaml.safe_load(project.read_text(encoding="utf-8"))["plugins"]["extractors"]
    known = {setting["name"]: setting for setting in plugin["settings"]}
    found = list(problems(document, known, _longest_run(project.with_name("dagster.yaml"))))
    if found:
        raise TenantsError(f"The list of tenants {file} is not right. {' '.join(found)}")
    numbers = {name: document.get(name, default) for name, default in _NUMBERS.items()}
    return Tenants(**numbers, tenants=tuple(_tenants(document)))


def _longest_run(engine: Path) -> float:
    """Seconds after which Dagster ends a run."""
    document = yaml.safe_load(engine.read_text(encoding="utf-8")) if engine.is_file() else None
    found = ((document or {}).get("run_monitoring") or {}).get("max_runtime_seconds")
    return _number(found, at_least=1) or math.inf


def problems(document: Any, settings: Mapping[str, Mapping[str, Any]], longest_run: float) -> Iterator[str]:
    """What is wrong with the list, in sentences that never hold a value: it may be a secret."""
    if not isinstance(document, dict) or not isinstance(document.get("tenants"), list) or not document["tenants"]:
        yield "It must hold a list `tenants`."
        return
    for name in document.keys() - {*_NUMBERS, "defaults", "tenants"}:
        yield f"`{name}` means nothing here."
    numbers = {name: document.get(name, default) for name, default in _NUMBERS.items()}
    odd = [name for name, value in numbers.items() if _number(value, at_least=int(name == "every_minutes")) is None]
    yield from (f"`{name}` must be a whole number." for name in odd)
    if not odd and numbers["stale_after_hours"] * 60 < numbers["every_minutes"]:
        yield "`stale_after_hours` must not be shorter than `every_minutes`, or each tenant is stale before its turn."
    entries = {"defaults": document.get("defaults") or {}}
    for number, entry in enumerate(document["tenants"], 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            yield f"Tenant {number} needs a `name` of up to 40 lower-case letters, digits and _."
        else:
            entries[f"Tenant {name}" if f"Tenant {name}" not in entries else f"The second tenant {name}"] = entry
    for place, entry in entries.items():
        yield from _entry_problems(place, entry, settings)
    if any(place.startswith("The second") for place in entries):
        yield "Each name can be used once."
        return
    if isinstance(entries["defaults"], dict):
        yield from _account_problems(document)
        if not odd:
            yield from _length_problems(document, numbers, longest_run)


def _entry_problems(place: str, entry: Any, settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"{place} must hold settings."
        return
    for name, value in entry.items():
        if value is None or (name == "name" and place != "defaults"):
            continue
        if name not in settings:
            yield f"{place}: `{name}` is no setting of the tap."
        elif name in _SET_HERE:
            yield f"{place}: `{name}` cannot be set, {_SET_HERE[name]}."
        elif settings[name].get("sensitive") and _reference(value) is None:
            yield f"{place}: `{name}` must not stand in the list; write {{env: VARIABLE}} or {{file: PATH}}."
        elif isinstance(value, dict) and not settings[name].get("sensitive"):
            yield f"{place}: `{name}` must be a value."
        elif settings[name].get("kind") == "integer" and _number(value, at_least=0) is None:
            yield f"{place}: `{name}` must be a whole number."
        elif name in _PATHS and isinstance(value, str) and _is_relative(value.strip(), is_url=name == "files_url"):
            yield f"{place}: `{name}` must be an absolute path, since a run's own folder is gone after the run."


def _is_relative(value: str, *, is_url: bool) -> bool:
    """Whether it depends on the working directory. The tap itself knows ~, but not in a file URL."""
    if is_url and re.match("[A-Za-z][A-Za-z0-9+.-]+:", value):  # a single letter is a drive of Windows
        return re.match("(?i)(?:file|local):", value) is not None and not urlsplit(value).path.startswith("/")
    return bool(value) and not value.startswith(("~", "/")) and not Path(value).is_absolute()


def _number(value: Any, *, at_least: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= at_least else None


def _account_problems(document: Mapping[str, Any]) -> Iterator[str]:
    tenants = [tenant for tenant in _tenants(document) if isinstance(tenant.settings.get("tenant_id"), str)]
    for tenant in _tenants(document):
        if not isinstance(tenant.settings.get("tenant_id"), str):
            yield f"Tenant {tenant.name} needs a `tenant_id`."
    for account, count in Counter(tenant.account for tenant in tenants).items():
        if count > 1:
            names = " and ".join(tenant.name for tenant in tenants if tenant.account == account)
            yield f"{names} are the same tenant and app, so that they would share one quota."


def _length_problems(document: Mapping[str, Any], numbers: Mapping[str, int], longest_run: float) -> Iterator[str]:
    """A run that Dagster ends keeps no state: the next one would read the same again, and be ended again."""
    retries = numbers["retries"]
    # Dagster waits (2^n - 1) times as long before the n-th retry, and up to once more or less by chance.
    waits = (2 ** min(retries + 1, 64) - 2) * numbers["first_wait_seconds"]
    too_long = []
    for tenant in _tenants(document):
        value = tenant.settings.get("max_run_minutes")
        minutes = _number(value, at_least=1)
        if minutes is None:  # what is no number at all has been told before
            if not value:
                yield f"Tenant {tenant.name} needs `max_run_minutes`, a whole number."
        elif (retries + 1) * (minutes * 60 + _AROUND_SECONDS) + waits > longest_run:
            too_long.append(tenant.name)
    if too_long:
        names = ", ".join(too_long[:3]) + (", …" if len(too_long) > 3 else "")
        yield (
            f"`max_run_minutes` is too long for {names}: with all retries and their waits a run could take longer than "
            "`max_runtime_seconds` in dagster.yaml, after which Dagster ends it and its state is lost."
        )


def _reference(value: Any) -> Reference | None:
    if isinstance(value, dict) and len(value) == 1:
        ((kind, place),) = value.items()
        if kind in {"env", "file"} and isinstance(place, str) and place:
            return Reference(kind, place)
    return None


def _tenants(document: Mapping[str, Any]) -> Iterator[Tenant]:
    for entry in document["tenants"]:
        if isinstance(entry, dict):
            merged = {**_EACH, **(document.get("defaults") or {}), **entry}
            name = str(merged.pop("name", ""))
            # An empty value undoes a default.
            settings = {key: value for key, value in merged.items() if value is not None}
            yield Tenant(name, {key: _reference(value) or _plain(value) for key, value in settings.items()})


def _plain(value: Any) -> Any:
    """YAML reads 2026-01-01 as a date."""
    return value.isoformat() if hasattr(value, "isoformat") else value


def configured() -> Tenants:
    """The list of this installation: `tenants.yaml` in the working directory, or where TENANTS_FILE says."""
    return read(Path(os.environ.get("TENANTS_FILE") or "tenants.yaml"), Path("meltano.yml"))
