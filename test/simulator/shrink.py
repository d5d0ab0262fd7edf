"""The shortest plan that still fails in the same way, as far as leaving out steps can find it.

Delta debugging (Zeller, "Simplifying and isolating failure-inducing input"): leave out large parts first, then smaller
ones; and at last single operations of those that travel together.
"""

from simulator.plan import Ask
from simulator.run import run_plan


def shrink(plan, rule, most_runs=600):
    """The Plan with as few steps as `most_runs` runs could find; each of its runs broke the rule of this name."""
    return _Shrinking(rule, most_runs).of(plan)


class _Shrinking:
    def __init__(self, rule, most_runs):
        self._rule, self._left = rule, most_runs

    def of(self, plan):
        plan = self._without_parts(plan)
        for index, step in enumerate(plan.steps):
            if isinstance(step, Ask):
                plan = self._without_operations(plan, index)
        for index, step in enumerate(plan.steps):  # what need not happen inside of something else is easier to follow
            if step.inside:
                plan = self._tried(plan, [*plan.steps[:index], step._replace(inside=0), *plan.steps[index + 1 :]])[0]
        return self._without_parts(plan)

    def _without_parts(self, plan):
        size = max(1, len(plan.steps) // 2)
        while True:
            begin, has_changed = 0, False
            while begin < len(plan.steps):
                plan, is_smaller = self._tried(plan, plan.steps[:begin] + plan.steps[begin + size :])
                has_changed |= is_smaller
                begin += 0 if is_smaller else size
            if size == 1 and not has_changed:
                return plan
            size = max(1, size // 2)

    def _without_operations(self, plan, index):
        position = 0
        while position < len(plan.steps[index].operations) > 1:
            step = plan.steps[index]
            fewer = step._replace(operations=step.operations[:position] + step.operations[position + 1 :])
            plan, is_smaller = self._tried(plan, [*plan.steps[:index], fewer, *plan.steps[index + 1 :]])
            position += not is_smaller
        return plan

    def _tried(self, plan, steps):
        """(The plan with these steps, True) if that fails as well, else (the plan, False)."""
        if self._left <= 0:
            return plan, False
        self._left -= 1
        tried = plan._replace(steps=tuple(steps))
        return (tried, True) if run_plan(tried).rule == self._rule else (plan, False)
