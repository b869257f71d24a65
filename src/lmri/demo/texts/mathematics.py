"""Small problems of arithmetic, algebra and number theory, solved step by step with correct results.

The module is longer than most because it contains all sentences of its topics.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd, isqrt, prod
from typing import TYPE_CHECKING

from lmri.demo.texts.words import cap, fill, listed, person, place, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

WARES = words("apples pears pencils notebooks stamps candles eggs postcards lemons marbles ribbons buttons cups spoons")
BOXES = words("boxes bags baskets crates chests jars drawers tins")
VEHICLES = (
    ("train", 40, 160),
    ("bus", 30, 90),
    ("lorry", 40, 80),
    ("cyclist", 10, 30),
    ("ship", 15, 45),
    ("balloon", 8, 30),
)
OPENINGS = "[||Here is a problem.|{name} asks:|A puzzle from {town}:|{name} sets this problem:]"
ANSWER = "[The answer is|So the answer is|Hence the answer is]"


def _opening(rng: Random) -> str:
    """Write the source of a problem, or an empty string."""
    return fill(rng, OPENINGS.format(name=person(rng).name, town=place(rng)))


def _shopping(rng: Random) -> str:
    """Write a problem about a purchase of two types of goods and the change."""
    who, unit = person(rng), rng.choice(("coins", "cents", "pence"))
    ware, other = rng.sample(WARES, 2)
    n, m, p, q = rng.randint(2, 12), rng.randint(2, 12), rng.randint(2, 20), rng.randint(2, 20)
    total = n * p + m * q
    note = (total // 50 + 1) * 50
    return fill(
        rng,
        f"""{who.first} buys {n} {ware} at {p} {unit} each and {m} {other} at {q} {unit} each.
        {cap(who.he)} pays with {note}. How much does {who.he} get back?
        The {ware} cost {n} * {p} = {n * p}. The {other} cost {m} * {q} = {m * q}.
        [Together that is|The sum is|In total {who.he} spends] {n * p} + {m * q} = {total}.
        The change is {note} - {total} = {note - total}. {ANSWER} {note - total}.""",
    )


def _sharing(rng: Random) -> str:
    """Write a division problem with a remainder, about packing boxes."""
    who, ware, box = person(rng), rng.choice(WARES), rng.choice(BOXES)
    size, full = rng.randint(3, 12), rng.randint(3, 20)
    rest = rng.randrange(size)
    total = size * full + rest
    question, answer = rng.choice(
        (
            (f"How many {box} can {who.he} fill?", full),
            (f"How many {ware} are left over?", rest),
        )
    )
    return fill(
        rng,
        f"""{who.name} has {total} {ware} and [puts|packs] [|exactly ]{size} of them into each of {who.his} {box}.
        {question}
        [Divide {total} by {size}.|We divide with remainder.] {size} * {full} = {size * full}, and
        {total} - {size * full} = {rest}. [{cap(who.he)} fills {full} {box} and {rest} {ware} remain.
        |So there are {full} full {box} and a rest of {rest}.] {ANSWER} {answer}.""",
    )


def _travel(rng: Random) -> str:
    """Write a problem about distance, speed and time."""
    vehicle, slow, fast = rng.choice(VEHICLES)
    start, end, speed, hours = place(rng), place(rng), rng.randint(slow, fast), rng.randint(2, 9)
    later = rng.randint(1, 12)
    way = speed * hours
    return fill(
        rng,
        rng.choice(
            (
                f"""A {vehicle} [goes|travels] from {start} to {end} at {speed} kilometres per hour and needs
                {hours} hours.
                How [long is the way|far is it]? [Distance is speed times time.|Multiply the speed by the time.]
                {speed} * {hours} = {way}. [The way is {way} kilometres long.|] {ANSWER} {way}.""",
                f"""From {start} to {end} it is {way} kilometres. A {vehicle} [goes|travels] at {speed}
                kilometres per hour.
                How many hours [does it need|pass]? [Time is distance divided by speed.|Divide the way by the speed.]
                {way} / {speed} = {hours}. [|It needs {hours} hours.] {ANSWER} {hours}.""",
                f"""A {vehicle} leaves {start} at {later} o'clock and covers {speed} kilometres in each hour.
                When it [reaches|arrives in] {end}, it has covered {way} kilometres. What time is it, counted in hours?
                The trip takes {way} / {speed} = {hours} hours. {later} + {hours} = {later + hours}.
                {ANSWER} {later + hours}.""",
            )
        ),
    )


def _term(a: int, x: str = "x") -> str:
    """Format a multiple of an unknown."""
    return x if a == 1 else f"-{x}" if a == -1 else f"{a}{x}"


def _plus(b: int) -> str:
    """Format a number that is added."""
    return f"+ {b}" if b >= 0 else f"- {-b}"


def _linear(rng: Random) -> str:
    """Solve a x + b = c."""
    x = rng.choice("xyzntk")
    a, b, root = rng.randint(2, 12), rng.choice((-1, 1)) * rng.randint(1, 30), rng.randint(-9, 20)
    c = a * root + b
    verb, side = ("Subtract", "from") if b > 0 else ("Add", "to")
    return fill(
        rng,
        f"""{_opening(rng)} [Solve the equation|Solve|Find {x} such that] {a}{x} {_plus(b)} = {c}[| for {x}].
        {verb} {abs(b)} {side} both sides: {a}{x} = {c} {_plus(-b)} = {a * root}.
        [Divide|Now divide] both sides by {a}: {x} = {a * root} / {a} = {root}.
        [|Check: {a} * {root} {_plus(b)} = {c}.] {ANSWER} {root}.""",
    )


def _two_sided(rng: Random) -> str:
    """Solve a x + b = c x + d with a > c."""
    x = rng.choice("xyzntk")
    c, root = rng.randint(2, 7), rng.randint(1, 15)
    a, b = c + rng.randint(2, 7), rng.randint(1, 30)
    d = (a - c) * root + b
    return fill(
        rng,
        f"""[Solve|Solve the equation|Find {x} if] {a}{x} + {b} = {c}{x} + {d}.
        [First subtract|Subtract] {c}{x} from both sides: {a - c}{x} + {b} = {d}.
        [Then subtract|Next subtract|Subtract] {b}: {a - c}{x} = {d} - {b} = {d - b}.
        Divide by {a - c}: {x} = {d - b} / {a - c} = {root}.
        [|Check: {a} * {root} + {b} = {a * root + b}, and {c} * {root} + {d} = {c * root + d}.] {ANSWER} {root}.""",
    )


def _quadratic(rng: Random) -> str:
    """Factor a quadratic with two positive roots and state the larger one."""
    p, q = sorted(rng.sample(range(1, 25), 2))
    larger = rng.random() < 0.5
    return fill(
        rng,
        f"""{_opening(rng)} Find the {"larger" if larger else "smaller"} solution of x^2 - {p + q}x + {p * q} = 0.
        We [look for|need] two numbers with sum {p + q} and product {p * q}. [They are|These are] {p} and {q}, since
        {p} + {q} = {p + q} and {p} * {q} = {p * q}.
        [Hence|So|Therefore] x^2 - {p + q}x + {p * q} = (x - {p})(x - {q}), [and|so] x is {p} or {q}.
        {ANSWER} {q if larger else p}.""",
    )


def _system(rng: Random) -> str:
    """Find two numbers from their sum and difference, worded as ages or possessions."""
    older, younger = person(rng), person(rng)
    while younger.first == older.first:
        younger = person(rng)
    small, more = rng.randint(3, 40), rng.randint(1, 20)
    large = small + more
    total = small + large
    dress = rng.choice(
        (
            f"""{older.first} is {more} years older than {younger.first}. Together they are {total} years old.
            How old is {younger.first}?""",
            f"""{older.first} has {more} {rng.choice(WARES)} more than {younger.first}. Together they have {total}.
            How many does {younger.first} have?""",
            f"""The sum of two numbers is {total} and their difference is {more}. What is the smaller number?""",
        )
    )
    return fill(
        rng,
        f"""{dress} [Let x be the smaller number|Call the smaller number x]. [Then|We get] x + (x + {more}) =
        {total}, so
        2x = {total} - {more} = {total - more}. [Half of that is|Dividing by 2 gives] x = {total - more} / 2 = {small}.
        [|The [other|larger] number is {small} + {more} = {large}.] {ANSWER} {small}.""",
    )


def _prime(rng: Random) -> str:
    """Test whether a number is prime."""
    n = rng.randint(7, 400) * 2 + 1
    primes = [p for p in range(2, isqrt(n) + 1) if all(p % d for d in range(2, p))]
    tried = []
    for p in primes:
        tried.append(p)
        if n % p == 0:
            break
    last = tried[-1]
    steps = " ".join(f"{p} * {n // p} = {p * (n // p)}, remainder {n % p}." for p in tried[-4:])
    reach = isqrt(n)
    if n % last == 0:
        end = f"So {n} is divisible by {last} and not prime. {ANSWER} no."
    else:
        end = f"No prime up to {reach} divides {n}, so it is prime. {ANSWER} yes."
    return fill(
        rng,
        f"""{_opening(rng)} Is {n} a prime number? [We|It is enough to] try the primes up to {reach}, because
        {reach + 1} * {reach + 1} = {(reach + 1) ** 2} is larger than {n}.
        {"These are" if len(primes) > 1 else "This is"}
        {listed([str(p) for p in primes])}. {"Only the last tries are shown. " if len(tried) > 4 else ""}{steps}
        {end}""",
    )


def _factors(rng: Random) -> str:
    """Factor a number into primes."""
    parts = sorted(rng.choices((2, 2, 3, 3, 5, 7, 11, 13), k=rng.randint(3, 5)))
    n = rest = prod(parts)
    steps = []
    for p in parts[:-1]:
        steps.append(f"{rest} / {p} = {rest // p}")
        rest //= p
    return fill(
        rng,
        f"""[Write {n} as a product of primes.|Find the prime factors of {n}.|Factor the number {n}.]
        [We divide|Divide] by the smallest prime [again and again|as often as possible]: {", ".join(steps)}.
        [The number {rest} is prime, so we stop.|Now {rest} is prime.]
        [Hence|Therefore|So] {n} = {" * ".join(map(str, parts))}. The largest prime factor is {parts[-1]}.
        {ANSWER} {parts[-1]}.""",
    )


def _euclid(rng: Random) -> str:
    """Find a greatest common divisor with Euclid's algorithm."""
    common = rng.randint(2, 15)
    a, b = sorted((common * rng.randint(5, 25), common * rng.randint(2, 24)), reverse=True)
    if a == b:
        a += common
    high, low = a, b
    steps = []
    while low:
        steps.append(f"{high} = {high // low} * {low} + {high % low}")
        high, low = low, high % low
    return fill(
        rng,
        f"""[Find|Work out|Compute] the greatest common divisor of {a} and {b}[.|, using the algorithm of Euclid.]
        {". ".join(steps)}. The last [divisor|number we divided by] is {high}, [so|and] it divides both numbers:
        {a} / {high} = {a // high} and {b} / {high} = {b // high}. {ANSWER} {high}.""",
    )


def _arithmetic(rng: Random) -> str:
    """Find a term or the sum of an arithmetic sequence."""
    start, step, n = rng.randint(1, 30), rng.randint(2, 12), rng.randint(6, 20)
    last = start + (n - 1) * step
    shown = ", ".join(str(start + i * step) for i in range(4))
    begin = f"""[Consider the sequence|A sequence begins with|Look at the numbers] {shown}, and so on.
        [Each term is {step} more than the one before it|The difference is {start + step} - {start} = {step}].
        Term number {n} is {start} + {n - 1} * {step} = {last}."""
    if rng.random() < 0.5:
        return fill(rng, f"{_opening(rng)} What is term number {n}? {begin} {ANSWER} {last}.")
    return fill(
        rng,
        f"""What is the sum of the first {n} terms? {begin} The first and the last together make
        {start} + {last} = {start + last}, and there are {n} / 2 such pairs. The sum is
        {n} * {start + last} / 2 = {n * (start + last) // 2}. {ANSWER} {n * (start + last) // 2}.""",
    )


def _geometric(rng: Random) -> str:
    """Continue a geometric sequence."""
    start, ratio, n = rng.randint(1, 15), rng.randint(2, 5), rng.randint(4, 7)
    terms = [start * ratio**i for i in range(n)]
    steps = ". ".join(f"{terms[i]} * {ratio} = {terms[i + 1]}" for i in range(2, n - 1))
    story = rng.choice(
        (
            f"A sequence begins with {terms[0]}, {terms[1]}, {terms[2]}",
            f"""A [pond|dish|tank] holds {start} [cells|plants|snails] at first, and every [day|week] there are
            {ratio} times as many""",
        )
    )
    return fill(
        rng,
        f"""{_opening(rng)} {story}. What is [the number at place|the number in position] {n}?
        [Each number is {ratio} times the one before|We multiply by {ratio} each time].
        The first three are {terms[0]}, {terms[1]} and {terms[2]}. {steps}. {ANSWER} {terms[-1]}.""",
    )


def _fractions(rng: Random) -> str:
    """Add or subtract two fractions."""
    b, d = rng.randint(2, 12), rng.randint(2, 12)
    a, c = rng.randint(1, b), rng.randint(1, d)
    sign = 1 if rng.random() < 0.5 or a * d <= c * b else -1
    common = b * d // gcd(b, d)
    left, right = a * common // b, c * common // d
    top = left + sign * right
    value = Fraction(top, common)
    op = "+" if sign > 0 else "-"
    divisor = gcd(top, common)
    reduce = f"Divide both by {divisor}: {top}/{common} = {value}." if divisor > 1 else "This cannot be reduced."
    return fill(
        rng,
        f"""{_opening(rng)} [Compute|Calculate|Work out] {a}/{b} {op} {c}/{d}[.|, as a single fraction.]
        The [least common denominator|smallest common denominator] of {b} and {d} is {common}.
        [We write|Then] {a}/{b} = {left}/{common} and {c}/{d} = {right}/{common}.
        [|Now {"add" if sign > 0 else "subtract"} the numerators.]
        {left}/{common} {op} {right}/{common} = {top}/{common}. {reduce} {ANSWER} {value}.""",
    )


def _percentage(rng: Random) -> str:
    """Compute a decrease or increase by a percentage."""
    who, ware = (
        person(rng),
        rng.choice(("coat", "lamp", "bicycle", "radio", "table", "clock", "tent", "guitar", "desk")),
    )
    price, percent = rng.randint(2, 60) * 20, rng.randrange(5, 65, 5)
    part, off = price * percent // 100, rng.random() < 0.6
    end = price - part if off else price + part
    return fill(
        rng,
        f"""The {ware} that {who.first} [wants|likes|chose] costs {price}. [In the sale|This week|In
        {place(rng)}] the price
        {"[falls|is cut]" if off else "[rises|goes up]"} by {percent} percent. What does {who.he} pay [for it|now]?
        [One percent of|A hundredth of] the price is {price} / 100 = {price / 100:g}, and
        {percent} percent are {price} * {percent} / 100 = {part}.
        The new price is {price} {"-" if off else "+"} {part} = {end}. {ANSWER} {end}.""",
    )


def _rectangle(rng: Random) -> str:
    """Compute with the sides of a rectangle."""
    a, b = sorted(rng.sample(range(3, 40), 2), reverse=True)
    thing = rng.choice(("garden", "field", "floor", "carpet", "wall", "page", "pool", "yard"))
    who = person(rng)
    cost = rng.randint(2, 9)
    return fill(
        rng,
        rng.choice(
            (
                f"""The {thing} of {who.name} is {a} metres long and {b} metres wide. What is its area?
                [The area is length times width.|Multiply the two sides.] {a} * {b} = {a * b}[| square metres].
                {ANSWER} {a * b}.""",
                f"""A {thing} is {a} metres long and {b} metres wide. {who.first} walks once around it.
                How far does {who.he} walk? Two sides make {a} + {b} = {a + b} metres, and the whole way is
                2 * {a + b} = {2 * (a + b)}[| metres]. {ANSWER} {2 * (a + b)}.""",
                f"""A {thing} has an area of {a * b} square metres and is {a} metres long. How wide is it?
                [Divide the area by the length.|The width is area over length.] {a * b} / {a} = {b}[| metres].
                [|Check: {a} * {b} = {a * b}.] {ANSWER} {b}.""",
                f"""{who.first} [paints|covers|cleans] a {thing} of {a} by {b} metres at {cost} per square metre.
                What does {who.he} [ask for it|earn]? The area is {a} * {b} = {a * b}, and
                {a * b} * {cost} = {a * b * cost}. {ANSWER} {a * b * cost}.""",
            )
        ),
    )


def _average(rng: Random) -> str:
    """Average some numbers."""
    n, mean, who = rng.randint(3, 6), rng.randint(5, 40), person(rng)
    numbers = [mean + rng.randint(-4, 4) for _ in range(n - 1)]
    numbers.append(n * mean - sum(numbers))
    rng.shuffle(numbers)
    total = sum(numbers)
    return fill(
        rng,
        f"""[{who.name} [scored|counted|noted] {listed([str(i) for i in numbers])}[| points| on {n} days].
        What is [{who.his} average|the mean]?|Find the mean of {listed([str(i) for i in numbers])}.]
        [First add|Add] the numbers: {" + ".join(map(str, numbers))} = {total}.
        [There are {n} of them, so divide by {n}.|Then divide by {n}.] {total} / {n} = {mean}. {ANSWER} {mean}.""",
    )


def _power(rng: Random) -> str:
    """Compute a product by splitting one factor, or the difference of two squares."""
    a, tens, ones = rng.randint(3, 60), rng.randint(1, 9) * 10, rng.randint(1, 9)
    b = tens + ones
    p, q = rng.randint(10, 60), rng.randint(1, 9)
    return fill(
        rng,
        rng.choice(
            (
                f"""{_opening(rng)} [Compute|Calculate|Work out] {a} * {b} [in your head|without a
                calculator|step by step].
                [Split|We split] {b} into {tens} + {ones} = {b}. {a} * {tens} = {a * tens}, and {a} * {ones} =
                {a * ones}.
                [Together|The sum is] {a * tens} + {a * ones} = {a * b}. {ANSWER} {a * b}.""",
                f"""{_opening(rng)} [Compute|Calculate|Work out] {p + q} * {p - q} [in your head|without a calculator].
                [Note that|We use that] {p} + {q} = {p + q} and {p} - {q} = {p - q}, so the product is a
                difference of squares.
                {p} * {p} = {p * p}, and {q} * {q} = {q * q}. {p * p} - {q * q} = {p * p - q * q}.
                {ANSWER} {p * p - q * q}.""",
            )
        ),
    )


TOPICS: tuple[Callable[[Random], str], ...] = (
    _shopping,
    _sharing,
    _travel,
    _linear,
    _two_sided,
    _quadratic,
    _system,
    _prime,
    _factors,
    _euclid,
    _arithmetic,
    _geometric,
    _fractions,
    _percentage,
    _rectangle,
    _average,
    _power,
)
"""Functions that each write and solve one type of problem; every text ends with its answer."""
