"""Wires alerting: the case and the desk on the engine, the desk with its courier, both with their counters."""

from functools import partial

from schemas import alerts
from schemas.envelope import Event
from services.alerting.case import CaseProcessor
from services.alerting.courier import Courier
from services.alerting.desk import DeskProcessor
from services.runtime.engine import worker
from services.runtime.engine.counted import Counted
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings


def count(metrics: Metrics, event: Event) -> None:
    """Count decisions about alerts by stage and reason, deliveries by their end."""
    match event:
        case alerts.AlertDelivered() | alerts.AlertFailed():
            metrics.deliveries.labels(event.data.endpoint, event.data.reason).inc()
        case _ if isinstance(event.data, alerts.Alert):
            metrics.alert_decisions.labels(event.data.stage, event.data.reason).inc()
        case _:
            pass


def run_case(settings: Settings) -> None:
    """Run the case until it is told to stop."""
    metrics = Metrics()
    worker.run(settings, Counted(CaseProcessor(), partial(count, metrics)), metrics=metrics)


def run_desk(settings: Settings) -> None:
    """Run the desk and its courier until they are told to stop. Raises WebhookError."""
    metrics = Metrics()
    courier = Courier(settings, metrics)
    desk = DeskProcessor(courier.endpoints, simulated=settings.simulated)
    worker.run(settings, Counted(desk, partial(count, metrics)), courier=courier, metrics=metrics)
