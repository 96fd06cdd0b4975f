"""A leak in a thread that a C library started: it never runs Python, so no line is to blame."""
# domain: malloc
# native: collect
# thread: collector

import builds
import harness


def main():
    options = harness.arguments(__doc__, rate=500)
    command = ["cc", "-g", "-O2", "-fPIC", "-shared", "-pthread"]
    library = builds.load("threads.c", command)
    library.begin(not options.clean)

    def handle(number):
        return [str(part) for part in range(number % 20)]

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
