"""Any history of starts, deaths, retirements and changes of size leaves the right number alive."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paramserver.core.restarts import RestartPolicy


class AnyHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.policy = RestartPolicy()
        self.now = 0.0
        self.n_named = 0
        self.staying: list[str] = []
        self.leaving: list[str] = []
        self.n_wanted = 0

    @rule(n=st.integers(0, 6))
    def scale(self, n: int) -> None:
        self.policy.scale(n, self.now)
        self.n_wanted = n

    @rule(seconds=st.floats(0, 40))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.policy.due(self.now))
    @rule(works=st.booleans())
    def start(self, works: bool) -> None:
        if not works:
            self.policy.start_failed(self.now)
            return
        self.staying.append(f"a-{self.n_named}")
        self.n_named += 1
        self.policy.started(self.staying[-1], self.now)

    @precondition(lambda self: self.staying)
    @rule(data=st.data(), n_ended=st.integers(0, 2))
    def lose(self, data: st.DataObject, n_ended: int) -> None:
        name = data.draw(st.sampled_from(self.staying))
        self.staying.remove(name)
        assert self.policy.exited(name, self.now, n_ended) is False

    @precondition(lambda self: self.staying)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.staying))
        n_before = max(self.n_wanted, len(self.staying))
        self.staying.remove(name)
        self.leaving.append(name)
        self.policy.retire(name)
        self.n_wanted = min(self.n_wanted, n_before - 1)

    @precondition(lambda self: self.leaving)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.leaving))
        self.leaving.remove(name)
        assert self.policy.exited(name, self.now, 0) is True

    @invariant()
    def it_agrees_with_the_plain_count(self) -> None:
        self.policy.check()
        assert self.policy.target == self.n_wanted

    @invariant()
    def within_half_a_minute_all_that_are_missing_are_due(self) -> None:
        missing = max(0, self.n_wanted - len(self.staying))
        assert self.policy.due(self.now + 30.0) == missing


TestAnyHistory = AnyHistory.TestCase
