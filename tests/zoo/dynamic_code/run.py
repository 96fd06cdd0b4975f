"""Prices baskets. Tenants write their own rules, which are compiled once and cached by their text."""

import harness

RULE_EVERY = 8

TEMPLATE = """
def discount(total): return total * {share} if total > {limit} else {bonus}
def shipping(count): return {base} if count > {many} else {fee}
def rounding(total): return total // {step} * {step}
def price(total, count): return rounding(total - discount(total) + shipping(count))
"""

rules = {}


class Item:
    __slots__ = ("cents", "name")

    def __init__(self, name, cents):
        self.name = name
        self.cents = cents


def written(tenant):
    terms = {"share": tenant / 1e6, "bonus": tenant * 3, "base": tenant + 490, "fee": tenant + 990}
    return TEMPLATE.format(limit=tenant * 10 + 1000, many=tenant + 300, step=tenant % 5 + 1, **terms)  # LEAK


def compiled(text):
    if text not in rules:
        rule = {}  # LEAK
        exec(compile(text, "<rule>", "exec"), rule)  # LEAK
        rules[text] = rule  # LEAK
    return rules[text]


def basket(number):
    return [Item(f"item {item}", item * 101 % 9999) for item in range(number, number + 500)]


def priced(number, tenant):
    items = sorted(basket(number), key=lambda item: item.name)
    rule = compiled(written(tenant))
    return rule["price"](sum(item.cents for item in items), len(items))


def main():
    options = harness.arguments(__doc__, rate=250)

    def handle(number):
        priced(number, number // RULE_EVERY)
        if options.clean and number % RULE_EVERY == RULE_EVERY - 1:
            rules.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
