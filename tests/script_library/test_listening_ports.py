"""Listening ports on Linux: all that are open, and none that a name invents."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from tests.library_pages import BY_STREAM
from tests.script_library.shells import every_shell, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@every_shell
def test_the_name_of_an_open_file_invents_no_port(shell: list[str], tmp_path: Path) -> None:
    page = BY_STREAM["listening_ports"]
    fake = "   0: 0100007F:7A69 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4242"
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        inode = os.stat(opened.fileno()).st_ino  # noqa: PTH116
        link = f"lrwx------ 1 0 0 64 Nov 24 04:00 5 -> socket:[{inode}]"
        folder = tmp_path / "x\n"
        folder.mkdir()
        names = [f"a\nsocket tcp {fake}", f"b\n{link}", f"c -> socket:[{inode}]"]
        files = [(tmp_path / name).open("w") for name in names]
        (folder / "proc" / "1").mkdir(parents=True)
        files.append((folder / "proc" / "1" / f"fd:\n{link}").open("w"))
        try:
            rows = page.check(run(page, shell))
        finally:
            for file in files:
                file.close()
        port = opened.getsockname()[1]
    assert 0x7A69 not in {row["local_port"] for row in rows}
    assert [row["process_id"] for row in rows if row["local_port"] == port] == [os.getpid()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@every_shell
def test_our_own_ports_are_found(shell: list[str]) -> None:
    page = BY_STREAM["listening_ports"]
    expected = set()
    sockets = []
    addresses = [(socket.AF_INET, "127.0.0.1")]
    if os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
        addresses += [(socket.AF_INET6, "::1"), (socket.AF_INET6, "::ffff:127.0.0.1")]
    try:
        for family, address in addresses:
            for kind, protocol in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
                opened = socket.socket(family, kind)
                sockets.append(opened)
                opened.bind((address, 0))
                if protocol == "tcp":
                    opened.listen()
                expected.add((protocol, address, opened.getsockname()[1], os.getpid()))
        # A client is no listener.
        client = socket.create_connection(sockets[0].getsockname())
        sockets.append(client)
        rows = page.check(run(page, shell))
    finally:
        for opened in sockets:
            opened.close()
    found = {tuple(row[key] for key in page.keys): row for row in rows}
    assert expected <= set(found)
    assert client.fileno() == -1
    assert {row["process_path"] for key, row in found.items() if key in expected} == {
        os.path.realpath("/proc/self/exe")
    }
