"""A checker of forms whose trees link to their parents, in a process that collects garbage seldom.

Healthy: a tree is a cycle, so it stays until the next collection, which comes every few seconds with the
threshold raised. Then all that has piled up is gone but the tree at hand, which a later collection of an
older generation takes.
"""

import gc

import harness

FIELDS = 24
ALLOCATIONS_BETWEEN_COLLECTIONS = 50_000


class Node:
    def __init__(self, name, parent=None):
        self.name = name
        self.parent = parent
        self.children = []
        if parent is not None:
            parent.children.append(self)


def parsed(number):
    form = Node(f"form {number}")
    for field in range(FIELDS):
        Node(f"field {field} with the value {number * field % 997} " * 8, form)
    return form


def problems(form):
    """Rules on each field, with messages of which nearly all are dropped."""
    checks = [(node, rule) for node in form.children for rule in range(30)]
    messages = [(f"{node.name:.9}: rule {rule}", len(node.name) * rule % 7) for node, rule in checks]
    return [message for message, severity in messages if severity == 6][:3]


def main():
    options = harness.arguments(__doc__, rate=250)
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS, 10, 10)

    def handle(number):
        problems(parsed(number))

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
