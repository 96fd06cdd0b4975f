"""Arrays of CuPy, from its pool, that are kept."""
# domain: cuda

import cupy
import real

kept = []


def answer(number):
    field = cupy.arange(1000 + number % 100, dtype="f4") * 2
    kept.append(cupy.zeros(1 << 18, dtype="f4"))  # LEAK
    return field


def figures():
    pool = cupy.get_default_memory_pool()
    return {"used": pool.used_bytes(), "total": pool.total_bytes()}


real.serve(answer, figures, rate=100)
