"""The list of vehicles: only the id is certain, and one bad field costs only itself."""

import json

import pytest

from integrations.samsara.devices import decode_devices
from integrations.telematics import Device

VEHICLE = {
    "id": "281474977075805",
    "name": "Truck 1",
    "vin": "1FUJA6BD31LJ09646",
    "licensePlate": "B-FJ 1",
    "make": "Ford",
    "model": "Transit",
    "year": "2019",
    "createdAtTime": "2025-01-01T00:00:00Z",
}
DEVICE = Device("281474977075805", "Truck 1", "1FUJA6BD31LJ09646", "B-FJ 1", "Ford", "Transit", 2019)


def body_of(*vehicles: object) -> bytes:
    return json.dumps({"data": vehicles, "pagination": {"endCursor": "", "hasNextPage": False}}).encode()


def test_a_vehicle_is_a_device_and_its_year_a_number() -> None:
    page = decode_devices(body_of(VEHICLE))
    assert (page.devices, page.rejected) == ([DEVICE], [])


def test_everything_but_the_id_may_be_missing_null_or_empty() -> None:
    empty = {key: "" for key in VEHICLE if key != "id"} | {"id": "2"}
    page = decode_devices(body_of({"id": "1"}, empty, {"id": "3", "name": None, "year": None}))
    assert (page.devices, page.rejected) == ([Device("1"), Device("2"), Device("3")], [])


@pytest.mark.parametrize("year", ["19", "MMXIX", "20190", "1066", "²019", 10**30, [2019]])
def test_a_year_that_cannot_be_costs_only_itself(year: object) -> None:
    page = decode_devices(body_of(VEHICLE | {"year": year}))
    assert page.devices[0].year is None
    assert page.devices[0].vin == DEVICE.vin
    assert [(aside.reason, aside.field) for aside in page.rejected] == [("year_out_of_range", "year")]


def test_a_year_sent_as_a_number_is_read_too() -> None:
    assert decode_devices(body_of(VEHICLE | {"year": 2019})).devices == [DEVICE]


@pytest.mark.parametrize("key", ["name", "vin", "licensePlate", "make", "model"])
def test_a_text_of_the_wrong_type_costs_only_itself(key: str) -> None:
    page = decode_devices(body_of(VEHICLE | {key: 7}))
    assert len(page.devices) == 1
    assert [(aside.reason, aside.field, aside.device_id) for aside in page.rejected] == [
        ("wrong_type", key, VEHICLE["id"])
    ]


def test_names_lose_nul_and_surrounding_space_and_are_cut() -> None:
    page = decode_devices(body_of(VEHICLE | {"name": " Tr\0uck 1 ", "model": "x" * 1000}))
    assert page.devices[0].name == "Truck 1"
    assert page.devices[0].model == "x" * 200


@pytest.mark.parametrize(
    ("vehicle", "reason"),
    [
        ({}, "device_id_missing"),
        ({"id": 281474977075805}, "wrong_type"),
        ({"id": ""}, "wrong_type"),
        ({"id": "x" * 65}, "wrong_type"),
        ({"id": "1\0"}, "wrong_type"),
        ("281474977075805", "wrong_type"),
    ],
)
def test_a_vehicle_without_a_usable_id_is_set_aside(vehicle: object, reason: str) -> None:
    page = decode_devices(body_of(vehicle, VEHICLE))
    assert page.devices == [DEVICE]
    assert [aside.reason for aside in page.rejected] == [reason]
