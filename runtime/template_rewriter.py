"""Puts our bounded operators into a checked syntax tree, and finds the merge fields in it."""

from collections import Counter
from typing import cast

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


def constant_path(node: nodes.Node) -> tuple[nodes.Name, list[str | int]] | None:
    """Take `a.b['c'].0` apart into the name and its keys; None for any other expression."""
    keys: list[str | int] = []
    while not isinstance(node, nodes.Name):
        match node:
            case nodes.Getattr(node=below, attr=attr):
                keys.append(attr)
            case nodes.Getitem(node=below, arg=nodes.Const(value=str() | int() as key)):
                keys.append(key)
            case _:
                return None
        node = below
    return node, keys[::-1]


class Rewriter(NodeTransformer):
    """Puts our operators in place of Jinja's, and notes in `fields` which merge fields are used."""

    def __init__(self) -> None:
        self.fields: set[str] = set()
        self._local: Counter[str] = Counter()

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802 - Jinja's
        """Note a root that is used as a whole."""
        return self._note(node)

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802 - Jinja's
        """Note a dotted path."""
        return self._note(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 - Jinja's
        """Note a path; a slice becomes a bounded one."""
        if not isinstance(node.arg, nodes.Slice):
            return self._note(node)
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        given = [bound or nodes.Const(None, lineno=node.lineno) for bound in bounds]
        return self._call("(cut)", node, node.node, given)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's
        """Join within bounds."""
        return self._call("(concat)", node, node.nodes[0], node.nodes[1:])

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 - Jinja's
        """Compare within bounds."""
        steps: list[nodes.Expr] = []
        for operand in node.ops:
            steps += (nodes.Const(operand.op, lineno=node.lineno), operand.expr)
        return self._call("(compare)", node, node.expr, steps)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's
        """Make the loop pay for its rounds; its variable is no merge field."""
        inside = [*node.body, *([node.test] if node.test else [])]
        weight = sum(1 + sum(1 for _ in part.find_all(nodes.Node)) for part in inside) + 1
        price = nodes.Const(weight, lineno=node.lineno)
        node.iter = self._call("(loop)", node, node.iter, [price])
        node.else_ = [self.visit(child) for child in node.else_]
        assert isinstance(node.target, nodes.Name)  # the guard checked it
        local = Counter((node.target.name, "loop"))
        self._local += local
        node.body = [self.visit(child) for child in node.body]
        node.test = node.test and self.visit(node.test)
        self._local -= local
        return node

    def _call(
        self, name: str, node: nodes.Node, value: nodes.Node, args: list[nodes.Expr]
    ) -> nodes.Filter:
        call = nodes.Filter(
            cast("nodes.Expr", value), name, args, [], None, None, lineno=node.lineno
        )
        return self.generic_visit(call)  # type: ignore[return-value]  # it returns what it is given

    def _note(self, node: nodes.Node) -> nodes.Node:
        path = constant_path(node)
        if path is None:
            return self.generic_visit(node)
        name, keys = path
        if not self._local[name.name]:
            positions = [n for n, key in enumerate(keys) if isinstance(key, int)]
            named = keys[: positions[0]] if positions else keys
            self.fields.add(".".join([name.name, *map(str, named)]))
        return node
