"""However mappings, facts, copies, batches and restarts fall: what is released is what a naive oracle says."""

from collections.abc import Sequence
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.identity import IdentityMapped
from schemas.topics import HELD
from services.core.processor import Fact
from tests.unit.test_identity import Story, accepted, mapped, talked, won

Log = list[Fact]

held = st.builds(
    lambda make, id, at: make(id, at),
    st.sampled_from([won, accepted, talked]),
    st.sampled_from("abcdef"),
    st.integers(0, 50),
)
mappings = st.builds(
    lambda account, at, rank, id: mapped(account, at, rank=rank, id=id),
    st.sampled_from(["acme", "other", "third"]),
    st.integers(0, 5),
    st.integers(0, 2),
    st.text("xyz", min_size=4, max_size=4),
)
mapping_logs = st.lists(mappings, min_size=1, max_size=5, unique_by=lambda fact: fact.event.id)


def told(log: Log, data: st.DataObject) -> Story:
    """The log in batches of any size, with restarts between any two."""
    story, left = Story(), log
    while left:
        size = data.draw(st.integers(1, 5))
        story.take(*left[:size])
        left = left[size:]
        if data.draw(st.booleans()):
            story.restart()
    return story


def interleaved(one: Log, other: Log, data: st.DataObject) -> Log:
    """Both in their own order, beside each other in any."""
    left, right = list(one), list(other)
    log = []
    while left and right:
        log.append((left if data.draw(st.booleans()) else right).pop(0))
    return log + left + right


def account_among(known: Sequence[Fact]) -> str | None:
    """Sorts all mappings that there are; the last one counts."""
    ordered = sorted(known, key=lambda fact: (fact.event.time, fact.event.sourcerank, fact.event.id))
    return next((fact.event.data.account for fact in reversed(ordered) if isinstance(fact.event, IdentityMapped)), None)


def oracle(log: Log) -> tuple[list[tuple[str, str]], list[str]]:
    """(what was released to whom, what waits), looking at the whole log anew for each fact."""
    first = next((place for place, fact in enumerate(log) if isinstance(fact.event, IdentityMapped)), len(log))
    waiting = [fact.event.id for fact in log[:first]]
    waiting = [id for place, id in enumerate(waiting) if id not in waiting[:place]]
    if first == len(log):
        return [], waiting
    released = [(id, account_among(log[: first + 1]) or "") for id in waiting]
    for place in range(first, len(log)):
        if not isinstance(log[place].event, IdentityMapped):
            known = [fact for fact in log[:place] if isinstance(fact.event, IdentityMapped)]
            released.append((log[place].event.id, account_among(known) or ""))
    return released, []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_log_in_any_batches_with_restarts_releases_what_the_oracle_says(data: st.DataObject) -> None:
    facts = data.draw(st.lists(held, max_size=10))
    log = interleaved(facts, data.draw(st.just([]) | mapping_logs), data)
    story = told(log, data)
    released, waiting = oracle(log)
    assert story.released == released
    state = story.state or story.processor.empty()
    assert [codec.decode(HELD, one.value).id for one in state.waiting] == waiting


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_each_fact_leaves_exactly_once_and_in_order_wherever_the_mapping_comes_between(data: st.DataObject) -> None:
    names = count()
    facts = [won(f"{fact.event.id}{next(names)}") for fact in data.draw(st.lists(held, max_size=10))]
    story = told(interleaved(facts, [mapped("acme")], data), data)
    assert story.released == [(fact.event.id, "acme") for fact in facts]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mappings_in_any_order_end_in_the_same_account(data: st.DataObject) -> None:
    known = data.draw(mapping_logs)
    story = told([*data.draw(st.permutations([*known, *known])), won("last")], data)
    assert story.released == [("last", account_among(known))]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_batches_and_restarts_change_no_byte_of_what_is_published(data: st.DataObject) -> None:
    log = interleaved(data.draw(st.lists(held, max_size=14)), data.draw(st.just([]) | mapping_logs), data)
    singly = Story()
    for fact in log:
        singly.take(fact)
    published = [codec.encode(event) for event in told(log, data).published]
    assert published == [codec.encode(event) for event in singly.published]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_findings_left_open_are_those_of_homes_whose_facts_wait(data: st.DataObject) -> None:
    log = interleaved(data.draw(st.lists(held, max_size=14)), data.draw(st.just([]) | mapping_logs), data)
    story = told(log, data)
    is_open = bool(story.findings) and story.findings[-1][0] == "opened"
    assert is_open == bool(oracle(log)[1])
