"""A training loop of a small model, that leaks nothing: what watching it costs is measured on it."""
# domain: torch

import real
import torch

layers = [layer for _ in range(6) for layer in (torch.nn.Linear(1024, 1024), torch.nn.GELU())]
model = torch.nn.Sequential(*layers).cuda()
optimizer = torch.optim.Adam(model.parameters())


def step(number):
    optimizer.zero_grad()
    loss = model(torch.randn(256, 1024, device="cuda")).square().mean()
    loss.backward()
    optimizer.step()
    if number % 100 == 0:
        torch.cuda.synchronize()


real.serve(step, lambda: real.torch_figures(torch), rate=0)
