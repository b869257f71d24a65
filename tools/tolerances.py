"""List the tolerances in tests that have no reason on their line, and fail if there is one.

``python tools/tolerances.py`` checks all tests; ``python tools/tolerances.py FILE ...`` checks these files. A tolerance
is an argument ``abs``, ``rel``, ``atol``, ``rtol``, ``abs_tol``, ``rel_tol``, ``decimal``, ``places`` or ``delta``, the
same keys in a dictionary, a third argument of ``allclose`` and its relatives, or a number of at most 0.001 in a
comparison. It has a reason if

- it is computed from the number format: by a function of ``tests/tolerances.py``, ``finfo`` or ``spacing``;
- or a comment on its line states it (``# 5 standard errors``, ``# written with 3 decimals``);
- or it is 0, which is exact.

A variable has the reason of all its assignments in the file. The default tolerances of NumPy and pytest are multiples
of the epsilon of float64 and are accepted. Those of torch are absolute and know neither the size nor the length of a
sum: ``torch.testing.assert_close`` and ``torch.allclose`` must state theirs.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEYWORDS = {"abs", "rel", "atol", "rtol", "abs_tol", "rel_tol", "decimal", "places", "delta"}
POSITIONS = {"approx": 1, "isclose": 2, "allclose": 2, "assert_allclose": 2}
"""Functions whose arguments from this position on are tolerances."""
STATED = {"torch.testing.assert_close", "torch.allclose", "torch.isclose"}
"""Functions whose default tolerances are not accepted."""
DERIVED = {"rounding", "relative", "model_rounding", "epsilon", "finfo", "spacing"}
"""Functions that derive a tolerance from the number format."""
SMALL = 1e-3
NO_REASON = ("noqa", "fmt:", "type:", "pragma:")


def comments(source: str) -> dict[int, str]:
    r"""Return the comments of a file by line, without those that are addressed to programs.

    Examples
    --------
    >>> comments("x = 1  # why\ny = 2  # noqa: E501\n")
    {1: 'why'}
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    return {line: text for line, text in found.items() if text and not text.startswith(NO_REASON)}


def dotted(node: ast.expr) -> str:
    """Return the dotted name of a function, or an empty string.

    Examples
    --------
    >>> dotted(ast.parse("np.testing.assert_allclose", mode="eval").body)
    'np.testing.assert_allclose'
    """
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def terms(*nodes: ast.expr) -> Iterator[ast.expr]:
    """Return the operands of expressions, without the arguments of calls and the items of lists.

    Examples
    --------
    >>> [ast.unparse(term) for term in terms(ast.parse("2 * (x + 1e-5) - f(1e-9)", mode="eval").body)]
    ['2', 'x', '1e-05', 'f(1e-09)']
    """
    for node in nodes:
        if isinstance(node, ast.BinOp):
            yield from terms(node.left, node.right)
        elif isinstance(node, ast.UnaryOp):
            yield from terms(node.operand)
        else:
            yield node


def tolerances(tree: ast.AST) -> Iterator[ast.expr]:
    """Find the expressions that are tolerances, and the calls that ought to have one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            stated = [keyword.value for keyword in node.keywords if keyword.arg in KEYWORDS]
            yield from stated
            yield from node.args[POSITIONS.get(name.rpartition(".")[2], len(node.args)) :]
            if name in STATED and not stated and len(node.args) == 2 and None not in {k.arg for k in node.keywords}:
                yield node
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in KEYWORDS:
                    yield value
        elif isinstance(node, ast.Compare):
            for term in terms(node.left, *node.comparators):
                if isinstance(term, ast.Constant) and isinstance(term.value, float) and 0 < term.value <= SMALL:
                    yield term


def without_reason(source: str) -> list[int]:
    r"""List the lines of tolerances that have no reason.

    Examples
    --------
    >>> without_reason("assert a == approx(b, abs=1e-5)\nassert a == approx(b, abs=1e-5)  # 5 decimals\n")
    [1]
    >>> without_reason("assert_allclose(a, b, atol=rounding(b, 100))")
    []
    """
    tree, reasons = ast.parse(source), comments(source)
    assigned: dict[str, list[ast.Assign]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        assigned.setdefault(name.id, []).append(node)

    def has_comment(node: ast.stmt | ast.expr) -> bool:
        return any(line in reasons for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))

    def has_reason(node: ast.expr, seen: frozenset[str] = frozenset()) -> bool:
        if has_comment(node) or (isinstance(node, ast.Constant) and node.value == 0):
            return True
        parts = list(ast.walk(node))
        if any(isinstance(part, ast.Call) and dotted(part.func).rpartition(".")[2] in DERIVED for part in parts):
            return True
        names = {part.id for part in parts if isinstance(part, ast.Name) and part.id in assigned} - seen
        return any(
            all(has_comment(one) or has_reason(one.value, seen | {name}) for one in assigned[name]) for name in names
        )

    return sorted({node.lineno for node in tolerances(tree) if not has_reason(node)})


def main(arguments: list[str] | None = None) -> int:
    """List all tolerances without a reason; return 1 if there is one."""
    given = sys.argv[1:] if arguments is None else arguments
    files = [Path(name) for name in given] or sorted((ROOT / "tests").rglob("*.py"))
    n_found = 0
    for path in files:
        source = path.read_text(encoding="utf-8")
        for line in without_reason(source):
            n_found += 1
            print(f"{path}:{line}: {source.splitlines()[line - 1].strip()}")
    if n_found:
        print(
            f"{n_found} tolerances have no reason on their line. Derive them from the number format "
            "(tests/tolerances.py), or state the reason in a comment (# 5 standard errors)."
        )
    return 1 if n_found else 0


if __name__ == "__main__":
    sys.exit(main())
