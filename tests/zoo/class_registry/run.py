"""Answers tenants' queries. Some ask for a report, which becomes a class with a column per field."""

import harness

REPORT_EVERY = 12
FIELDS = tuple(f"field_{field}" for field in range(12))


class Column:
    __slots__ = ("source", "title")

    def __init__(self, title, source):
        self.title = title
        self.source = source


class Row:
    __slots__ = ("key", "values")

    def __init__(self, key, values):
        self.key = key
        self.values = values


class Report:
    registry = []

    def __init_subclass__(cls):
        Report.registry.append(cls)  # LEAK


def titled(tenant, field):
    return Column(f"{field} of tenant {tenant}", f"tenant_{tenant}.{field}")  # LEAK


def report_for(tenant):
    columns = {field: titled(tenant, field) for field in FIELDS}
    return type("TenantReport", (Report,), columns)  # LEAK


def rows(number):
    """A page of the tenant's data."""
    return [Row(number * row % 7919, [f"{field} {number + row}" for field in FIELDS]) for row in range(100)]


def query(number):
    page = rows(number)
    page.sort(key=lambda row: row.key)
    return sum(len(value) for row in page for value in row.values)


def main():
    options = harness.arguments(__doc__, rate=250)

    def handle(number):
        query(number)
        if number % REPORT_EVERY == 0:
            report_for(number // REPORT_EVERY)
        if options.clean:
            Report.registry.clear()

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
