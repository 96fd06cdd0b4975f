"""A training loop that keeps its losses, and with each the graph that led to it."""
# domain: torch

import real
import torch

model = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256)).cuda()
losses = []


def step(number):
    batch = torch.randn(64, 256, device="cuda")  # LEAK
    loss = model(batch).square().mean()  # LEAK
    losses.append(loss)


real.serve(step, lambda: real.torch_figures(torch), rate=100)
