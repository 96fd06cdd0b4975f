"""Device memory by cudaMalloc through ctypes: some comes and goes, and one block a request stays."""
# domain: cuda

import ctypes

import real
import torch

torch.zeros(1, device="cuda")
runtime = ctypes.CDLL(real.loaded("libcudart.so"))
kept = []


def churn(number):
    pointer = ctypes.c_void_p()
    runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(1 << 20 + number % 3))
    runtime.cudaFree(pointer)


def remember():
    pointer = ctypes.c_void_p()
    runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(1 << 20))  # LEAK
    kept.append(pointer)


def handle(number):
    churn(number)
    remember()


real.serve(handle, lambda: {"held": len(kept) << 20}, rate=50)
