"""What Get-LocalAdministrators prints: some accounts always, and people who have the right for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .documents import DAY, document, encoded

if TYPE_CHECKING:
    from random import Random

    from .devices import Device

USERS = (
    *("a.novak", "b.okafor", "c.lindqvist", "d.müller", "e.rossi", "f.tanaka", "g.oconnor", "h.dubois", "i.kowalska"),
    *("j.smith", "k.haddad", "l.jensen", "m.garcía", "n.ivanova", "o.özdemir", "p.nguyen", "r.schäfer", "s.patel"),
)
_DOMAIN_SID = "S-1-5-21-1004336348-1177238915-682003330"
_ENTRA_SID = "S-1-12-1-2385176410-1128574431-3370264983-2750631845"
#: Of so many days, a person who sometimes needs it is an administrator for some.
_CYCLE, _GRANTED = 30, 6

_MEMBER = "A member of Administrators could not be read: The RPC server is unavailable."

Account = tuple[str, str, str, str, bool | None, str]
_COLUMNS = ("account_id", "name", "account_type", "origin", "enabled", "granted_by")


def print_document(device: Device, at: int, rng: Random) -> str:
    traits = device.traits("administrators")
    people = [
        person
        for person in traits.sample(range(len(USERS)), 6)
        if (at // DAY + traits.randrange(_CYCLE)) % _CYCLE < _GRANTED
    ]
    accounts = _on_windows(device, people, traits) if device.is_windows else _on_unix(device, people, traits)
    problems = [_MEMBER] if device.is_windows and rng.random() < 0.04 else []
    rows = [encoded(device, dict(zip(_COLUMNS, account, strict=True))) for account in sorted(accounts)]
    return document(device, "administrators", rows, problems)


def _on_windows(device: Device, people: list[int], traits: Random) -> list[Account]:
    # The group has another name on a German system.
    group = "Administratoren" if traits.random() < 0.1 else "Administrators"
    user = "Administrator"
    sid = f"S-1-5-21-{traits.getrandbits(31)}-{traits.getrandbits(31)}-{traits.getrandbits(31)}-500"
    accounts: list[Account] = [
        (sid, f"{device.name.upper()}\\{user}", "User", "local", device.platform == "server", group),
    ]
    if traits.random() < 0.9:
        accounts.append((f"{_DOMAIN_SID}-512", "CONTOSO\\Domain Admins", "Group", "domain", None, group))
    if device.platform == "client" and traits.random() < 0.4:
        accounts.append((_ENTRA_SID, _ENTRA_SID, "Group", "entra", None, group))
    if traits.random() < 0.08:
        left = f"{_DOMAIN_SID}-{traits.randint(2000, 2999)}"
        accounts.append((left, left, "User", "unknown", None, group))
    accounts += [
        (f"{_DOMAIN_SID}-{1104 + 7 * person}", f"CONTOSO\\{USERS[person]}", "User", "domain", None, group)
        for person in people
    ]
    return accounts


def _on_unix(device: Device, people: list[int], traits: Random) -> list[Account]:
    is_mac = device.platform == "macos"
    first, group = (501, "admin") if is_mac else (1001, "sudo")
    accounts: list[Account] = [
        ("0", "root", "User", "local", True, "uid 0, wheel, admin" if is_mac else "uid 0"),
        *((str(first + person), USERS[person], "User", "local", True, group) for person in people),
    ]
    if not is_mac and traits.random() < 0.1:
        accounts.append(("0/toor", "toor", "User", "local", True, "uid 0"))
    return accounts
