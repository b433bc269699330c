"""The demo as one sees it: a live screen on a terminal, plain lines elsewhere, one line of JSON at the end."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

import psycopg
import requests
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from jobs.embedded.figures import Figures, count_points, read_clock, read_figures
from jobs.embedded.stack import FLOWER_USER, Stack

LINE_EVERY_S = 3.0
RATE_OVER_S = 10.0
STATES = ("pending", "running", "succeeded", "failed", "cancelled", "skipped")


@dataclass(frozen=True)
class Summary:
    """What a session did; `runs` by state, dead letters and rejected records as they stand at its end.

    `alerts` are those that were opened, by kind; `notifications` are all, by state; `mails` what the inbox had caught,
    summaries of many among them; `providers` the points that each provider's accounts have brought in all sessions: one
    that is asked twice an hour may have nothing to say in this one.
    """

    seconds: float
    vehicles: int
    points: int
    points_per_s: float
    runs: dict[str, int]
    dead_letters: int
    rejected: int
    geofence_events: int
    alerts: dict[str, int]
    providers: dict[str, int]
    work_orders: int
    notifications: dict[str, int]
    mails: int


class Demo:
    """Watches a running stack; a context, because it holds a connection."""

    def __init__(self, stack: Stack, inbox_url: str) -> None:
        self._stack = stack
        self._inbox_url = inbox_url
        self._database = psycopg.connect(stack.system_url, autocommit=True)
        self._since = read_clock(self._database)
        self._points_before = count_points(self._database)
        self._before = read_figures(self._database, self._since)
        self._started = time.monotonic()
        self._stopped: float | None = None
        self._mails = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._live = Live(auto_refresh=False) if sys.stdout.isatty() else None
        self._next_line = 0.0

    def __enter__(self) -> "Demo":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @contextmanager
    def screen(self) -> Iterator[None]:
        """Take the terminal over, where there is one."""
        with self._live or nullcontext():
            yield

    @property
    def seconds(self) -> float:
        """For how long this has been watching."""
        return (self._stopped or time.monotonic()) - self._started

    def stop_clock(self) -> None:
        """End the time that the summary is about; what the workers still finish counts, but for mails."""
        self._stopped = time.monotonic()
        self._mails = count_mails(self._inbox_url)

    def show(self) -> None:
        """Read the figures and show them: at once on a terminal, every few seconds elsewhere."""
        if self._live is None and self.seconds < self._next_line:
            return
        if self._live is None and self._next_line == 0.0:
            say("\n".join(whereabouts(self._stack, self._inbox_url)))
        try:
            figures = read_figures(self._database, self._since)
        except psycopg.OperationalError:
            self._reconnect()
            return
        self._samples.append((self.seconds, figures.points))
        while self._samples[0][0] < self.seconds - RATE_OVER_S:
            self._samples.popleft()
        if self._live:
            self._live.update(screen(figures, self._rate(), self.seconds, self._stack, self._inbox_url), refresh=True)
        else:
            self._next_line = self.seconds + LINE_EVERY_S
            say(line(figures, self._rate(), self.seconds, self._stack.deaths))

    def summary(self) -> Summary:
        """Return what this session did; points are counted in the table, not believed."""
        seconds = self.seconds
        figures = read_figures(self._database, self._since)
        points = count_points(self._database) - self._points_before
        return Summary(
            seconds=round(seconds, 1),
            vehicles=figures.vehicles,
            points=points,
            points_per_s=round(points / seconds, 1),
            runs=figures.by_state(),
            dead_letters=figures.dead_letters,
            rejected=figures.rejected,
            geofence_events=figures.geofence_events - self._before.geofence_events,
            alerts={kind: opened for kind, (opened, _) in figures.alerts.items() if opened},
            providers=figures.by_provider(),
            work_orders=figures.work_orders - self._before.work_orders,
            notifications=figures.notifications,
            mails=self._mails,
        )

    def _reconnect(self) -> None:
        self._database.close()
        with suppress(psycopg.OperationalError):
            self._database = psycopg.connect(self._stack.system_url, autocommit=True)

    def _rate(self) -> float:
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


def succeeded(summary: Summary, deaths: dict[str, int]) -> bool:
    """Say whether a session did its work: points of every provider, runs finished, no process dead."""
    brought = summary.points > 0 and all(summary.providers.values())
    return brought and summary.runs.get("succeeded", 0) > 0 and not deaths


def say(text: str) -> None:
    """Print a line for people or programs that read standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def line(figures: Figures, rate: float, seconds: float, deaths: dict[str, int]) -> str:
    """Return the figures as one line of text."""
    states = figures.by_state()
    runs = ", ".join(f"{states[state]} {state}" for state in STATES if state in states) or "none yet"
    parts = [
        f"{seconds:5.0f} s",
        f"{figures.points:,} points ({rate:,.0f}/s)",
        f"runs: {runs}",
        f"crossings: {figures.geofence_events:,}",
        f"open alerts: {sum(still for _, still in figures.alerts.values()):,}",
        f"work orders: {figures.work_orders:,}",
        f"dead letters: {figures.dead_letters}",
        f"rejected: {figures.rejected}",
    ]
    if deaths:
        parts.append(f"died: {_deaths(deaths)}")
    return "  |  ".join(parts)


def count_mails(inbox_url: str) -> int:
    """Ask the inbox how many mails it has caught; 0 where it does not answer."""
    try:
        return int(requests.get(f"{inbox_url}/mails.json", timeout=2).json()["count"])
    except (requests.RequestException, ValueError, KeyError):
        return 0


def whereabouts(stack: Stack, inbox_url: str) -> tuple[str, ...]:
    """Return where else to look, a line each."""
    return (
        f"Mails   {inbox_url}",
        f"Flower  {stack.flower_url}  user {FLOWER_USER}, password in {stack.flower_password_file}",
        f"This stack in another terminal:  set -a; . {stack.environment_file}",
    )


def screen(figures: Figures, rate: float, seconds: float, stack: Stack, inbox_url: str) -> Panel:
    """Return the figures as a screen."""
    head = Text.assemble(
        (f"{figures.points:,}", "bold"),
        " points stored   ",
        (f"{rate:,.0f}", "bold green"),
        f" points/s   {figures.vehicles:,} vehicles   {figures.geofence_events:,} fence crossings   {seconds:,.0f} s",
    )
    foot = Text.assemble(
        "dead letters ",
        (str(figures.dead_letters), "bold red" if figures.dead_letters else "bold"),
        f"   rejected records {figures.rejected:,}   work orders {figures.work_orders:,}",
        f"   notifications {_told(figures)}",
        (f"   died: {_deaths(stack.deaths)}" if stack.deaths else "", "bold red"),
        *(f"\n{each}" for each in whereabouts(stack, inbox_url)),
    )
    tables = (_runs(figures), _connections(figures), _alerts(figures))
    parts = Group(head, *(each for table in tables if table.row_count for each in (Text(), table)), Text(), foot)
    return Panel(parts, title="Fleet Jobs", subtitle="Ctrl-C stops everything", padding=(1, 2))


def _runs(figures: Figures) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("job", style="cyan")
    for state in STATES:
        table.add_column(state, justify="right")
    for job, states in figures.runs.items():
        table.add_row(job, *(str(states.get(state, "·")) for state in STATES))
    return table


def _connections(figures: Figures) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("connection", "status", "synced", "newest point"):
        table.add_column(column, style="cyan" if column == "connection" else "")
    table.add_column("points", justify="right")
    for one in figures.connections:
        synced, newest = _ago(figures.now, one.last_synced_at), _ago(figures.now, one.newest_point_at)
        table.add_row(f"{one.tenant} at {one.provider}", one.status, synced, newest, f"{one.points:,}")
    return table


def _alerts(figures: Figures) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("alerts", style="cyan")
    table.add_column("opened", justify="right")
    table.add_column("open now", justify="right")
    for kind, (opened, still) in figures.alerts.items():
        table.add_row(kind.replace("_", " "), f"{opened:,}", f"{still:,}")
    return table


def _ago(now: datetime, then: datetime | None) -> str:
    if then is None:
        return "not yet"
    seconds = max(0.0, (now - then).total_seconds())
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _told(figures: Figures) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in figures.notifications.items()) or "none"


def _deaths(deaths: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}x" for name, count in deaths.items())
