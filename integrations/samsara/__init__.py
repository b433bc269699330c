"""Samsara: vehicles, the stats they report, what their cameras saw, and what it pushes."""

from integrations.samsara.client import ORIGINS, Samsara
from integrations.samsara.webhooks import SamsaraWebhooks

__all__ = ["ORIGINS", "Samsara", "SamsaraWebhooks"]
