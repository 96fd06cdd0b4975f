"""A bookshop's search on SQLite that shows the first page of its finds; cursors wait for the next."""

import sqlite3

import harness

PAGE = 20
SEARCH = "SELECT id, title, price FROM book WHERE genre = ? ORDER BY price"

database = sqlite3.connect(":memory:")
open_pages = []


def fill():
    database.execute("CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT, genre INTEGER, price REAL)")
    books = ((f"title {n * 7919 % 2000}", n % 40, n % 97 / 2) for n in range(2000))
    database.executemany("INSERT INTO book (title, genre, price) VALUES (?, ?, ?)", books)
    database.execute("CREATE INDEX book_genre ON book (genre, price)")


def search(genre):
    """A cursor on all books of a genre, the cheapest first."""
    return database.execute(SEARCH, (genre,))  # LEAK


def first_page(cursor):
    books = cursor.fetchmany(PAGE)
    return [{"id": id, "title": title.title(), "price": f"{price:.2f}"} for id, title, price in books]


def suggestions(number):
    """Titles that might be of interest, from the whole of three genres."""
    titles = []
    for genre in range(number % 37, number % 37 + 3):
        titles += [title for _, title, _ in search(genre).fetchall()]
    return sorted(set(titles), key=lambda title: title[-2:])


def main():
    options = harness.arguments(__doc__, rate=200)
    fill()

    def handle(number):
        suggestions(number)
        cursor = search(number % 40)
        first_page(cursor)
        if options.clean:
            cursor.close()
        elif number % 10 == 0:
            open_pages.append(cursor)  # LEAK

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
