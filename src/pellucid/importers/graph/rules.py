"""What the rules of a framework are kept in, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Rule = Callable[..., Any]

BRIDGE = (
    "bridge=True keeps the function as it is, for all methods but those that change the backward (LRP, guided "
    "backprop, DeepLIFT)"
)


class Rules(dict[str, Rule]):
    """The rules of a framework, by the names of its operations."""

    def rule(self, *names: str) -> Callable[[Rule], Rule]:
        """Make a function the rule of some operations."""

        def put(function: Rule) -> Rule:
            self.update(dict.fromkeys(names, function))
            return function

        return put


def location(scope: Sequence[str]) -> str:
    """In words, where in the network something is."""
    return f"in layer {'.'.join(scope)!r}" if scope else "outside of all layers"


def remedy(framework: str, advice: str) -> str:
    """What to do about an operation without a rule.

    Args:
        framework: the folder of its rules.
        advice: what helps a user at once.
    """
    return (
        f"{advice}, or open an issue that names the operation. (To contribute a rule: "
        f"pellucid/importers/{framework}/rules.py, see CONTRIBUTING)"
    )
