"""Short pieces of Python: functions, classes and tests that compile, with correct asserted results.

The module is longer than most because it contains all sentences of its topics.
"""

from __future__ import annotations

import re
from textwrap import dedent
from typing import TYPE_CHECKING

from lmri.demo.texts.words import a, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

THINGS = (
    ("order", "orders"),
    ("book", "books"),
    ("user", "users"),
    ("city", "cities"),
    ("ticket", "tickets"),
    ("song", "songs"),
    ("node", "nodes"),
    ("player", "players"),
    ("sample", "samples"),
    ("invoice", "invoices"),
    ("train", "trains"),
    ("image", "images"),
    ("parcel", "parcels"),
    ("star", "stars"),
    ("recipe", "recipes"),
    ("sensor", "sensors"),
    ("message", "messages"),
    ("account", "accounts"),
    ("task", "tasks"),
    ("planet", "planets"),
)
NUMERIC = words("price weight size score age length cost rank depth height width speed volume balance rating duration")
TEXTUAL = words("name title owner colour status author country language category label")
WORDS = words(
    "red blue apple pear north south alpha beta open done low high iron gold rain snow draft final left right"
)
UNITS = (
    ("metres", "feet", "3.281"),
    ("kilometres", "miles", "0.6214"),
    ("kilograms", "pounds", "2.205"),
    ("litres", "gallons", "0.22"),
    ("hours", "minutes", "60"),
    ("days", "hours", "24"),
    ("metres", "inches", "39.37"),
    ("weeks", "days", "7"),
)
BINARY: tuple[tuple[str, str, Callable[[int, int], int]], ...] = (
    ("add", "{x} + {y}", lambda x, y: x + y),
    ("subtract", "{x} - {y}", lambda x, y: x - y),
    ("multiply", "{x} * {y}", lambda x, y: x * y),
    ("square_sum", "{x} * {x} + {y} * {y}", lambda x, y: x * x + y * y),
    ("distance", "abs({x} - {y})", lambda x, y: abs(x - y)),
    ("remainder", "{x} % {y}", lambda x, y: x % y),
    ("quotient", "{x} // {y}", lambda x, y: x // y),
    ("larger", "max({x}, {y})", max),
    ("smaller", "min({x}, {y})", min),
    ("perimeter", "2 * ({x} + {y})", lambda x, y: 2 * (x + y)),
)
COMPARISONS = ((">", "above"), (">=", "at least"), ("<", "below"), ("<=", "at most"))
_OPTION = re.compile("«(?:([A-Z]):)?([^«»]*)»")


def _source(rng: Random, template: str) -> str:
    """Choose one of each set of options in a template of code.

    Options are written in guillemets, ``«a|b»``. ``«N:a|b»`` also stores the choice, and ``«N»`` repeats it. Lines that
    contained only an empty option are removed.
    """
    choices: dict[str, str] = {}

    def choose(match: re.Match[str]) -> str:
        if match[2] in choices:
            return choices[match[2]]
        chosen = rng.choice(match[2].split("|"))
        if match[1]:
            choices[match[1]] = chosen
        return chosen

    text, n_replaced = dedent(template).strip("\n"), 1
    while n_replaced:
        text, n_replaced = _OPTION.subn(choose, text)
    return "\n".join(line for line in text.rstrip().split("\n") if line.strip() or not line) + "\n"


def _sum(rng: Random) -> str:
    """Write a conditional sum in a loop."""
    thing, things = rng.choice(THINGS)
    value, other = rng.sample(NUMERIC, 2)
    sign, words = rng.choice(COMPARISONS)
    return _source(
        rng,
        f'''
        def «total|sum|add»_{value}({things}, «L:limit|bound»={rng.randint(1, 99)}):
            """«Add up|Return» the {value} of all {things} with {a(other)} {words} the «L»."""
            «T:total|result|amount» = 0
            for {thing} in {things}:
                if {thing}.{other} {sign} «L»:
                    «T» += {thing}.{value}
                «|else:
                    print("left out", {thing}.{rng.choice(TEXTUAL)})»
            «|if «T» > {rng.randint(100, 900)}:
                print("a large {value}:", «T»)»
            return «T»«| / len({things})|, len({things})»
        ''',
    )


def _filter(rng: Random) -> str:
    """Write a filter of items with a comprehension."""
    thing, things = rng.choice(THINGS)
    value, text = rng.choice(NUMERIC), rng.choice(TEXTUAL)
    sign, words = rng.choice(COMPARISONS)
    return _source(
        rng,
        f'''
        def «find|select|filter|choose»_{things}({things}, {value}={rng.randint(1, 99)}):
            """«Keep|Return|List» the {things} whose {value} is {words} a given one."""
            «|if not {things}:
                return []»
            «K:chosen|kept|found» = [{thing} for {thing} in {things} if {thing}.{value} {sign} {value}]
            «|{text}s = {{{thing}.{text} for {thing} in «K»}}
            print(len({text}s), "of {rng.randint(2, 40)}")»
            «|if len(«K») == len({things}):
                print("all {things} are {words}", {value})»
            return ««K»|sorted(«K»)|[{thing}.{text} for {thing} in «K»]|«K»[:{rng.randint(1, 30)}]»
        ''',
    )


def _group(rng: Random) -> str:
    """Count or group items in a dictionary."""
    thing, things = rng.choice(THINGS)
    text, value = rng.choice(TEXTUAL), rng.choice(NUMERIC)
    verb, table, start, change = rng.choice(
        (
            ("count", "counts", "0", "counts[key] += 1"),
            ("sum", "sums", "0", f"sums[key] += {thing}.{value}"),
            ("group", "groups", "[]", f"groups[key].append({thing}.{value})"),
            ("list", "lists", "[]", f"lists[key].append({thing})"),
        )
    )
    return _source(
        rng,
        f'''
        def {verb}_{things}_by_{text}({things}):
            """{verb.capitalize()} {things} «by their|with the same» {text}."""
            {table} = {{}}
            for {thing} in {things}:
                key = {thing}.{text}«|.lower()|.strip()»
                «|if «key == "{rng.choice(WORDS)}"|not key|len(key) < {rng.randint(2, 9)}»:
                    continue»
                if key not in {table}:
                    {table}[key] = {start}
                {change}
            «|for key in sorted({table}):
                print(key, {table}[key])»
            «|print(len({table}), "{text}s")»
            return {table}
        ''',
    )


def _class(rng: Random) -> str:
    """Write a class with attributes and methods."""
    thing, _ = rng.choice(THINGS)
    text = rng.choice(TEXTUAL)
    value, other = rng.sample(NUMERIC, 2)
    verb, sign = rng.choice((("raise", "+"), ("lower", "-"), ("scale", "*"), ("divide", "/")))
    return _source(
        rng,
        f'''
        class {thing.capitalize()}:
            """{a(thing).capitalize()} with {a(text)} and {a(value)}."""

            def __init__(self, {text}, {value}, {other}={rng.randint(0, 20)}):
                self.{text} = {text}
                self.{value} = {value}
                self.{other} = {other}

            def {verb}_{value}(self, amount):
                """Change the {value} by an amount."""
                «|if amount < {rng.randint(0, 50)}:
                    raise ValueError("bad {value}")»
                self.{value} {sign}= amount
                «|return self.{value}|return self»

            def «__str__|describe|__repr__»(self):
                return f"{{self.{text}}} ({value} {{self.{value}}})"
        ''',
    )


def _test(rng: Random) -> str:
    """Define a function of two numbers and assert results that were computed here."""
    name, body, compute = rng.choice(BINARY)
    x, y = rng.sample(("a", "b", "x", "y", "m", "n", "first", "second", "left", "right"), 2)
    result = body.format(x=x, y=y)
    pairs = [(rng.randint(0, 40), rng.randint(1, 30)) for _ in range(rng.randint(2, 4))]
    head = _source(
        rng,
        f'''
        def {name}({x}, {y}):
            """Return {result}."""
            «|«R:result|value|number» = {result}
            print("{name}", «R»)»
            return {result}


        def test_{name}():
        ''',
    )
    return head + "".join(f"    assert {name}({p}, {q}) == {compute(p, q)}\n" for p, q in pairs)


def _recursion(rng: Random) -> str:
    """Write a recursive function."""
    n, node = rng.choice("nkm"), rng.choice(("node", "tree", "branch", "folder"))
    kids, value, text = rng.choice(("children", "parts", "items")), rng.choice(NUMERIC), rng.choice(TEXTUAL)
    return _source(
        rng,
        rng.choice(
            (
                f'''
                def «F:power|raise_to»(«B:base|x|number», {n}):
                    """Return «B» to the power {n} «by repeated squaring|with few products»."""
                    if {n} == 0:
                        return 1
                    half = «F»(«B», {n} // 2)
                    if {n} % 2 == 0:
                        return half * half
                    return half * half * «B»


                print(«F»({rng.randint(2, 12)}, {rng.randint(2, 12)}))
                ''',
                f'''
                def «F:total|sum|all»_{value}({node}):
                    """«Add up|Return» the {value} of a {node} and «all|each» of its {kids}."""
                    total = {node}.{value}
                    for «C:child|part|item» in {node}.{kids}:
                        «|if «C».{text} == "{rng.choice(WORDS)}":
                            continue»
                        total += «F»_{value}(«C»)
                    «|print({node}.{text}, total)»
                    return total
                ''',
                f'''
                def find_{value}({node}, {value}):
                    """«Search|Look in» a sorted {node} for {a(value)}."""
                    if {node} is None:
                        return «None|False»
                    «|print("at", {node}.{text})»
                    if {node}.{value} == {value}:
                        return {node}«|.{text}»
                    if {value} < {node}.{value}:
                        return find_{value}({node}.left, {value})
                    return find_{value}({node}.right, {value})
                ''',
                f'''
                def «F:largest|highest|deepest»_{value}({node}):
                    """Return the largest {value} in a {node} and its {kids}."""
                    best = {node}.{value}
                    for «C:child|part|item» in {node}.{kids}:
                        best = max(best, «F»_{value}(«C»)«| + {rng.randint(1, 9)}»)
                    «|if best > {rng.randint(10, 99)}:
                        print("{value} of", {node}.{text}, "is", best)»
                    return best
                ''',
            )
        ),
    )


def _file(rng: Random) -> str:
    """Read a file line by line."""
    thing, things = rng.choice(THINGS)
    value, text = rng.choice(NUMERIC), rng.choice(TEXTUAL)
    separator = rng.choice((",", ";", ":", "\\t"))
    return _source(
        rng,
        f'''
        def «read|load|parse»_{things}(path):
            """«Read|Load» {things} from a «text file|table», one {thing} per line."""
            {things} = []
            with open(path«|, encoding="utf-8"») as «F:file|handle|stream»:
                for line in «F»:
                    «|if line.startswith("«#|;|//»"):
                        continue»
                    {text}, {value} = line.strip().split("{separator}")
                    «|if «float|int»({value}) < {rng.randint(1, 50)}:
                        continue»
                    {things}.append(
                        «({text}, float({value}))|{{"{text}": {text}, "{value}": int({value})}}|[{text}, {value}]»
                    )
            «|print(len({things}), "{things} read")»
            return {things}
        ''',
    )


def _check(rng: Random) -> str:
    """Validate a value and raise an error."""
    thing, _ = rng.choice(THINGS)
    value, text = rng.choice(NUMERIC), rng.choice(TEXTUAL)
    low = rng.randint(0, 20)
    high = low + rng.randint(5, 200)
    words = ", ".join(f'"{word}"' for word in rng.sample(WORDS, 3))
    return _source(
        rng,
        f'''
        «A:ALLOWED|KNOWN|VALID» = ({words})


        def check_{thing}({thing}):
            """Raise an error «if|when» {a(thing)} is not «valid|complete|as it should be»."""
            if {thing}.{value} < {low} or {thing}.{value} > {high}:
                raise ValueError(f"{value} must be from {low} to {high}, not {{{thing}.{value}}}")
            if {thing}.{text} not in «A»:
                raise «KeyError|ValueError»(f"unknown {text} {{{thing}.{text}}}")
            «|if not isinstance({thing}.{value}, int):
                raise TypeError("the {value} must be an integer")»
            return «True|{thing}|{thing}.{value}»
        ''',
    )


def _generator(rng: Random) -> str:
    """Write a generator."""
    thing, things = rng.choice(THINGS)
    size, value = rng.choice(("size", "length", "step", "width")), rng.choice(NUMERIC)
    sign, word = rng.choice(((">", "largest"), ("<", "smallest")))
    return _source(
        rng,
        rng.choice(
            (
                f'''
                def «F:chunks|batches|blocks»({things}, {size}={rng.randint(2, 64)}):
                    """Yield {things} in lists of a given {size}."""
                    for start in range(0, len({things}), {size}):
                        «|print("from", start)»
                        yield {things}[start : start + {size}]


                for «P:part|batch|group» in «F»(range({rng.randint(10, 999)})):
                    print(«P»[0], len(«P»))
                ''',
                f'''
                def running_{value}({things}):
                    """Yield the {word} {value} so far."""
                    «B:best|record|seen» = {things}[0].{value}
                    for {thing} in {things}:
                        if {thing}.{value} {sign} «B»:
                            «B» = {thing}.{value}
                            «|print("new record:", {thing}.{rng.choice(TEXTUAL)})»
                        yield «B»
                    «|print("no more {things}")»
                ''',
                f'''
                def pairs({things}, «M:least|gap|margin»={rng.randint(1, 50)}):
                    """Yield the pairs of {things} that differ in {value}."""
                    for i, {thing} in enumerate({things}):
                        for other in {things}[i + 1 :]:
                            «D:change|step|difference» = abs({thing}.{value} - other.{value})
                            if «D» > «M»:
                                yield {thing}, other«|, «D»»
                ''',
            )
        ),
    )


def _loop(rng: Random) -> str:
    """Write a numerical loop."""
    x, limit, small = rng.choice("xyznt"), rng.randint(10, 900), f"1e-{rng.randint(3, 12)}"
    return _source(
        rng,
        rng.choice(
            (
                f'''
                def square_root({x}, «S:steps|rounds»={limit}):
                    """«Approximate|Compute» the square root of {x} by Newton's method."""
                    «G:guess|root|estimate» = {x} / {rng.randint(2, 9)}
                    for _ in range(«S»):
                        «|if abs(«G» * «G» - {x}) < {small}:
                            break»
                        «G» = («G» + {x} / «G») / 2
                    return «G»


                print(square_root({rng.randint(2, 999)}))
                ''',
                f'''
                def collatz({x}, «L:limit|most»={limit}):
                    """«Count|Return» the «C:steps|rounds» until {x} is one."""
                    «C» = 0
                    while {x} != 1 and «C» < «L»:
                        if {x} % 2 == 0:
                            {x} = {x} // 2
                        else:
                            {x} = 3 * {x} + 1
                        «C» += 1
                    «|print("after", «C», "«C»")»
                    return «C»
                ''',
                f'''
                def digits({x}, base={rng.randint(2, 16)}):
                    """Return the digits of {x} in a base«|, the last one first»."""
                    «F:found|result|places» = []
                    while {x} > 0:
                        «F».append({x} % base)
                        {x} //= base
                    return «F»


                for number in ({rng.randint(10, 999)}, {rng.randint(10, 999)}):
                    print(number, «sum|len|max|»(digits(number)))
                ''',
                f'''
                def bisect(function, low, high):
                    """Find a zero of a «rising|growing» function between two «numbers|bounds»."""
                    for «_|_step» in range({limit}):
                        «M:middle|centre» = (low + high) / 2
                        if function(«M») < 0:
                            low = «M»
                        else:
                            high = «M»
                        «|if high - low < {small}:
                            break»
                    return (low + high) / 2
                ''',
                f'''
                def primes(limit={limit}):
                    """«List|Return» all prime numbers below a limit."""
                    «F:found|known|result» = []
                    for {x} in range(2, limit):
                        if all({x} % «P:prime|p|divisor» for «P» in «F»):
                            «F».append({x})
                    «|print("the largest is", «F»[-1])»
                    return «F»


                print(«len|sum|max»(primes({rng.randint(3, 999)})))
                ''',
            )
        ),
    )


def _dataclass(rng: Random) -> str:
    """Write a data class with a property."""
    thing, _ = rng.choice(THINGS)
    text, (value, other) = rng.choice(TEXTUAL), rng.sample(NUMERIC, 2)
    sign, word = rng.choice((("/", "divided by"), ("*", "times"), ("+", "plus"), ("-", "less")))
    return _source(
        rng,
        f'''
        from dataclasses import dataclass


        @dataclass«|(frozen=True)|(order=True)»
        class {thing.capitalize()}:
            """«One|A single» {thing} «of a list|in the table|from the file»."""

            {text}: str
            {value}: «int|float»
            {other}: «int|float» = {rng.randint(1, 99)}

            @property
            def «relative|scaled|final»_{value}(self):
                """The {value} {word} the {other}."""
                return self.{value} {sign} self.{other}


        print({thing.capitalize()}("{rng.choice(WORDS)}", {rng.randint(1, 99)}))
        ''',
    )


def _sort(rng: Random) -> str:
    """Sort items and take the first."""
    thing, things = rng.choice(THINGS)
    text, (value, other) = rng.choice(TEXTUAL), rng.sample(NUMERIC, 2)
    key = rng.choice((f"{thing}.{value}", f"({thing}.{value}, {thing}.{text})"))
    word, reverse = rng.choice((("largest", ", reverse=True"), ("smallest", "")))
    return _source(
        rng,
        f'''
        def {word}_{things}({things}, n={rng.randint(2, 20)}):
            """Return the n {things} with the {word} {value}."""
            «O:ordered|ranked» = sorted({things}, key=lambda {thing}: {key}{reverse})
            «|for {thing} in «O»[:n]:
                print({thing}.{text}, {thing}.{other})»
            «|if len(«O») < n:
                raise ValueError("not enough {things}")»
            return ««O»[:n]|[{thing}.{text} for {thing} in «O»[:n]]»
        ''',
    )


def _strings(rng: Random) -> str:
    """Write a function on words and characters."""
    word = rng.choice(("word", "token", "line", "name", "part", "field"))
    words = f"{word}s"
    old, new = rng.sample(WORDS, 2)
    return _source(
        rng,
        f'''
        def «F:clean|split|join»_{words}(text, most={rng.randint(2, 80)}):
            """Return the «first|wanted» {words} of a text«|, without {old}»."""
            «|text = text.replace("{old}", "{new}")»
            «|text = text.lower()|text = text.strip()»
            {words} = []
            for {word} in text.split(«|","|";"|"-"»):
                if «len({word}) > {rng.randint(1, 9)}|{word}.isalpha()|{word} != "{old}"»:
                    {words}.append({word}«|.title()|[:{rng.randint(3, 12)}]|[::-1]»)
            return «"«-|, | »".join({words}[:most])|{words}[:most]|sorted({words})[:most]»


        print(«F»_{words}("{" ".join(rng.choices(WORDS, k=3))}"))
        ''',
    )


def _matrix(rng: Random) -> str:
    """Write a loop over rows and columns."""
    grid, cell = rng.choice(("grid", "matrix", "board", "image")), rng.choice(("cell", "value", "entry", "pixel"))
    sign, words = rng.choice(COMPARISONS)
    name, change, result = rng.choice(
        (
            ("count", "total += 1", "total"),
            ("sum", f"total += {cell}", "total"),
            ("mark", f"{grid}[i][j] = {rng.randint(0, 9)}", grid),
            ("scale", f"{grid}[i][j] *= {rng.randint(2, 9)}", grid),
        )
    )
    start = "total = 0" if result == "total" else ""
    return _source(
        rng,
        f'''
        def {name}_{cell}s({grid}, «B:bound|limit|level»={rng.randint(1, 99)}):
            """{name.capitalize()} every {cell} of the {grid} that is {words} the «B»."""
            «{start}»
            rows, columns = len({grid}), len({grid}[0])
            for i in range(rows):
                for j in range(columns):
                    {cell} = {grid}[i][j]
                    if {cell} {sign} «B»:
                        {change}
            «|print("{cell}s:", rows * columns)»
            return {result}
        ''',
    )


def _try(rng: Random) -> str:
    """Write a function that catches an error and continues."""
    thing, things = rng.choice(THINGS)
    value = rng.choice(NUMERIC)
    return _source(
        rng,
        f'''
        def «safe|get|fetch»_{value}({things}, key, default={rng.randint(0, 99)}):
            """Return the {value} of {a(thing)}, or a default «if there is none|when it fails»."""
            try:
                {thing} = {things}[key]
                {value} = «int|float»({thing}«.{value}|["{value}"]»)
            except «ValueError|KeyError|TypeError|IndexError» as error:
                print("no {value}:", error)
                return default
            «|finally:
                print("looked for", key)»
            «|if {value} «<|>» {rng.randint(0, 99)}:
                return default»
            return {value}«| + {rng.randint(1, 20)}| * {rng.randint(2, 20)}»
        ''',
    )


def _convert(rng: Random) -> str:
    """Convert between units, with a usage example."""
    unit, other, factor = rng.choice(UNITS)
    numbers = ", ".join(str(number) for number in rng.sample(range(1, 500), 3))
    return _source(
        rng,
        f'''
        FACTOR = {factor}


        def {unit}_to_{other}({unit}):
            """Convert {unit} «to|into» {other}."""
            «|if {unit} < 0:
                raise ValueError("{unit} must not be negative")»
            return «round({unit} * FACTOR, {rng.randint(1, 6)})|{unit} * FACTOR»


        def {other}_to_{unit}({other}):
            """Convert {other} «to|into» {unit}."""
            return {other} / FACTOR


        for «N:number|amount|value» in ({numbers}):
            print({unit}_to_{other}(«N»), "{other}")
        ''',
    )


def _container(rng: Random) -> str:
    """Write a container class."""
    thing, things = rng.choice(THINGS)
    kind, last = rng.choice((("Queue", "0"), ("Stack", ""), ("List", ""), ("Store", ""), ("Line", "0")))
    value = rng.choice(NUMERIC)
    return _source(
        rng,
        f'''
        class {thing.capitalize()}{kind}:
            """«Holds|Keeps|Stores» {things}«| in the order of their arrival»."""

            def __init__(self):
                self.{things} = []

            def «add|push|put»(self, {thing}):
                «|if {thing} in self.{things}:
                    return»
                self.{things}.append({thing})

            def «pop|take|remove»(self):
                «|if not self.{things}:
                    raise IndexError("no {things} left")»
                return self.{things}.pop({last})«|

            def __len__(self):
                return len(self.{things})»«|

            def total_{value}(self):
                return sum({thing}.{value} for {thing} in self.{things})»
        ''',
    )


def _main(rng: Random) -> str:
    """Write the command line of a script."""
    thing, things = rng.choice(THINGS)
    value = rng.choice(NUMERIC)
    return _source(
        rng,
        f'''
        import argparse


        def main():
            """«Run|Start» the program."""
            parser = argparse.ArgumentParser(description="«Count|List|Print|Sort» {things}")
            parser.add_argument("{things}", nargs="+", help="the {things} «to use|to print»")
            parser.add_argument("--{value}", type=«int|float», default={rng.randint(1, 99)})
            «|parser.add_argument("--verbose", action="store_true")»
            args = parser.parse_args()
            «|if args.{value} < {rng.randint(0, 9)}:
                parser.error("the {value} is too small")»
            for {thing} in «args.{things}|sorted(args.{things})|reversed(args.{things})»:
                print({thing}, args.{value}«| * {rng.randint(2, 99)}»)


        if __name__ == "__main__":
            main()
        ''',
    )


TOPICS: tuple[Callable[[Random], str], ...] = (
    _sum,
    _filter,
    _group,
    _class,
    _test,
    _recursion,
    _file,
    _check,
    _generator,
    _loop,
    _dataclass,
    _sort,
    _strings,
    _matrix,
    _try,
    _convert,
    _container,
    _main,
)
"""Functions that each write one type of code."""
