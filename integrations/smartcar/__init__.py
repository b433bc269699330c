"""Smartcar: vehicles of private owners and mixed fleets, asked one by one, and what it pushes."""

from integrations.smartcar.client import Smartcar
from integrations.smartcar.oauth import DEFAULT_SCOPE, authorize_url, exchange, renew
from integrations.smartcar.places import ORIGINS
from integrations.smartcar.webhooks import SmartcarWebhooks

__all__ = ["DEFAULT_SCOPE", "ORIGINS", "Smartcar", "SmartcarWebhooks", "authorize_url", "exchange", "renew"]
