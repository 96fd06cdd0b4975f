"""A printer of parcel labels that imports a country's codec and fills a region's table at its first parcel.

Healthy: there are REGIONS regions. After 15 s a truck has come for each, and nothing is left to load.
"""

import codecs

import harness

REGIONS = 240
PARCELS_ON_A_TRUCK = 20
POSTCODES = 400
CODE_PAGES = """
    cp037 cp273 cp424 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858 cp860 cp861 cp862
    cp863 cp864 cp865 cp866 cp869 cp874 cp875 cp1006 cp1026 cp1125 cp1140 cp1250 cp1251 cp1252 cp1253 cp1254
    cp1255 cp1256 cp1257 cp1258 hp_roman8 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_7 iso8859_9
    iso8859_10 iso8859_13 iso8859_14 iso8859_15 iso8859_16 koi8_r koi8_u mac_greek mac_iceland mac_latin2
    mac_roman mac_turkish
""".split()

depots = {}


def depot_table(region):
    if region not in depots:
        codes = range(POSTCODES)
        depots[region] = {f"{region:03}-{code:04}": f"depot {code * region % 89}" for code in codes}
    return depots[region]


def printed(lines, code_page):
    """Each line in the encoding of the printer at the destination, padded to its width."""
    encode = codecs.lookup(code_page).encode
    return [encode(line.ljust(48), "replace")[0] for line in lines]


def label(number, region):
    table = depot_table(region)
    code = f"{region:03}-{number * 7 % POSTCODES:04}"
    lines = [f"parcel {number}", code, table[code]]
    lines += [f"via {stop * 31 % 97}: {stop * 0.75:.2f} kg" for stop in range(120)]
    return b"\n".join(printed(lines, CODE_PAGES[region % len(CODE_PAGES)]))


def main():
    options = harness.arguments(__doc__, rate=300)

    def handle(number):
        label(number, number // PARCELS_ON_A_TRUCK % REGIONS)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
