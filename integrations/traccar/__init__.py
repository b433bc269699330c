"""Traccar, which everybody hosts for themselves: devices, and the positions that they report."""

from integrations.traccar.client import Traccar

__all__ = ["Traccar"]
