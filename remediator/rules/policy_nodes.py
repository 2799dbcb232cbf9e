"""The policy together with the places of its parts, for findings about what is well formed."""

from dataclasses import dataclass

import yaml

from remediator.core.policy import Policy
from remediator.rules.findings import Place, at_node


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy that is good by itself, and the nodes it was read from."""

    file: str
    policy: Policy
    node: yaml.Node

    def at(self, *steps: str | int) -> Place:
        """Return the place of a field: ``at("rules", 0, "match", 1)``; of its nearest parent."""
        node, path = self.node, ""
        for step in steps:
            below = _child(node, step)
            if below is None:
                break
            node = below
            path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
        return at_node(self.file, node, path)


def _child(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(step, int):
        items = node.value if isinstance(node, yaml.SequenceNode) else []
        return items[step] if step < len(items) else None
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == step), None)
