"""Providers, simulated over real HTTP: fleets that are pure functions of time, and faults on demand."""

from integrations.simulator.faults import FaultPlan, Scripted
from integrations.simulator.fleet import Account
from integrations.simulator.samsara_events import expected_safety_events
from integrations.simulator.samsara_faults import expected_faults
from integrations.simulator.samsara_webhooks import send_samsara, sign_samsara
from integrations.simulator.server import SimulatorThread, serve

__all__ = [
    "Account",
    "FaultPlan",
    "Scripted",
    "SimulatorThread",
    "expected_faults",
    "expected_safety_events",
    "send_samsara",
    "serve",
    "sign_samsara",
]
