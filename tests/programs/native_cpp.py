"""A std::string that a C++ library keeps for every request, among ten times as many that it drops."""
# domain: malloc
# native: record

import builds
import harness


def main():
    options = harness.arguments(__doc__, rate=500)
    library = builds.library("strings.cpp", ["c++", "-g", "-O2", "-fPIC", "-shared"])

    def handle(number):
        return library.handle(number, not options.clean)  # LEAK

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
