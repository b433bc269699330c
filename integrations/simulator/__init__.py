"""Providers, simulated over real HTTP: fleets that are pure functions of time, and faults on demand."""

from integrations.simulator.faults import FaultPlan, Scripted
from integrations.simulator.fleet import Account
from integrations.simulator.server import SimulatorThread, serve

__all__ = ["Account", "FaultPlan", "Scripted", "SimulatorThread", "serve"]
