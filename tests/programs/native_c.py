"""A leak in an extension module of C code, on a line that also makes it allocate forty times what it frees."""
# domain: malloc
# native: remember

import builds
import harness

MESSAGE = b"header: value\n" * 60


def main():
    options = harness.arguments(__doc__, rate=500)
    extension = builds.extension("extension.c")

    def handle(number):
        return extension.handle(MESSAGE, not options.clean)  # LEAK

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
