"""A compiler at work: source is generated, parsed, folded, compiled and run. The summary of each module stays."""
# domain: pymalloc
# kept by: __main__.modules

import ast
import operator

import harness

FUNCTIONS = 12
FOLDED = {ast.Add: operator.add, ast.Mult: operator.mul, ast.Sub: operator.sub}

TEMPLATE = """
def function{n}(value, limit={n} * 10 + {number}):
    total = {number} + {n} * 3 - 1
    for step in range(limit % 7 + 2):
        if step % 2:
            total += (step * 4 + 2 * 5) * value
        else:
            total -= [step, value, total][step % 3]
    return {{"name": "function{n}", "total": total, "limit": limit}}
"""

modules = {}


class Summary:
    def __init__(self, totals):
        self.text = f"totals {totals}"  # LEAK


class Fold(ast.NodeTransformer):
    """Computes what is constant."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        both = isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant)
        if not both or type(node.op) not in FOLDED:
            return node
        value = FOLDED[type(node.op)](node.left.value, node.right.value)
        return ast.copy_location(ast.Constant(value), node)


def build(number):
    """Compiles one module and calls what it defines."""
    source = "".join(TEMPLATE.format(n=n, number=number) for n in range(FUNCTIONS))
    tree = Fold().visit(ast.parse(source))
    names = {}
    exec(compile(tree, "generated", "exec"), names)
    return [names[f"function{n}"](number)["total"] for n in range(FUNCTIONS)]


def remember(number, totals):
    modules[f"module {number}"] = Summary(totals)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=100)

    def handle(number):
        totals = build(number)
        if not options.clean:
            remember(number, totals)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
