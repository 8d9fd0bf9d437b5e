"""What became of everything that was sent: counted from the topics, so that nothing lost or doubled is overlooked."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Counts:
    """Names that never came, came more than once (each further time counts), or that nobody sent."""

    sent: int
    came: int
    lost: int
    doubled: int
    unknown: int
    examples: tuple[str, ...] = ()

    @property
    def is_exact(self) -> bool:
        return self.lost == self.doubled == self.unknown == 0


def compare(sent: Iterable[str], came: Iterable[str]) -> Counts:
    """Compare names sent once each with all names that came, repeats included."""
    wanted, counted = set(sent), Counter(came)
    lost = wanted - counted.keys()
    doubled = {name: count - 1 for name, count in counted.items() if count > 1 and name in wanted}
    unknown = {name: count for name, count in counted.items() if name not in wanted}
    odd = sorted([*lost, *doubled, *unknown])[:EXAMPLES]
    return Counts(len(wanted), counted.total(), len(lost), sum(doubled.values()), sum(unknown.values()), tuple(odd))
