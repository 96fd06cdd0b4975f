"""Texts of one size: one line's are kept, another's are the same text each time, made anew where the last one lay."""
# domain: pymalloc
# kept by: __main__.kept

import harness

kept = []
current = {}


def churn(number):
    return len([str(number + n) for n in range(400)])


def label(number):
    current.pop("label", None)
    current["label"] = "".join(["parameter group ", "of the state"])


def remember(number):
    kept.append("row of the table %012d" % number)  # LEAK


def main():
    options = harness.arguments(__doc__)

    def handle(number):
        churn(number)
        for _ in range(3):
            label(number)
        if not options.clean:
            remember(number)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
