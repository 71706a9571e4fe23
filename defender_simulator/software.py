"""What is installed in the make-believe company: names, versions and publishers, as real software lists print them."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

_MICROSOFT = "Microsoft Corporation"


class Package(NamedTuple):
    name: str
    version: str
    publisher: str


#: On every Windows device.
_WINDOWS_BASE = (
    Package("Microsoft Edge", "128.0.2739.67", _MICROSOFT),
    Package("Microsoft Edge WebView2 Runtime", "128.0.2739.67", _MICROSOFT),
    Package("Microsoft 365 Apps for enterprise - en-us", "16.0.17726.20206", _MICROSOFT),
    Package("Microsoft OneDrive", "24.166.0818.0003", _MICROSOFT),
    Package("Teams Machine-Wide Installer", "1.7.0.15969", _MICROSOFT),
    Package("Microsoft Update Health Tools", "5.72.0.0", _MICROSOFT),
    Package("Microsoft Intune Management Extension", "1.83.107.0", _MICROSOFT),
    Package("Microsoft Monitoring Agent", "10.20.18069.0", _MICROSOFT),
    Package("Configuration Manager Client", "5.00.9128.1007", _MICROSOFT),
    Package("7-Zip 23.01 (x64)", "23.01", "Igor Pavlov"),
    Package("Google Chrome", "128.0.6613.120", "Google LLC"),
    Package("Cisco Secure Client - AnyConnect VPN", "5.1.4.74", "Cisco Systems, Inc."),
    Package("Intel(R) Management Engine Components", "2345.5.42.0", "Intel Corporation"),
)

_WINDOWS_OTHER = (
    Package("Adobe Acrobat (64-bit)", "24.002.21005", "Adobe"),
    Package("Adobe Creative Cloud", "6.4.0.361", "Adobe Inc."),
    Package("AutoCAD LT 2024 - English", "24.3.61.0", "Autodesk, Inc."),
    Package("Azure CLI (64-bit)", "2.63.0", _MICROSOFT),
    Package("Azure Data Studio", "1.49.1", _MICROSOFT),
    Package("Beyond Compare 4.4.7", "4.4.7.28397", "Scooter Software"),
    Package("Bonjour", "3.1.0.1", "Apple Inc."),
    Package("Citrix Workspace 2402", "24.2.0.172", "Citrix Systems, Inc."),
    Package("Dell Command | Update for Windows Universal", "5.4.0", "Dell Inc."),
    Package("Docker Desktop", "4.33.1", "Docker Inc."),
    Package("Dropbox", "206.3.6386", "Dropbox, Inc."),
    Package("draw.io 24.7.8", "24.7.8", "JGraph"),
    Package("DYMO Connect", "1.4.7.48", "Sanford, L.P."),
    Package("FileZilla Client 3.67.1", "3.67.1", "Tim Kosse"),
    Package("GIMP 2.10.38", "2.10.38", "The GIMP Team"),
    Package("Git", "2.46.0", "The Git Development Community"),
    Package("GitHub CLI", "2.55.0", "GitHub, Inc."),
    Package("Go Programming Language amd64 go1.22.6", "1.22.6", "https://go.dev"),
    Package("Greenshot 1.2.10.6", "1.2.10.6", "Greenshot"),
    Package("HP Connection Optimizer", "2.0.19.0", "HP Inc."),
    Package("IrfanView 4.67 (64-bit)", "4.67", "Irfan Skiljan"),
    Package("Java 8 Update 421 (64-bit)", "8.0.4210.9", "Oracle Corporation"),
    Package("JetBrains Rider 2024.2", "242.20224.431", "JetBrains s.r.o."),
    Package("KeePass Password Safe 2.57", "2.57", "Dominik Reichl"),
    Package("Lenovo System Update", "5.08.03.47", "Lenovo"),
    Package("LibreOffice 24.2.5.2", "24.2.5.2", "The Document Foundation"),
    Package("Logi Options+", "1.82.6.0", "Logitech"),
    Package("Microsoft SQL Server Management Studio - 20.2", "20.2.30.0", _MICROSOFT),
    Package("Microsoft Visual Studio Code", "1.92.2", _MICROSOFT),
    Package("Mozilla Firefox ESR (x64 de)", "115.14.0", "Mozilla"),
    Package("Mozilla Maintenance Service", "115.14.0", "Mozilla"),
    Package("Müller & Söhne Zeiterfassung 'Pro'", "7.4.1", "Müller & Söhne GmbH"),
    Package("Node.js", "20.17.0", "Node.js Foundation"),
    Package("Notepad++ (64-bit x64)", "8.6.9", "Notepad++ Team"),
    Package("NVIDIA Graphics Driver 560.81", "560.81", "NVIDIA Corporation"),
    Package("OBS Studio", "30.2.3", "OBS Project"),
    Package("Oracle VM VirtualBox 7.0.20", "7.0.20", "Oracle and/or its affiliates"),
    Package("paint.net", "5.0.13", "dotPDN LLC"),
    Package("PDF24 Creator 11.18.0", "11.18.0", "geek software GmbH"),
    Package("PostgreSQL 16", "16.4-1", "PostgreSQL Global Development Group"),
    Package("PowerShell 7-x64", "7.4.5.0", _MICROSOFT),
    Package("PowerToys (Preview) x64", "0.83.0", _MICROSOFT),
    Package("PuTTY release 0.81 (64-bit)", "0.81.0.0", "Simon Tatham"),
    Package("QGIS 3.34.9 'Prizren'", "3.34.9", "QGIS.org"),
    Package("R for Windows 4.4.1", "4.4.1", "R Core Team"),
    Package("Realtek High Definition Audio Driver", "6.0.9534.1", "Realtek Semiconductor Corp."),
    Package("SAP GUI for Windows 8.00 (Patch 8)", "8.00 Compilation 1", "SAP SE"),
    Package("Slack", "4.39.95", "Slack Technologies Inc."),
    Package("Snagit 2024", "24.2.3.2533", "TechSmith Corporation"),
    Package("Sysinternals Suite", "2024.7.23", ""),
    Package("TeamViewer", "15.57.3", "TeamViewer"),
    Package("VLC media player", "3.0.21", "VideoLAN"),
    Package("VMware Tools", "12.4.5.23787635", "VMware, Inc."),
    Package("WinMerge 2.16.42.1 x64", "2.16.42.1", "Thingamahoochie Software"),
    Package("WinRAR 7.01 (64-bit)", "7.01.0", "win.rar GmbH"),
    Package("Wireshark 4.2.6 x64", "4.2.6", "The Wireshark developer community"),
    Package("Zoom Workplace (64-bit)", "6.1.42542", "Zoom Video Communications, Inc."),
    Package("弥生会計 24", "30.1.1", "弥生株式会社"),
)

_LINUX_SOURCES = """
    acl apparmor apt bash binutils bind9 bzip2 ca-certificates cloud-init containerd coreutils cron cryptsetup curl
    dbus debconf dpkg e2fsprogs efibootmgr ethtool findutils fwupd gcc-11 gdb git glib2.0 glibc gnupg gnutls28 grep
    grub2 gzip iproute2 iptables isc-dhcp jq kmod krb5 less libcap2 libgcrypt20 libseccomp libssh libxml2 linux-base
    lvm2 mawk mdatp multipath-tools ncurses netplan.io nftables nginx openldap openssh openssl pam pcre2 perl php8.1
    plymouth polkit postgresql-14 procps python3.10 python3-stdlib-extensions readline rsync rsyslog runc samba sed
    shadow snapd sqlite3 strace sudo systemd sysstat tar tcpdump tmux tzdata ubuntu-advantage ufw
    unattended-upgrades util-linux vim wget xz-utils zlib zstd
"""
_UBUNTU = "Ubuntu Developers <ubuntu-devel-discuss@lists.ubuntu.com>"
_LINUX_PARTS = ("", "-common", "-data", "-dev", "-doc", "-utils", "-bin", "-dbg")

#: Apps by publisher.
_MAC_APPS = {
    "AgileBits Inc.": "1Password",
    "Adobe Inc.": "Adobe Acrobat Reader",
    "Apple": (
        "App Store, Automator, Books, Calculator, Calendar, Font Book, GarageBand, Image Capture, iMovie, "
        "Keynote, Mail, Maps, Music, Notes, Numbers, Pages, Photos, Preview, QuickTime Player, Safari, "
        "Stickies, System Settings, TextEdit, TV, Xcode"
    ),
    "Microsoft Corporation": (
        "Company Portal, Microsoft Defender, Microsoft Edge, Microsoft Excel, Microsoft Outlook, Microsoft "
        "Teams, Microsoft Word, OneDrive, Visual Studio Code"
    ),
    "Docker Inc": "Docker",
    "Figma, Inc.": "Figma",
    "Mozilla Corporation": "Firefox",
    "Google LLC": "Google Chrome",
    "George Nachman": "iTerm",
    "Postman, Inc.": "Postman",
    "Ryan Hanson": "Rectangle",
    "Slack Technologies, Inc.": "Slack",
    "Sketch B.V.": "Sketch",
    "VideoLAN": "VLC",
    "Zoom Video Communications, Inc.": "zoom.us",
}


def _windows_families() -> list[Package]:
    """Runtimes, SDKs and language packs: what makes the list of a developer's machine long."""
    visual_c = product(
        (("2010", "10.0.40219"), ("2012", "11.0.61030"), ("2013", "12.0.40664"), ("2022", "14.38.33135")),
        ("X86", "X64"),
        ("Additional", "Minimum", "Debug"),
    )
    dotnet = product(
        ("6.0.33", "7.0.20", "8.0.8"),
        ("Runtime", "Host", "Host FX Resolver", "AppHost Pack", "Targeting Pack", "Templates", "SDK", "Toolset"),
        ("x64", "x86"),
    )
    python = product(
        ("3.10.11", "3.11.9", "3.12.5"),
        ("Core Interpreter", "Development Libraries", "Documentation", "Executables", "pip Bootstrap", "Test Suite"),
    )
    office = product(
        ("English", "Deutsch", "Français", "Español", "Italiano", "Nederlands", "Polski", "日本語", "简体中文"),
        ("Proofing Tools", "Language Pack", "Speech Pack", "Handwriting Pack"),
    )
    sdk = product(
        ("Headers and Libs", "Tools", "Desktop Extension", "Redistributables", "App Certification Kit", "Debuggers"),
        ("x86", "x64", "arm", "arm64"),
    )
    studio = product(
        ("blend", "clickonce", "test_tools", "performance", "installer", "azure", "web", "intellitrace"),
        ("core", "resources", "native x64", "managed", "managed x86"),
    )
    rows = [
        *((f"Microsoft Visual C++ {year} {arch} {part} Runtime - {v}", f"{v}.0") for (year, v), arch, part in visual_c),
        *((f"Microsoft .NET {part} - {v} ({arch})", f"{v}.33916") for v, part, arch in dotnet),
        *((f"Microsoft Office {part} 2016 - {language}", "16.0.4266.1001") for language, part in office),
        *((f"Windows SDK {part} {arch}", "10.1.22621.3233") for part, arch in sdk),
        *((f"vs_{part} {kind}", "17.11.35208") for part, kind in studio),
    ]
    return [Package(name, version, _MICROSOFT) for name, version in rows] + [
        Package(f"Python {v} {part} (64-bit)", f"{v}150.0", "Python Software Foundation") for v, part in python
    ]


def release(package: Package, number: int) -> Package:
    """A later version, `number` releases on. A program that has its version in its name stays as it is."""
    head, dot, last = package.version.rpartition(".")
    if package.version in package.name or not dot or not last.isdigit():
        return package
    return package._replace(version=f"{head}.{int(last) + number:0{len(last)}d}")


def windows_base() -> list[Package]:
    return list(_WINDOWS_BASE)


def windows_other() -> list[Package]:
    return [*_WINDOWS_OTHER, *_windows_families()]


def linux() -> list[Package]:
    names = (source + part for source, part in product(_LINUX_SOURCES.split(), _LINUX_PARTS))
    return [
        Package(name, f"{n % 9}.{n % 23}.{n % 7}-{n % 5}ubuntu0.22.04.{n % 11}", _UBUNTU)
        for n, name in enumerate(names)
    ]


def macos() -> list[Package]:
    apps = [(name, publisher) for publisher, names in _MAC_APPS.items() for name in names.split(", ")]
    return [Package(name, f"{10 + n % 8}.{n % 6}.{n % 4}", publisher) for n, (name, publisher) in enumerate(apps)]
