"""The statements of the documentation do what it says, as another application runs them."""

import re

import psycopg
import pytest

from tests.docs.pages import ROOT, blocks
from tests.inprocess import Platform
from tests.maintenance.garage import Garage


@pytest.mark.parametrize("page", ["maintenance.md", "work-orders.md"])
def test_every_statement_of_the_page_runs(platform: Platform, garage: Garage, page: str) -> None:
    van = garage.vehicle(vehicle_type="van")
    order = garage.insert("work_orders", vehicle_id=van, type="corrective", title="x")
    known = {"vehicle_id": van, "work_order_id": order}
    statements = [each for block in blocks((ROOT / "docs" / page).read_text(), "sql") for each in block.split(";\n")]
    with psycopg.connect(platform.urls.app_url, autocommit=True) as app:
        app.execute("SELECT set_config('app.tenant_id', %s, false)", [str(garage.tenant_id)])
        touched = 0
        for statement in filter(str.strip, statements):
            given = re.sub(r":'(\w+)'", lambda found: f"'{known[found[1]]}'", statement)
            touched += app.execute(given.encode()).rowcount
    assert touched == len([each for each in statements if each.strip()]) >= 2
