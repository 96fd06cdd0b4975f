"""Tensors from a caching allocator like torch's: a layer makes and drops many, and keeps one a request."""
# domain: torch

import fake_cuda
import harness

SIZE = 48 * 1024

torch = fake_cuda.load().c10
kept = []


class Tensor:
    """Memory of the device for as long as this lives."""

    __slots__ = ("pointer", "size")

    def __init__(self, pointer, size):
        self.pointer = pointer
        self.size = size

    def __del__(self):
        torch.fake_torch_free(self.pointer)


class Module:
    """A layer. It calls `forward` by the methods by which torch's do."""

    def _wrapped_call_impl(self, *args):
        return self._call_impl(*args)

    def _call_impl(self, *args):
        return self.forward(*args)

    __call__ = _wrapped_call_impl


class Linear(Module):
    def __init__(self, width):
        self.width = width

    def forward(self, batch):
        size = 2048 * self.width + batch.size % 5000
        return Tensor(torch.fake_torch_malloc(size, 0), size)


class Attention(Module):
    """Keeps what it should forget, unless told otherwise."""

    def __init__(self, is_clean):
        self.layers = [Linear(width) for width in (1, 7, 40, 700, 3)]
        self.is_clean = is_clean

    def forward(self, batch):
        for layer in self.layers:
            batch = layer(batch)
        if not self.is_clean:
            kept.append(Tensor(torch.fake_torch_malloc(SIZE, 0), SIZE))  # LEAK
        return batch


class Model(Module):
    def __init__(self, is_clean):
        self.attention = Attention(is_clean)
        self.head = Linear(2)

    def forward(self, batch):
        return self.head(self.attention(batch))


def main():
    options = harness.arguments(__doc__, rate=200)
    model = Model(options.clean)

    def handle(number):
        size = 1000 + number % 100 * 77
        model(Tensor(torch.fake_torch_malloc(size, 0), size))

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
