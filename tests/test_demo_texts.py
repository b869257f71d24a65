"""Generated demo texts are reproducible, varied, and correct where this can be checked."""

import math
import os
import re
import subprocess
import sys
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import pytest

import lmri.demo.texts
from lmri.demo.texts import KINDS, generate

NUMBER = r"-?\d+(?:\.\d+)?(?:/\d+)?"
TERM = rf"{NUMBER}(?: [-+*/] {NUMBER})*"
CHAIN = re.compile(rf"(?<![\w.)^])(?<![-+*/] ){TERM}(?: = {TERM})+(?!\w)")
ANSWER = re.compile(rf"answer is (yes|no|{NUMBER})\.$")


def value(term):
    return eval(re.sub(NUMBER, lambda match: f"Fraction('{match[0]}')", term), {"Fraction": Fraction})


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


# Questions that can be read again and answered without the text's own steps.
SOLVERS = (
    (r"Is (\d+) a prime", lambda n: "yes" if is_prime(int(n)) else "no"),
    (r"divisor of (\d+) and (\d+)", lambda a, b: math.gcd(int(a), int(b))),
    (
        r"(?:Write|factors of|the number) (\d+)(?: as a product)?[^=]*?smallest prime",
        lambda n: max(p for p in range(2, int(n) + 1) if int(n) % p == 0 and is_prime(p)),
    ),
    (r"has (\d+) \w+ and \w+ (?:exactly )?(\d+) of them .*How many \w+ can", lambda n, size: int(n) // int(size)),
    (r"has (\d+) \w+ and \w+ (?:exactly )?(\d+) of them .*left over", lambda n, size: int(n) % int(size)),
    (
        r"larger solution of x\^2 - (\d+)x \+ (\d+) ",
        lambda b, c: (int(b) + math.isqrt(int(b) ** 2 - 4 * int(c))) // 2,
    ),
    (
        r"smaller solution of x\^2 - (\d+)x \+ (\d+) ",
        lambda b, c: (int(b) - math.isqrt(int(b) ** 2 - 4 * int(c))) // 2,
    ),
    (
        r"(\d+)[a-z] \+ (\d+) = (\d+)[a-z] \+ (\d+)\. \w+",
        lambda a, b, c, d: Fraction(int(d) - int(b), int(a) - int(c)),
    ),
    (r"(\d+)[a-z] ([+-]) (\d+) = (-?\d+)[ .]", lambda a, s, b, c: Fraction(int(c) - int(s + b), int(a))),
    (r" (\d+) (?:years older|\w+ more) .* Together they (?:are|have) (\d+)", lambda d, s: (int(s) - int(d)) // 2),
    (r"sum of two numbers is (\d+) and their difference is (\d+)", lambda s, d: (int(s) - int(d)) // 2),
    (r"area of (\d+) square metres and is (\d+)", lambda area, side: int(area) // int(side)),
    (r"(?:Compute|Calculate|Work out) (\d+/\d+ [+-] \d+/\d+)", value),
    (r"(?:Compute|Calculate|Work out) (\d+ \* \d+)", value),
)


def problems(text):
    """List the errors in a text of mathematics."""
    found = []
    chains = [match[0].split(" = ") for match in CHAIN.finditer(text)]
    if not chains:
        found.append("nothing computed")
    found += [" = ".join(chain) for chain in chains if len({value(term) for term in chain}) > 1]
    answer = ANSWER.search(text)
    if not answer:
        return [*found, "no answer"]
    for pattern, solve in SOLVERS:
        question = re.search(pattern, text)
        if question:
            expected = str(solve(*question.groups()))
            break
    else:
        expected = str(value(chains[-1][-1])) if chains else ""
    if answer[1] != expected:
        found.append(f"the answer is {expected}, not {answer[1]}")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_number_and_length(kind):
    texts = generate(kind, 300, seed=3)
    assert len(texts) == 300
    words = [len(text.split()) for text in texts]
    assert min(words) >= 10
    assert 25 <= sum(words) / len(words) <= 90
    assert all(text == text.lstrip() for text in texts)
    assert not any(mark in text for text in texts for mark in ("«", "»"))


@pytest.mark.parametrize("kind", ["news", "encyclopedia", "mathematics"])
def test_prose_is_finished(kind):
    for text in generate(kind, 300, seed=4):
        assert not set("[]{}|_") & set(text)
        assert "  " not in text
        assert " ." not in text
        assert " ," not in text
        assert text[0].isupper() or text[0].isdigit()
        assert text[-1] in '."'


def test_same_in_a_fresh_process():
    script = (
        "from hashlib import sha256\nfrom lmri.demo.texts import KINDS, generate\n"
        "print(sha256(repr([generate(kind, 50, seed=7) for kind in KINDS]).encode()).hexdigest())"
    )
    here = sha256(repr([generate(kind, 50, seed=7) for kind in KINDS]).encode()).hexdigest()
    source = Path(lmri.demo.texts.__file__).parents[3]
    for hashseed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": hashseed, "PYTHONPATH": str(source)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == here


@pytest.mark.parametrize("kind", KINDS)
def test_longer_list_begins_with_the_shorter(kind):
    assert generate(kind, 20, seed=5)[:8] == generate(kind, 8, seed=5)


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_and_texts_differ(kind):
    one, two = generate(kind, 2000, seed=0), generate(kind, 2000, seed=1)
    assert len(set(one)) > 0.99 * len(one)
    assert len(set(one) & set(two)) < 0.01 * len(one)


def test_mathematics_is_right():
    texts = generate("mathematics", 600, seed=6)
    assert [(text, found) for text in texts if (found := problems(text))] == []
    for pattern, _ in SOLVERS:
        assert any(re.search(pattern, text) for text in texts), pattern


def test_wrong_mathematics_is_noticed():
    for text in generate("mathematics", 200, seed=8):
        answer = ANSWER.search(text)
        wrong = {"yes": "no", "no": "yes"}.get(answer[1]) or str(Fraction(answer[1]) + 1)
        assert problems(f"{text[: answer.start(1)]}{wrong}.")
    assert problems("3 * 4 = 13. The answer is 13.")
    assert problems("Subtract 2: 5x = 12 - 2 = 11. The answer is 11.")


def test_code_compiles_and_its_tests_pass():
    tested = 0
    for text in generate("code", 400, seed=9):
        names = {"__name__": "generated"}
        exec(compile(text, "generated", "exec"), names)
        for name in [name for name in names if name.startswith("test_")]:
            names[name]()
            tested += 1
    assert tested > 5


def test_pronouns_follow_the_name():
    from lmri.demo.texts.words import MEN, WOMEN

    assert not set(MEN) & set(WOMEN)
    checked = 0
    for text in generate("encyclopedia", 400, seed=10):
        if match := re.match(r"(\w+) \w+ \(.*?\) was an? ", text):
            he = "he" if match[1] in MEN else "she"
            other = "she" if he == "he" else "he"
            words = set(re.findall(r"\w+", text.lower()))
            assert he in words
            assert other not in words
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("kind", ["News", "", "poetry"])
def test_unknown_kind(kind):
    with pytest.raises(ValueError, match=r"news.*encyclopedia.*mathematics.*code") as error:
        generate(kind, 1, seed=0)
    assert repr(kind) in str(error.value)


@pytest.mark.parametrize("n", [0, -3])
def test_too_few(n):
    with pytest.raises(ValueError, match=rf"at least 1, not {n}"):
        generate("news", n, seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_tokenizer_fits(kind):
    tokenizers = pytest.importorskip("tokenizers")
    path = Path(lmri.demo.texts.__file__).parents[1] / "model" / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    lengths = []
    for text in generate(kind, 300, seed=11):
        coded = tokenizer.encode(text)
        assert "".join(text[i:j] for i, j in coded.offsets) == text
        assert "<|endoftext|>" not in coded.tokens
        lengths.append(len(coded.ids))
    assert min(lengths) >= 20
    assert 40 <= sum(lengths) / len(lengths) <= 160
    assert max(lengths) < 256
