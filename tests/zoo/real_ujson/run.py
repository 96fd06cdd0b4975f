"""A directory of public keys: checks the key sets that devices upload as JSON and counts weak ones."""

import math
import random

import harness
import ujson

BITS = 2048
SETS = 40
SMALL_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def upload(dice):
    """A device's upload: the history of its certificates, and the RSA modulus of the newest one."""
    history = [
        {"serial": dice.getrandbits(48), "issuer": f"CA {number % 7}", "days": number, "tags": ["tls"]}
        for number in range(300)
    ]
    modulus = dice.getrandbits(BITS) | 1 << (BITS - 1) | 1
    return ujson.dumps({"device": f"sensor-{dice.getrandbits(24):06x}", "history": history})[:-1] + (
        f',"key":{{"kty":"RSA","n":{modulus},"e":65537}}}}'
    )


def weakness(key):
    divisor = math.gcd(key["n"], math.prod(SMALL_PRIMES))
    return "factor" if divisor > 1 else "exponent" if key["e"] < 65537 else None


def expiring(history):
    names = [f"{entry['issuer']}/{entry['serial']:x}" for entry in history if entry["days"] < 30]
    return sorted(names)


def main():
    options = harness.arguments(__doc__, rate=280)
    dice = random.Random(11)
    uploads = [upload(dice) for _ in range(SETS)]
    weak = dict.fromkeys(("factor", "exponent", None), 0)

    def handle(number):
        keys = ujson.loads(uploads[number % SETS])  # LEAK
        expiring(keys["history"])
        weak[weakness(keys["key"])] += 1

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
