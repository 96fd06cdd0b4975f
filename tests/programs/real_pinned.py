"""Pinned buffers of the host that are kept."""
# domain: cuda

import real
import torch

torch.zeros(1, device="cuda")
kept = []


def load(number):
    batch = torch.empty(1 << 18, pin_memory=True)
    if number % 4 == 0:
        kept.append(torch.empty(1 << 18, pin_memory=True))  # LEAK
    return batch.to("cuda", non_blocking=True)


real.serve(load, lambda: {"held": len(kept) << 20, **real.torch_figures(torch)}, rate=100)
