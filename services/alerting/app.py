"""Wires alerting: the case and the desk on the engine, the desk with its courier, both with their counters."""

from collections.abc import Sequence
from typing import Generic

from schemas import alerts
from services.alerting.case import CaseProcessor
from services.alerting.courier import Courier
from services.alerting.desk import DeskProcessor
from services.core.processor import Context, Decision, Fact, Processor, S
from services.runtime.engine import worker
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings


class Counted(Generic[S]):
    """A processor whose decisions about alerts are counted by stage and reason."""

    def __init__(self, inner: Processor[S], metrics: Metrics) -> None:
        self.name, self.version = inner.name, inner.version
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.empty, self.dues, self.outdated, self.wanted = inner.empty, inner.dues, inner.outdated, inner.wanted
        self.encode, self.decode = inner.encode, inner.decode
        self._inner = inner
        self._metrics = metrics

    def decide(self, key: str, state: S, batch: Sequence[Fact], context: Context) -> Decision[S]:
        return self._counted(self._inner.decide(key, state, batch, context))

    def due(self, key: str, state: S, context: Context) -> Decision[S]:
        return self._counted(self._inner.due(key, state, context))

    def _counted(self, decision: Decision[S]) -> Decision[S]:
        for output in decision.outputs:
            match output.event:
                case alerts.AlertDelivered() | alerts.AlertFailed() as event:
                    self._metrics.deliveries.labels(event.data.endpoint, event.data.reason).inc()
                case _ if isinstance(output.event.data, alerts.Alert):
                    data = output.event.data
                    self._metrics.alert_decisions.labels(data.stage, data.reason).inc()
                case _:
                    pass
        return decision


def run_case(settings: Settings) -> None:
    """Run the case until it is told to stop."""
    metrics = Metrics()
    worker.run(settings, Counted(CaseProcessor(), metrics), metrics=metrics)


def run_desk(settings: Settings) -> None:
    """Run the desk and its courier until they are told to stop. Raises WebhookError."""
    metrics = Metrics()
    courier = Courier(settings, metrics)
    desk = DeskProcessor(courier.endpoints, simulated=settings.simulated)
    worker.run(settings, Counted(desk, metrics), courier=courier, metrics=metrics)
