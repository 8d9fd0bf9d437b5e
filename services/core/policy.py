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
        known = [activation for activation in self.activations if activation[1] in self.versions]
        if not known:
            raise PolicyMissing("cs.policy holds no policy that is published and activated")
        index = bisect_right(known, at, key=lambda activation: activation[0])
        return self.versions[known[max(index - 1, 0)][1]]
