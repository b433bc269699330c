"""Traccar's lists of devices and groups: which are ours to read, and what a device is called."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from integrations.errors import PermanentError
from integrations.telematics import Device
from integrations.traccar.devices import chosen_groups, decode_devices, list_ids

NOW = datetime(2026, 11, 16, 12, 0, tzinfo=UTC)


def device(**changes: Any) -> dict[str, Any]:
    """Return a device as Traccar lists it."""
    return {
        "id": 31,
        "attributes": {"vin": "1M8GDM9AXKP042788", "licensePlate": "B-XY 12", "make": "MAN", "year": 2021},
        "groupId": 5,
        "name": " Depot 3 ",
        "uniqueId": "350000000000031",
        "status": "online",
        "lastUpdate": "2026-11-16T12:00:00.000+00:00",
        "positionId": 900,
        "phone": None,
        "model": "TGX",
        "disabled": False,
    } | changes


def body(*records: Any) -> bytes:
    return msgspec.json.encode(records)


def decode(*records: Any, groups: frozenset[int] | None = None) -> tuple[list[Device], list[tuple[str, str]]]:
    devices, aside = decode_devices(body(*records), groups)
    return devices, [(each.reason, each.field) for each in aside]


def test_a_device_is_known_by_its_number_and_its_papers_by_the_attributes_that_people_gave_it() -> None:
    expected = Device("31", "Depot 3", "1M8GDM9AXKP042788", "B-XY 12", "MAN", "TGX", 2021)
    assert decode(device()) == ([expected], [])


def test_only_the_id_is_certain() -> None:
    assert decode({"id": 31}) == ([Device("31")], [])
    assert decode(device(name="", attributes=None, model=None)) == ([Device("31", "350000000000031")], [])


@pytest.mark.parametrize(
    ("changes", "column", "reason", "field"),
    [
        ({"name": 7, "uniqueId": None}, "name", "wrong_type", "name"),
        ({"model": []}, "model", "wrong_type", "model"),
        ({"attributes": {"vin": 5}}, "vin", "wrong_type", "attributes.vin"),
        ({"attributes": "none"}, "vin", "wrong_type", "attributes"),
        ({"attributes": {"year": "21"}}, "year", "year_out_of_range", "attributes.year"),
        ({"attributes": {"year": 20_211}}, "year", "year_out_of_range", "attributes.year"),
        ({"attributes": {"year": {"model": 2021}}}, "year", "year_out_of_range", "attributes.year"),
    ],
)
def test_a_bad_field_costs_only_itself(changes: dict[str, Any], column: str, reason: str, field: str) -> None:
    (found,), aside = decode(device(**changes))
    assert (found.device_id, getattr(found, column)) == ("31", None)
    assert aside == [(reason, field)]


def test_texts_are_cut_and_free_of_nul() -> None:
    (found,), aside = decode(device(name="\0" + "n" * 500, attributes={"vin": "\0 ", "year": "2021"}))
    assert (found.name, found.vin, found.year) == ("n" * 200, None, 2021)
    assert not aside


@pytest.mark.parametrize("record", [7, None, {"id": "31"}, {"id": 0}, {"id": -5}, {"name": "no id"}, {"id": 2**60}])
def test_a_device_without_an_id_is_set_aside_and_never_planned(record: Any) -> None:
    devices, aside = decode(record, device())
    assert ([each.device_id for each in devices], aside) == (["31"], [("wrong_type", "id")])
    listed = list_ids(body(record, device()), None)
    assert listed.known == listed.chosen.keys() == {31}


def test_devices_of_other_groups_are_known_and_not_chosen() -> None:
    records = (device(), device(id=32, groupId=6), device(id=33, groupId=0))
    listed = list_ids(body(*records), frozenset({5}))
    assert (listed.known, listed.chosen) == (frozenset({31, 32, 33}), {31: NOW})
    assert [each.device_id for each in decode(*records, groups=frozenset({5, 6}))[0]] == ["31", "32"]


def test_a_device_that_was_never_heard_of_is_told_from_one_whose_time_cannot_be_read() -> None:
    """The first is not read until it is heard of; the second always."""
    listed = list_ids(body(device(lastUpdate=None), device(id=32, lastUpdate=1_763_294_340)), None)
    assert listed.chosen[31] is None
    assert listed.chosen[32] is not None and listed.chosen[32] > datetime(9000, 1, 1, tzinfo=UTC)


def group(id_: int, parent: int = 0) -> dict[str, Any]:
    return {"id": id_, "groupId": parent, "name": f"group {id_}", "attributes": {}}


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [([1], {1, 2, 3, 4}), ([2], {2, 3, 4}), ([4], {4}), ([4, 5], {4, 5}), ([6], {6, 7}), ([], set())],
)
def test_groups_are_chosen_with_all_groups_within_them(wanted: list[int], chosen: set[int]) -> None:
    """Four within each other, listed inside out, one by itself, and two that claim to be within each other."""
    groups = body(group(4, 3), group(3, 2), group(2, 1), group(1), group(5), group(6, 7), group(7, 6))
    assert chosen_groups(groups, wanted) == chosen


def test_a_group_that_is_not_listed_is_refused() -> None:
    with pytest.raises(PermanentError, match="no group 8"):
        chosen_groups(body(group(1)), [1, 9, 8])
