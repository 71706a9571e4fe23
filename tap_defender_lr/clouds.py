"""Hosts, sign-in authority and token scope of each Microsoft cloud.

Sources: Microsoft's pages "Supported Microsoft Defender for Endpoint APIs" and "Hello World" (commercial: the API moved
to api.security.microsoft.com, the audience of the token did not), and "Microsoft Defender for Endpoint for US
Government customers" (2026-01-05: GCC signs in at the commercial host; GCC High and DoD share one API host).
No page documents the scope of the government clouds: clients in the field use the API host itself.
"""

from __future__ import annotations

from dataclasses import dataclass

COMMERCIAL = "commercial"


@dataclass(frozen=True)
class Cloud:
    """What `api_url`, `login_url` and `token_scope` are when they are not set."""

    api_url: str
    login_url: str
    token_scope: str


CLOUDS = {
    COMMERCIAL: Cloud(
        api_url="https://api.security.microsoft.com",
        login_url="https://login.microsoftonline.com",
        token_scope="https://api.securitycenter.microsoft.com/.default",
    ),
    "gcc": Cloud(
        api_url="https://api-gcc.securitycenter.microsoft.us",
        login_url="https://login.microsoftonline.com",
        token_scope="https://api-gcc.securitycenter.microsoft.us/.default",
    ),
    "gcc_high": Cloud(
        api_url="https://api-gov.securitycenter.microsoft.us",
        login_url="https://login.microsoftonline.us",
        token_scope="https://api-gov.securitycenter.microsoft.us/.default",
    ),
    "dod": Cloud(
        api_url="https://api-gov.securitycenter.microsoft.us",
        login_url="https://login.microsoftonline.us",
        token_scope="https://api-gov.securitycenter.microsoft.us/.default",
    ),
}
