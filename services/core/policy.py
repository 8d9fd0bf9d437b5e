"""The versions of the policy and when each came into force: a fold over `cs.policy`."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from schemas.envelope import Event
from schemas.policies import Policy, PolicyActivated, PolicyPublished
from services.core.instants import Instant, instant


class PolicyMissing(LookupError):
    """No version of the policy has been activated."""


@dataclass(frozen=True, slots=True)
class Policies:
    """Every published version, and the activations in order of time."""

    versions: Mapping[int, Policy] = field(default_factory=dict)
    activations: tuple[tuple[Instant, int], ...] = ()
    # Those that are published, as they follow one another: asked for by every fact.
    _begins: list[Instant] = field(init=False, repr=False, compare=False)
    _ruling: list[Policy] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = [(at, self.versions[version]) for at, version in self.activations if version in self.versions]
        object.__setattr__(self, "_begins", [at for at, _ in known])
        object.__setattr__(self, "_ruling", [policy for _, policy in known])

    def after(self, event: Event) -> "Policies":
        """With this event of `cs.policy` applied; applying it again changes nothing."""
        match event:
            case PolicyPublished():
                policy = event.data.policy
                return replace(self, versions={**self.versions, policy.version: policy})
            case PolicyActivated():
                activation = (instant(event.data.at), event.data.version)
                return replace(self, activations=tuple(sorted({*self.activations, activation})))
            case _:
                return self

    def in_force(self, at: Instant) -> Policy:
        """The version in force at an instant; for all time before the first, the first.

        Raises PolicyMissing where none has been published and activated.
        """
        if not self._ruling:
            raise PolicyMissing("cs.policy holds no policy that is published and activated")
        return self._ruling[max(bisect_right(self._begins, at) - 1, 0)]
