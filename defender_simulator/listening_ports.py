"""What Get-ListeningPorts prints: what every system opens, what the device is for, and a surprise here and there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .documents import DAY, document, encoded

if TYPE_CHECKING:
    from random import Random

    from .devices import Device


class Listener(NamedTuple):
    """A process and what it listens on, as `tcp 0.0.0.0 22`.

    Attributes:
        path: Null for the kernel.
    """

    name: str
    path: str | None
    service: str | None
    sockets: tuple[str, ...]


_SYSTEM32 = "C:\\Windows\\System32"
_SVCHOST = f"{_SYSTEM32}\\svchost.exe"
_SQL = "C:\\Program Files\\Microsoft SQL Server\\MSSQL16.MSSQLSERVER\\MSSQL\\Binn\\sqlservr.exe"


def _everywhere(protocol: str, *ports: int) -> tuple[str, ...]:
    return tuple(f"{protocol} {address} {port}" for port in ports for address in ("0.0.0.0", "::"))  # noqa: S104 - printed


_WINDOWS = (
    Listener("svchost.exe", _SVCHOST, "RpcEptMapper, RpcSs", _everywhere("tcp", 135)),
    Listener("System", None, None, ("tcp :: 445", *_everywhere("tcp", 5985))),
    Listener("svchost.exe", _SVCHOST, "CDPSvc", ("tcp 0.0.0.0 5040", "udp 0.0.0.0 5050")),
    Listener("lsass.exe", f"{_SYSTEM32}\\lsass.exe", "KeyIso, SamSs", _everywhere("tcp", 49664)),
    Listener("svchost.exe", _SVCHOST, "Dnscache", _everywhere("udp", 5353, 5355)),
    Listener("svchost.exe", _SVCHOST, "W32Time", _everywhere("udp", 123)),
)
_WINDOWS_ROLES = {
    "dc": (
        Listener("dns.exe", f"{_SYSTEM32}\\dns.exe", "DNS", (*_everywhere("tcp", 53), *_everywhere("udp", 53))),
        Listener("lsass.exe", f"{_SYSTEM32}\\lsass.exe", "Kdc, NTDS", _everywhere("tcp", 88, 389, 636)),
    ),
    "sql": (Listener("sqlservr.exe", _SQL, "MSSQLSERVER", _everywhere("tcp", 1433)),),
    "app": (Listener("java.exe", "D:\\Contoso\\jre\\bin\\java.exe", "ContosoPortal", _everywhere("tcp", 8080)),),
    "print": (Listener("spoolsv.exe", f"{_SYSTEM32}\\spoolsv.exe", "Spooler", _everywhere("tcp", 49668)),),
    "rds": (Listener("svchost.exe", _SVCHOST, "TermService", (*_everywhere("tcp", 3389), *_everywhere("udp", 3389))),),
}
_WINDOWS_SURPRISES = (
    Listener("AnyDesk.exe", "C:\\Program Files (x86)\\AnyDesk\\AnyDesk.exe", "AnyDesk", ("tcp 0.0.0.0 7070",)),
    Listener("svchost.exe", _SVCHOST, "TermService", _everywhere("tcp", 3389)),
    Listener("svch0st.exe", "C:\\Users\\Public\\svch0st.exe", None, ("tcp 0.0.0.0 4444",)),
)

_LINUX = (
    Listener("sshd", "/usr/sbin/sshd", "ssh.service", _everywhere("tcp", 22)),
    Listener(
        "systemd-resolve",
        "/usr/lib/systemd/systemd-resolved",
        "systemd-resolved.service",
        ("tcp 127.0.0.53 53", "udp 127.0.0.53 53"),
    ),
    Listener("chronyd", "/usr/sbin/chronyd", "chrony.service", ("udp 127.0.0.1 323", "udp ::1 323")),
)
_LINUX_ROLES = {
    "web": (Listener("nginx", "/usr/sbin/nginx", "nginx.service", _everywhere("tcp", 80, 443)),),
    "db": (
        Listener(
            "postgres", "/usr/lib/postgresql/14/bin/postgres", "postgresql@14-main.service", _everywhere("tcp", 5432)
        ),
    ),
    "k8s": (
        Listener("kubelet", "/usr/bin/kubelet", "kubelet.service", ("tcp 127.0.0.1 10248", "tcp :: 10250")),
        Listener("kube-apiserver", "/usr/local/bin/kube-apiserver", None, ("tcp :: 6443",)),
    ),
    "ci": (
        Listener(
            "java", "/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "jenkins.service", ("tcp ::ffff:0.0.0.0 8080",)
        ),
    ),
}
_LINUX_SURPRISES = (
    Listener("x", "/tmp/.x/x (deleted)", None, ("tcp 0.0.0.0 31337",)),  # noqa: S108 - printed
    Listener("redis-server", "/usr/bin/redis-check-rdb", "redis-server.service", ("tcp 0.0.0.0 6379",)),
)

_CONTROL_CENTER = "/System/Library/CoreServices/ControlCenter.app/Contents/MacOS/ControlCenter"
_MACOS = (
    Listener("ControlCenter", _CONTROL_CENTER, None, _everywhere("tcp", 5000, 7000)),
    Listener("cupsd", "/usr/sbin/cupsd", None, ("tcp 127.0.0.1 631", "tcp ::1 631")),
    Listener("mDNSResponder", "/usr/sbin/mDNSResponder", None, _everywhere("udp", 5353)),
)


def print_document(device: Device, at: int, _rng: Random) -> str:
    traits = device.traits("ports")
    role = device.name.split("-")[1]
    listeners: list[Listener] = []
    if device.is_windows:
        listeners += [*_WINDOWS, *_WINDOWS_ROLES.get(role, ())]
    elif device.platform == "linux":
        listeners += [*_LINUX, *_LINUX_ROLES.get(role, ())]
    else:
        listeners += _MACOS
    if device.platform != "macos" and traits.random() < 0.12:
        listeners.append(traits.choice(_WINDOWS_SURPRISES if device.is_windows else _LINUX_SURPRISES))
    # Every few days a device starts anew, and its processes have other IDs.
    boot = (at // DAY + traits.randrange(5)) // 5
    ids = iter(sorted(device.traits(f"boot {boot}").sample(range(150, 8000), len(listeners))))
    rows: dict[tuple[str, bool, str, int, int], dict[str, object]] = {}
    for listener in listeners:
        number = next(ids)
        process_id = 4 if listener.path is None else number * 4 if device.is_windows else number
        for socket in listener.sockets:
            protocol, address, port = socket.split(" ")
            # PowerShell sorts a colon before the digits, the shell after them.
            place = (protocol, device.is_windows != address.startswith(":"), address, int(port), process_id)
            rows[place] = {
                "protocol": protocol,
                "local_address": address,
                "local_port": int(port),
                "process_id": process_id,
                "process_name": listener.name,
                "process_path": listener.path,
                "service": listener.service,
            }
    return document(device, "ports", [encoded(device, rows[place]) for place in sorted(rows)])
