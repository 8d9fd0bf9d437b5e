"""What the health service counts of what it publishes."""

from schemas import codec
from schemas.topics import HEALTH, HEALTH_CHANGES
from services.health.app import count
from services.runtime.metrics import Metrics
from tests.outputs import out_of_moulds
from tests.schemas.golden import golden


def test_changes_of_bands_are_counted_by_band_and_cause_and_scores_by_coverage() -> None:
    metrics = Metrics()
    change = codec.decode(HEALTH_CHANGES, golden("steward.health.changed.v1", "minimal").value)
    score = codec.decode(HEALTH, golden("steward.health.scored.v1", "full").value)
    for event in (change, score, codec.decode(HEALTH_CHANGES, golden("steward.health.closed.v1", "full").value)):
        count(metrics, out_of_moulds(event))
    text = metrics.text().decode()
    data = golden("steward.health.changed.v1", "minimal").json["data"]
    assert f'steward_band_changes_total{{cause="{data["cause"]}",to="{data["after"]}"}} 1.0' in text
    assert "steward_coverage_ratio_count 1.0" in text
