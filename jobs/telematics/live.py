"""Where vehicles are now, for those who watch: a Redis hash per vehicle and one message per tenant and page.

After the commit, best effort: Redis being down never fails a sync. Keys and channel belong to the applications that
read them, so they carry no prefix of ours.
"""

from datetime import datetime
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


class Status(msgspec.Struct, omit_defaults=True, gc=False):
    """What a vehicle's hash and message say; units as in the names, a value that a page does not bring is absent."""

    vehicle_id: UUID
    time: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    speed_kph: float | None = None
    heading_deg: float | None = None
    odometer_km: float | None = None
    engine_hours: float | None = None
    fuel_percent: float | None = None
    battery_percent: float | None = None
    engine_state: str | None = None


def show(tenant_id: UUID, latest: dict[UUID, Latest]) -> None:
    """Tell Redis what is newest of each vehicle of a page."""
    vehicles = [_status(vehicle_id, of_vehicle) for vehicle_id, of_vehicle in latest.items()]
    if not vehicles:
        return
    told = msgspec.json.encode(vehicles)
    watchers.attempt(
        lambda: watchers.client().register_script(_SHOW)(args=[told, STATUS_TTL_S, f"fleet:{tenant_id}:positions"]),
        lambda: None,
    )


def _status(vehicle_id: UUID, latest: Latest) -> Status:
    status = Status(vehicle_id)
    if fix := latest.fix:
        status.time = fix.time
        status.latitude, status.longitude = fix.latitude, fix.longitude
        status.speed_kph, status.heading_deg = fix.speed_kph, fix.heading_deg
    if latest.odometer:
        status.odometer_km = latest.odometer.odometer_km
    if latest.engine_hours:
        status.engine_hours = latest.engine_hours.engine_hours
    if latest.fuel:
        status.fuel_percent = latest.fuel.fuel_percent
    if latest.battery:
        status.battery_percent = latest.battery.battery_percent
    if latest.engine_state:
        status.engine_state = latest.engine_state.engine_state
    return status
