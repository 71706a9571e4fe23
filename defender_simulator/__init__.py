"""A Defender for Endpoint API, an Entra sign-in and a blob store on localhost over TLS, as strict as the service.

Example:
    with Simulator(tenant) as sim:
        run_the_tap(config=sim.settings(), env=sim.environment())
        assert len(sim.calls("link")) == 3
"""

from __future__ import annotations

try:
    from defender_simulator.calls import Call
    from defender_simulator.rules import Rule, throttled
    from defender_simulator.simulator import Simulator
    from defender_simulator.tenant import App, FederatedCredential, ManagedIdentity, Result, Tenant
except ModuleNotFoundError as error:
    message = f"The simulated tenant needs {error.name}: install `tap-defender-lr[simulator]`."
    raise ModuleNotFoundError(message, name=error.name) from None

__all__ = [
    "App",
    "Call",
    "FederatedCredential",
    "ManagedIdentity",
    "Result",
    "Rule",
    "Simulator",
    "Tenant",
    "throttled",
]
