"""The timetable: what runs when, on one page. `fleet-jobs schedule` prints it with last and next ticks."""

from datetime import time

from jobs.timetable import Daily, Entry, Every

TIMETABLE = (
    Entry("telematics.sync_connection", Every(5 * 60), per="connection", catch_up="latest"),
    Entry("telematics.check_liveness", Every(60), per="tenant", catch_up="latest"),
    Entry("telematics.watch_geofences", Every(60), per="tenant", catch_up="latest"),
    Entry("telematics.renew_tokens", Daily(time(4, 10)), catch_up="latest"),
    Entry("maintenance.check_due", Daily(time(6, 0)), per="tenant", zone="tenant", catch_up="latest"),
    Entry("work_orders.roll_forward", Every(5 * 60), per="tenant", catch_up="latest"),
    Entry("work_orders.open_corrective", Every(5 * 60), per="tenant", catch_up="latest"),
    Entry("notifications.deliver", Every(10), catch_up="latest"),
    Entry("notifications.call_endpoints", Every(10), catch_up="latest"),
    Entry("retention.make_partitions", Every(60 * 60), catch_up="latest"),
    Entry("retention.purge_history", Daily(time(3, 30)), catch_up="latest"),
)
