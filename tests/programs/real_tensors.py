"""A list of torch tensors that grows. With `--expandable`, torch's segments are mapped memory that grows in place."""
# domain: torch

import os
import sys

if "--expandable" in sys.argv:
    os.environ["PYTORCH_ALLOC_CONF"] = os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"

import real
import torch

weights = torch.randn(256, 256, device="cuda")
kept = []


def answer(number):
    batch = torch.randn(64 + number % 8, 256, device="cuda")
    scores = torch.relu(batch @ weights) @ weights
    kept.append(scores.sum(dim=0).repeat(128))  # LEAK
    return scores


real.serve(answer, lambda: real.torch_figures(torch), rate=100)
