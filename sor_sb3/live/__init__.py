"""From backtest to live: the env's observation from what a desk hears, and its child orders from a policy's action."""

from __future__ import annotations

from sor_sb3.live.builder import ObservationBuilder
from sor_sb3.live.events import (
    Acknowledgement,
    Arrival,
    Cancel,
    Child,
    Clock,
    Event,
    Latency,
    OrderReport,
    Post,
    Quote,
    Status,
    Trade,
)
from sor_sb3.live.recorder import Recorder, events_of

__all__ = [
    "Acknowledgement",
    "Arrival",
    "Cancel",
    "Child",
    "Clock",
    "Event",
    "Latency",
    "ObservationBuilder",
    "OrderReport",
    "Post",
    "Quote",
    "Recorder",
    "Status",
    "Trade",
    "events_of",
]
