"""Where vehicles are now, for those who watch: a Redis hash per vehicle and one message per tenant and page.

After the commit, best effort: Redis being down never fails a sync. Keys and channel belong to the applications that
read them, so they carry no prefix of ours.
"""

from typing import Any
from uuid import UUID

import msgspec

from jobs import watchers
from jobs.telematics.page import Latest

STATUS_TTL_S = 300

# One command a page instead of two a vehicle: the loop runs in the server.
_SHOW = """
local vehicles = cjson.decode(ARGV[1])
for _, vehicle in ipairs(vehicles) do
    local key = 'vehicle:' .. vehicle.vehicle_id .. ':status'
    local known = redis.call('HGET', key, 'time')
    if not (known and vehicle.time and known > vehicle.time) then
        local fields = {}
        for name, value in pairs(vehicle) do
            fields[#fields + 1] = name
            fields[#fields + 1] = tostring(value)
        end
        redis.call('HSET', key, unpack(fields))
        redis.call('EXPIRE', key, ARGV[2])
    end
end
redis.call('PUBLISH', ARGV[3], ARGV[1])
return #vehicles
"""


def show(tenant_id: UUID, latest: dict[UUID, Latest]) -> None:
    """Tell Redis what is newest of each vehicle of a page."""
    vehicles = [_told(str(vehicle_id), of_vehicle) for vehicle_id, of_vehicle in latest.items()]
    if not vehicles:
        return
    told = msgspec.json.encode(vehicles)
    watchers.attempt(
        lambda: watchers.client().register_script(_SHOW)(args=[told, STATUS_TTL_S, f"fleet:{tenant_id}:positions"]),
        lambda: None,
    )


def _told(vehicle_id: str, latest: Latest) -> dict[str, Any]:
    told: dict[str, Any] = {"vehicle_id": vehicle_id}
    if fix := latest.fix:
        told |= {"time": fix.time, "latitude": fix.latitude, "longitude": fix.longitude}
        told |= {"speed_kph": fix.speed_kph, "heading_deg": fix.heading_deg}
    if latest.odometer:
        told["odometer_km"] = latest.odometer.odometer_km
    if latest.engine_hours:
        told["engine_hours"] = latest.engine_hours.engine_hours
    if latest.fuel:
        told["fuel_percent"] = latest.fuel.fuel_percent
    if latest.battery:
        told["battery_percent"] = latest.battery.battery_percent
    if latest.engine_state:
        told["engine_state"] = latest.engine_state.engine_state
    return {name: value for name, value in told.items() if value is not None}
