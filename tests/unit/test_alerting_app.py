"""What alerting counts of its decisions."""

from functools import partial

from schemas import notices
from schemas.topics import HANDOFFS, NOTICES
from services.alerting.app import count
from services.alerting.case import CaseProcessor
from services.alerting.desk import DeskProcessor
from services.core.processor import Context, Fact
from services.runtime.engine.counted import Counted
from services.runtime.metrics import Metrics
from tests.alerting_timeline import TOPIC, rules, verdict
from tests.builders import ACCOUNT, minute, policies


def test_decisions_are_counted_by_stage_and_reason_and_deliveries_by_their_end() -> None:
    metrics = Metrics()
    context = Context(policies=policies(rules()))
    counting = partial(count, metrics)
    case, desk = Counted(CaseProcessor(), counting), Counted(DeskProcessor(("log",)), counting)
    heard = [Fact(TOPIC.get(type(event), HANDOFFS), event, minute(0)) for event in (verdict(), verdict("passed_200"))]
    decision = case.decide(ACCOUNT, case.empty(), heard, context)
    due = [Fact(NOTICES, output.event, minute(0)) for output in decision.outputs if output.topic is NOTICES]
    mine = [fact for fact in due if fact.event.partitionkey == "ada"]
    told = desk.decide("ada", desk.empty(), mine, context)
    assert told.state is not None
    effect = desk.wanted("ada", told.state)[0]
    delivery, _, _ = effect.id.partition(".")
    result = notices.NoticeDelivered(
        id="r", source="test", subject="ada", partitionkey="ada", time=mine[0].event.time,
        data=notices.Result(delivery=delivery, notice=mine[0].event.id, endpoint="log", attempt=1, message="logged"),
    )  # fmt: skip
    desk.decide("ada", told.state, [Fact(NOTICES, result, minute(0))], context)
    text = metrics.text().decode()
    assert 'steward_alert_decisions_total{reason="accountable and manager",stage="breached"} 1.0' in text
    assert 'steward_alert_decisions_total{reason="manager",stage="passed_200"} 1.0' in text
    assert 'steward_deliveries_total{channel="log",outcome="delivered"} 1.0' in text
