"""A video wall that draws frames into anonymous maps, and keeps keyframes for a replay that nobody wants."""

import mmap

import harness

FRAME = 64 * 1024

keyframes = []


def draw(number):
    """A frame's captions, as most of a request is."""
    captions = [{"text": f"camera {(number + n) % 64}", "x": n * 1.5, "y": number % 480} for n in range(250)]
    return "\n".join(caption["text"] for caption in captions).encode()


def show(captions):
    """An ordinary frame: its map is given back."""
    with mmap.mmap(-1, FRAME) as frame:
        frame.write(captions.ljust(FRAME, b" "))


def keep(captions):
    frame = mmap.mmap(-1, FRAME)  # LEAK
    # The pages become resident here.
    frame.write(captions.ljust(FRAME, b" "))  # LEAK
    keyframes.append(frame)  # LEAK


def main():
    options = harness.arguments(__doc__, rate=250)

    def handle(number):
        captions = draw(number)
        if number % 50 == 0 and not options.clean:
            keep(captions)
        else:
            show(captions)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
