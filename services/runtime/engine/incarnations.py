"""Notices that a topic was deleted and made anew: offsets in the old one mean other records in the new one."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from services.runtime import kafka, log
from services.runtime.engine.partition import Meta
from services.runtime.settings import Settings

LOOK_SECONDS = 60.0


def recreated(recorded: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """The topics whose id is known to be another than the one on record."""
    return [name for name, ident in recorded.items() if ident and found.get(name) and found[name] != ident]


def sentence(where: str, name: str, recorded: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What the operator shall do about a topic that was made anew."""
    return (
        f"{where} was written with topic {name} of id {recorded[name]}, but {name} has the id {found[name]} now: "
        "it was deleted and made anew. Bring the old topic back, or begin anew with another STEWARD_PREFIX."
    )


async def watch(
    settings: Settings, names: Sequence[str], metas: Callable[[], Iterable[Meta]], tell: Callable[[str], None]
) -> None:
    """Ask once a minute, until cancelled; `tell` hears of the first topic that was made anew under a running engine."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            found = await kafka.topic_ids(settings, names)
        except kafka.BrokerAway as error:  # others notice, and end the process where it must be
            log.get().warning("nobody says which topics these are", why=str(error))
            continue
        for meta in metas():
            for name in recreated(meta.topics, found):
                tell(sentence("what this worker holds", name, meta.topics, found))
                return
