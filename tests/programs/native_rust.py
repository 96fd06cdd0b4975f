"""A vector that a Rust library keeps for every request, among forty that it drops."""
# domain: malloc
# native: index

import builds
import harness


def main():
    options = harness.arguments(__doc__, rate=500)
    library = builds.library("index.rs", ["rustc", "-g", "-O"])

    def handle(number):
        return library.handle(number, not options.clean)  # LEAK

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
