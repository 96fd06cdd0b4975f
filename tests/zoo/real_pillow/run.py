"""A theatre's box office draws the plan of the seats that a customer looks at, and lists what they cost."""

import harness
from PIL import Image, ImageDraw, ImageFont

SEAT = 16
ROW = 10
PRICES = (18, 24, 35, 60)


def seats(number):
    """The seats of a row, and whether they are free."""
    row = number % 26
    return [(f"{chr(65 + row)}{seat + 1}", (number * 7 + seat) % 3 > 0) for seat in range(ROW)]


def draw_plan(row, font):
    plan = Image.new("L", (SEAT * ROW, SEAT), 255)
    draw = ImageDraw.Draw(plan)
    for place, (name, free) in enumerate(row):
        left = place * SEAT
        draw.rectangle((left, 0, left + SEAT - 2, SEAT - 1), outline=0 if free else 160)
        draw.text((left + 2, 3), name, fill=0, font=font)  # LEAK
    return plan


def price_list(number, row):
    """The offers for each seat by evening, cheapest first."""
    offers = [
        {"seat": name, "evening": evening, "price": PRICES[(number + evening) % len(PRICES)] * 1.07}
        for evening in range(14)
        for name, free in row
        if free
    ]
    offers.sort(key=lambda offer: (offer["price"], offer["seat"]))
    return [f"{offer['seat']} on {offer['evening']}: {offer['price']:.2f}" for offer in offers]


def main():
    options = harness.arguments(__doc__, rate=220)
    font = ImageFont.load_default(8)

    def handle(number):
        row = seats(number)
        draw_plan(row, font).tobytes()
        price_list(number, row)

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
