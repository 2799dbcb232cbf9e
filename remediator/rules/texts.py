"""Where a character of a YAML value stands in its file.

YAML folds lines, strips indentation and reads escapes, so an offset in a value is not one in the
file. What is not white space keeps its order, and that is enough to find it again.
"""

import yaml

from remediator.rules.findings import Place, at_node


def place_in(file: str, text: str, node: yaml.ScalarNode, offset: int, path: str) -> Place:
    """Return the place of the character at *offset* of the value of *node* in *text*."""
    start = at_node(file, node, path)
    value = str(node.value)
    if offset >= len(value.rstrip()):
        offset = max(len(value.rstrip()) - 1, 0)
    wanted = sum(not char.isspace() for char in value[:offset])
    solid = [char for char in value if not char.isspace()]
    index, end = _first(text, node), node.end_mark.index
    seen = 0
    while index < end and seen < len(solid):
        # An escape, a doubled quote: only what the value has counts.
        if text[index] == solid[seen]:
            if seen == wanted:
                return _at(file, text, index, path)
            seen += 1
        index += 1
    return start


def _first(text: str, node: yaml.ScalarNode) -> int:
    index: int = node.start_mark.index
    if node.style in {"|", ">"}:
        newline = text.find("\n", index)
        return len(text) if newline < 0 else newline + 1
    return index + (1 if node.style in {"'", '"'} else 0)


def _at(file: str, text: str, index: int, path: str) -> Place:
    line_start = text.rfind("\n", 0, index) + 1
    return Place(file, text.count("\n", 0, index) + 1, index - line_start + 1, path)
