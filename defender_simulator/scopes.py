"""What a person is asked to allow: the words of a `scope` parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from defender_simulator.aadsts import SignInError, bad_request, unknown_resource

if TYPE_CHECKING:
    from defender_simulator.tenant import App

_OPENID = frozenset({"openid", "profile", "email", "offline_access"})
_GRAPH = "00000003-0000-0000-c000-000000000000"
#: Delegated permissions of Defender for Endpoint that this simulator has heard of.
_KNOWN = frozenset({"Machine.Read", "Machine.ReadWrite", "Machine.LiveResponse", "Library.Manage", ".default"})


class Scopes(NamedTuple):
    """Attributes: `asked`: what is wanted from the API, without its address; `openid`: the other words."""

    resource: str
    asked: frozenset[str]
    openid: frozenset[str]

    @classmethod
    def parse(cls, text: str, *, resource: str, tenant_id: str, app: App) -> Scopes:
        """Raises SignInError for what can not be asked for."""
        words = frozenset(text.split())
        asked = set()
        for word in sorted(words - _OPENID):
            address, _, permission = word.rpartition("/")
            if "://" in word and address != resource:
                raise unknown_resource(address, tenant_id)
            if not address or permission not in _KNOWN:
                raise SignInError(
                    650053,
                    f"The application 'Simulated app' asked for scope '{permission}' that doesn't exist on the "
                    # Words without an address belong to Microsoft Graph.
                    f"resource '{resource if address else _GRAPH}'. Contact the app vendor. "
                    f"Client ID: {app.client_id}.",
                )
            asked.add(permission)
        if not asked:
            text = "The request body must contain the following parameter: 'scope'."
            raise bad_request(900144, "invalid_request", text)
        if ".default" in asked and len(asked) > 1:
            raise bad_request(
                70011,
                "invalid_scope",
                "The provided value for the input parameter 'scope' is not valid. .default scope can't be combined "
                "with resource-specific scopes.",
            )
        return cls(resource, frozenset(asked), words & _OPENID)

    def granted(self, app: App) -> str:
        """The scopes of the token, as the answer names them: all that the app has consent for.

        Raises SignInError when there is no consent for what was asked.
        """
        if self.asked - {".default"} - set(app.delegated) or not app.delegated:
            raise bad_request(
                65001,
                "invalid_grant",
                "The user or administrator has not consented to use the application with ID "
                f"'{app.client_id}' named 'Simulated app'. Send an interactive authorization request for this user and "
                "resource.",
                suberror="consent_required",
            )
        ours = (f"{self.resource}/{permission}" for permission in sorted(self.asked | set(app.delegated)))
        return " ".join([*sorted(self.openid - {"offline_access"}), *ours])
