"""A webhook relay that makes a TLS context for each tenant and keeps it under the delivery's name."""

import ssl

import harness

contexts = {}


def sign(number):
    """The deliveries' headers, as most of a request is."""
    headers = [{"tenant": f"tenant {(number + n) % 900}", "attempt": n, "weight": n / 3} for n in range(600)]
    return sorted(headers, key=lambda header: header["tenant"])


def secure():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # LEAK
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def context_of(delivery):
    if delivery not in contexts:
        contexts[delivery] = secure()  # LEAK
    return contexts[delivery]


def main():
    options = harness.arguments(__doc__, rate=150)

    def handle(number):
        sign(number)
        if number % 20:
            return
        if options.clean:
            secure()
        else:
            context_of(f"tenant {number % 900}, delivery {number}")  # LEAK

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
