"""A small search service: it turns each query into an embedding and ranks some documents by it.

It is what `cargo xtask trace` shows leaktrace at work on. Most of what a request allocates is dropped
with it; the cache of embeddings is meant to save work, but nothing is ever evicted from it, and since
queries hardly repeat it only grows.
"""

import random
import sys
import time

WORDS = [
    "allocator", "arena", "bridge", "cloud", "delta", "ember", "forest", "garden", "harbor", "island",
    "jungle", "kernel", "lantern", "meadow", "north", "orchid", "pebble", "quartz", "river", "stone",
]
DIMENSIONS = 16


class Embedding:
    """The vector of a query, and the query that it is of."""

    def __init__(self, query, vector):
        self.query = query
        self.vector = vector


cache = {}


def tokens_of(query):
    """The words of a query and their neighbouring letters, in lower case."""
    tokens = []
    for word in query.split():
        tokens.append(word)
        tokens.extend(word[at : at + 3] for at in range(len(word) - 2))
    return tokens


def embed(query):
    """Hashes the tokens of a query into a vector."""
    vector = [0.0] * DIMENSIONS
    for token in tokens_of(query):
        code = hash(token)
        for bit in range(6):
            vector[(code >> bit) % DIMENSIONS] += ((code >> (8 + bit)) & 255) / 255.0
    return vector


def embedding_of(query):
    """The cached embedding of a query, made on its first use."""
    found = cache.get(query)
    if found is None:
        found = cache[query] = Embedding(query, embed(query))
    return found


def rank(embedding, documents):
    """The three documents nearest to an embedding, best first."""
    scored = []
    for name, vector in documents:
        score = sum([a * b for a, b in zip(embedding.vector, vector)])
        scored.append((score, name))
    scored.sort(reverse=True)
    return [{"name": name, "score": score} for score, name in scored[:3]]


def handle(number, documents, chance):
    """Answers one request."""
    query = " ".join(chance.choices(WORDS, k=5)) + f" {number}"
    return rank(embedding_of(query), documents)


def main():
    chance = random.Random(1)
    documents = [(f"document {n}", embed(" ".join(chance.choices(WORDS, k=8)))) for n in range(12)]
    for number in range(200):
        handle(number, documents, chance)
    print("ready", flush=True)
    number = 200
    while True:
        begun = time.perf_counter()
        handle(number, documents, chance)
        number += 1
        # Half of the time it waits for the next request.
        time.sleep(time.perf_counter() - begun)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
