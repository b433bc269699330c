"""The garage of the maintenance tests."""

from tests.maintenance.conftest import garage, platform

__all__ = ["garage", "platform"]
