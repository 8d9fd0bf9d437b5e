"""Rounds of questions to every key of a partition, a bounded number at a time."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice


class Rounds:
    """One round at a time; each goes on behind the key that was asked last.

    So a round that takes the place of an unfinished one starves nobody, however fast they follow one another.
    """

    def __init__(self) -> None:
        self.left = 0
        self._asked = 0
        self._keys: Iterator[str] = iter(())

    def begin(self, keys: Iterable[str]) -> None:
        """Ask each of these from now on; what was left of the round before is part of this one."""
        known = list(keys)
        start = self._asked % max(len(known), 1)
        self._keys, self.left = chain(islice(known, start, None), islice(known, start)), len(known)

    def next(self, limit: int) -> Iterator[str]:
        """At most `limit` keys to ask; those not taken from here come the next time. Some may be forgotten by then."""
        for key in islice(self._keys, limit):
            self.left -= 1
            self._asked += 1
            yield key
