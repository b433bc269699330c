"""Samsara: vehicles, and the stats they report."""

from integrations.samsara.client import ORIGINS, Samsara

__all__ = ["ORIGINS", "Samsara"]
