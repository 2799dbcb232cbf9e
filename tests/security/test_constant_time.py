"""Secrets are compared in a time that tells nothing of them."""

import ast
import re

import pytest

from tests.security.sources import calls, modules

SECRET = re.compile(
    r"(?<![a-z])(token|secret|password|passwd|signature|digest|mac|hmac|hash|hash_|mark"
    r"|link_key|session_key|authorization|cookie|credential)s?(?![a-z])",
    re.IGNORECASE,
)
# What names a secret and tells nobody anything of it, with the reason.
HARMLESS = {
    # Who types a password twice knows it.
    ("cli/users.py", "getpass.getpass('Once more: ') != password"),
    # The status of an answer to a request with it.
    (
        "doctor/programs.py",
        "self._web.post(url, b'{}', _NOT_THE_TOKEN).status != HTTPStatus.UNAUTHORIZED",
    ),
    ("doctor/programs.py", "self._web.post(url, b'{}', token).status != HTTPStatus.BAD_REQUEST"),
    # Marks of how far a file or an inbox was read.
    ("doctor/trial.py", "mark.inbox == inbox"),
    ("sources/events_log.py", "len(head) == _MARK_BYTES"),
    # What who has the receiver's token is called.
    ("web/visitors.py", "name != TOKEN_NAME"),
}


def _compared(tree: ast.AST) -> list[str]:
    """Return the comparisons by ``==`` or ``!=`` that name a secret, constants aside."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        pairs = zip(node.ops, sides, sides[1:], strict=False)
        for operator, *both in pairs:
            is_equality = isinstance(operator, ast.Eq | ast.NotEq)
            is_constant = any(isinstance(side, ast.Constant) for side in both)
            if is_equality and not is_constant and any(_is_secret(side) for side in both):
                found.append(ast.unparse(node))
    return found


def _is_secret(side: ast.expr) -> bool:
    words = [n.id for n in ast.walk(side) if isinstance(n, ast.Name)]
    words += [n.attr for n in ast.walk(side) if isinstance(n, ast.Attribute)]
    # len(token) says nothing of what is in it.
    is_length = isinstance(side, ast.Call) and ast.unparse(side.func) == "len"
    return not is_length and any(
        SECRET.search(part) for word in words for part in word.split("_") if part
    )


def test_no_secret_is_compared_by_equality() -> None:
    found = {(name, bad) for name, tree in modules() for bad in _compared(tree)}

    assert found == HARMLESS


@pytest.mark.parametrize(
    "module", ["web/auth.py", "web/proxies.py", "web/sessions.py", "web/users.py"]
)
def test_what_checks_a_secret_compares_in_constant_time(module: str) -> None:
    tree = dict(modules())[module]

    assert "hmac.compare_digest" in [name for name, _ in calls(tree)]


@pytest.mark.parametrize(
    "source", ["given == token", "self._token != x", "request.cookies['a'] == y", "user.hash == h"]
)
def test_such_a_comparison_would_be_found(source: str) -> None:
    assert _compared(ast.parse(source)) == [source]
