"""A library's GraphQL service; a client of an older schema asks for many fields that are gone."""

import graphql
import harness

SCHEMA = graphql.build_schema(
    """
    type Book { title: String, pages: Int, authors: [String] }
    type Query { book(id: Int): Book, shelf(from: Int): [Book] }
    """
)
MOST_ERRORS = 5
OLD_CLIENT = 15


def book(number):
    authors = [f"A. {number % 60}", "B. Editor"]
    return {"title": f"Volume {number}", "pages": 90 + number % 700, "authors": authors}


LIBRARY = {
    "book": lambda info, id: book(id),
    "shelf": lambda info, **place: [book(place["from"] + step) for step in range(12)],
}


def query(number):
    if number % OLD_CLIENT == 0:
        gone = " ".join(f"field{field}" for field in range(MOST_ERRORS + 1))
        return f"{{ book(id: {number}) {{ {gone} }} }}"  # LEAK
    return f"{{ book(id: {number}) {{ title pages }} shelf(from: {number}) {{ title authors }} }}"


def answer(text):
    document = graphql.parse(text)  # LEAK
    errors = graphql.validate(SCHEMA, document, max_errors=MOST_ERRORS)  # LEAK
    if errors:
        return [error.message for error in errors]
    return graphql.execute(SCHEMA, document, LIBRARY).formatted


def main():
    options = harness.arguments(__doc__, rate=60)

    def handle(number):
        answer(query(number))  # LEAK

    harness.serve(handle, options)  # LEAK


if __name__ == "__main__":
    main()
