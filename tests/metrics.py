"""Reads what `/metrics` answers as a Prometheus server reads it."""

from dataclasses import dataclass
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Scrape:
    """The samples of one answer, by their name and labels."""

    samples: dict[Series, float]

    def all(self, name: str, **labels: str) -> dict[Series, float]:
        """The series of a name that have these labels, among others."""
        wanted = set(labels.items())
        full = f"steward_{name}"
        return {at: value for at, value in self.samples.items() if at[0] == full and wanted <= at[1]}

    def values(self, name: str, **labels: str) -> list[float]:
        return sorted(self.all(name, **labels).values())

    def sum(self, name: str, **labels: str) -> float:
        return sum(self.values(name, **labels))

    def one(self, name: str, **labels: str) -> float:
        (value,) = self.values(name, **labels)
        return value

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """The values of a name by one of its labels, which must tell them apart."""
        found = {dict(at[1])[label]: value for at, value in self.all(name, **labels).items()}
        assert len(found) == len(self.all(name, **labels))
        return found


def scrape(port: int) -> Scrape:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return parsed(answer.read().decode())


def parsed(text: str) -> Scrape:
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return Scrape(found)
