"""Short encyclopedia entries: lives, towns, rivers, animals, plants, minerals, compounds, battles and buildings.

The module is longer than most because it contains all sentences of its topics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmri.demo.texts.words import MONTHS, ORDINALS, a, cap, count, fill, land, listed, person, place, several

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

TRADES = (
    ("painter", "[landscapes|portraits|scenes of village life]", "the Academy of Arts"),
    ("composer", "[symphonies|string quartets|songs for choir]", "the royal conservatory"),
    ("novelist", "[novels|short stories|letters from abroad]", "a daily newspaper"),
    ("botanist", "[studies of mosses|lists of alpine plants|work on seeds]", "the botanical garden"),
    ("astronomer", "[star charts|work on comets|observations of Saturn]", "the observatory"),
    ("mathematician", "[work on curves|theorems on prime numbers|textbooks]", "the university"),
    ("physician", "[work on fevers|writings on the heart|studies of the eye]", "the city hospital"),
    ("architect", "[bridges|town halls|railway stations]", "the office of works"),
    ("explorer", "[maps of the polar sea|travel diaries|crossing of the desert]", "the geographical society"),
    ("engineer", "[pumps|iron bridges|improved clocks]", "the state railways"),
    ("philosopher", "[essays on language|writings on duty|dialogues]", "the faculty of law"),
)
INDUSTRIES = (
    "glass",
    "paper",
    "wool",
    "timber",
    "leather",
    "porcelain",
    "salt",
    "fishing nets",
    "clocks",
    "beer",
    "rope",
)
SIGHTS = (
    "castle",
    "cathedral",
    "market square",
    "lighthouse",
    "town wall",
    "abbey",
    "old mill",
    "theatre",
    "botanical garden",
)
ANIMALS = (
    ("bird", "finch warbler plover heron owl swift", "feathers", "seeds insects berries worms snails", "nest"),
    ("mammal", "shrew marten hare vole badger otter", "fur", "roots insects berries mice fish", "den"),
    ("fish", "perch carp goby trout loach eel", "scales", "worms larvae algae snails shrimps", "nest"),
    ("lizard", "gecko skink agama monitor anole", "scales", "insects spiders eggs leaves", "burrow"),
    ("beetle", "weevil longhorn chafer dung-beetle", "wing cases", "leaves bark pollen fungi", "burrow"),
)
COLOURS = ("grey", "brown", "black", "white", "golden", "reddish", "green", "spotted", "pale blue")
QUALITIES = (
    "lesser",
    "greater",
    "northern",
    "southern",
    "slender",
    "mountain",
    "marsh",
    "dwarf",
    "common",
    "striped",
)
WILDS = ("forests", "wetlands", "meadows", "river banks", "dry grassland", "coastal dunes", "swamps", "hills")
HABITATS = (
    "forests",
    "wetlands",
    "meadows",
    "mountain streams",
    "dry grassland",
    "coastal dunes",
    "swamps",
    "caves",
    "lakes",
)
PLANTS = (
    ("tree", "oak maple pine alder birch", "timber"),
    ("shrub", "willow hazel heath broom", "baskets"),
    ("herb", "sage mint clover thistle fern", "tea"),
    ("climber", "vine ivy bindweed", "dye"),
)
ELEMENTS = ("copper", "iron", "zinc", "lead", "silver", "nickel", "calcium", "sodium", "magnesium", "cobalt", "tin")
MASSES = {"H": 1, "C": 12, "N": 14, "O": 16, "F": 19, "Na": 23, "Mg": 24, "Si": 28, "P": 31, "S": 32, "K": 39, "Ca": 40}
SYMBOLS = {
    "H": "hydrogen",
    "C": "carbon",
    "N": "nitrogen",
    "O": "oxygen",
    "F": "fluorine",
    "Na": "sodium",
    "Mg": "magnesium",
    "Si": "silicon",
    "P": "phosphorus",
    "S": "sulfur",
    "K": "potassium",
    "Ca": "calcium",
}
COMPOUNDS: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("water", "liquid", {"H": 2, "O": 1}),
    ("carbon dioxide", "gas", {"C": 1, "O": 2}),
    ("carbon monoxide", "gas", {"C": 1, "O": 1}),
    ("methane", "gas", {"C": 1, "H": 4}),
    ("ethane", "gas", {"C": 2, "H": 6}),
    ("propane", "gas", {"C": 3, "H": 8}),
    ("butane", "gas", {"C": 4, "H": 10}),
    ("ethylene", "gas", {"C": 2, "H": 4}),
    ("acetylene", "gas", {"C": 2, "H": 2}),
    ("benzene", "liquid", {"C": 6, "H": 6}),
    ("ammonia", "gas", {"N": 1, "H": 3}),
    ("nitric oxide", "gas", {"N": 1, "O": 1}),
    ("nitrous oxide", "gas", {"N": 2, "O": 1}),
    ("sulfur dioxide", "gas", {"S": 1, "O": 2}),
    ("hydrogen sulfide", "gas", {"H": 2, "S": 1}),
    ("quicklime", "solid", {"Ca": 1, "O": 1}),
    ("magnesia", "solid", {"Mg": 1, "O": 1}),
    ("silica", "solid", {"Si": 1, "O": 2}),
    ("sodium fluoride", "solid", {"Na": 1, "F": 1}),
    ("potassium fluoride", "solid", {"K": 1, "F": 1}),
    ("fluorspar", "solid", {"Ca": 1, "F": 2}),
    ("phosphine", "gas", {"P": 1, "H": 3}),
    ("hydrazine", "liquid", {"N": 2, "H": 4}),
    ("hexane", "liquid", {"C": 6, "H": 14}),
)
BUILDINGS = (
    ("castle", "towers", "on a steep hill"),
    ("bridge", "arches", "over the river"),
    ("cathedral", "altars", "by the market square"),
    ("palace", "halls", "in a large park"),
    ("monastery", "courtyards", "in a quiet valley"),
    ("theatre", "balconies", "near the station"),
    ("lighthouse", "storeys", "on a small island"),
)
STYLES = ("Gothic", "Romanesque", "Baroque", "classical", "Renaissance", "modern")


def _biography(rng: Random) -> str:
    """Describe a life whose dates follow each other."""
    who, teacher, partner = several(rng, person, 3)
    trade, works, house = rng.choice(TRADES)
    home, school, end = several(rng, place, 3)
    born = rng.randint(1620, 1930)
    study, fame = born + rng.randint(17, 22), born + rng.randint(26, 45)
    died = fame + rng.randint(5, 45)
    child = "son" if who.he == "he" else "daughter"
    return fill(
        rng,
        f"""{who.name} [({born}-{died})|({rng.randint(1, 28)} {rng.choice(MONTHS)} {born} - {died})] was
        {a(land(rng))}n {trade}.
        [Born in {home}, {who.he} [studied|was trained] in {school} from {study}[| under {teacher.name}].
        |{cap(who.he)} was the [|only|second|youngest] {child} of a [baker|teacher|miller|merchant|judge] in {home}
        and went to {school} in {study}.]
        {cap(who.he)} [became known for|is remembered for|made {who.his} name with] {who.his}
        {works}[|, the best of which date from {fame}].
        [|In {fame} {who.he} married the {rng.choice(TRADES)[0]} {partner.name}, with whom {who.he} had
        {count(rng.randint(1, 6), "child", "children")}.]
        From {rng.randint(study + 2, fame + 4)} {who.he} worked for {house} in {end}.
        [|{teacher.name} and {who.last} [wrote many letters to each other|later became rivals|remained friends].]
        {who.last} died in [{home}|{end}] at the age of {died - born}.
        [|A [street|school|square] in {home} [is|was] named after {who.him}.]""",
    )


def _town(rng: Random) -> str:
    """Describe a town."""
    name, river, near = several(rng, place, 3)
    founded = rng.randint(870, 1450)
    product, other = rng.sample(INDUSTRIES, 2)
    sights = rng.sample(SIGHTS, 2)
    return fill(
        rng,
        f"""{name} is a [town|city|port|market town] in [northern|southern|eastern|western|central] {land(rng)}.
        It [lies|is situated] on [the river|Lake] {river}, {rng.randint(5, 120)} kilometres
        [north|south|east|west] of {near}, and has [|about ]{rng.randint(2, 400)},000 inhabitants.
        [{name} was first mentioned in {founded}.|The town was founded in {founded} by [monks|merchants|a duke|miners].
        |Its charter dates from {founded}.]
        In the {rng.randint(15, 19)}th century it [grew rich|became wealthy|was known] through
        [its {product}|the trade in {product}][|, and {other} followed later].
        [|A fire destroyed [half|most|a large part] of {name} in {founded + rng.randint(60, 500)}.]
        [The {sights[0]}|The {sights[0]}, next to the {sights[1]},]
        [can be seen from afar|attracts many visitors|survived the wars|was restored in {rng.randint(1960, 2020)}].
        [|Since {rng.randint(1850, 1990)} {name} has been linked to {near} by [rail|a motorway|a canal|a ferry].]
        [|The {rng.choice(TRADES)[0]} {person(rng).name} was born here.]""",
    )


def _river(rng: Random) -> str:
    """Describe a river from its source to its mouth."""
    name, source, mouth, town, first, second = several(rng, place, 6)
    country, neighbour = several(rng, land, 2)
    length = rng.randint(40, 900)
    return fill(
        rng,
        f"""The {name} is a river in {country}[| and {neighbour}].
        It rises [in the hills near|at the foot of Mount|in a marsh near] {source}, flows
        [north|south|east|west] [past|through] {town} and [enters the sea|meets the {first}|ends in a lake] at {mouth}.
        With a length of {length} kilometres it [is the {rng.choice(ORDINALS[1:])} longest river of {country}|
        drains {length * rng.randint(8, 40):,} square kilometres|is one of the longest rivers of {country}].
        [Among its tributaries are the {second} and the {place(rng)}.|The {second} joins it from the [left|right].]
        [|The {name} [freezes|floods its banks|carries little water] in [some winters|spring|dry years].]
        [Ships can travel up the river as far as {town}.
        |{cap(count(rng.randint(2, 9), "dam"))} [produce electricity|hold back its water] above {town}.
        |Its water [drives mills|is used on the fields] around {town}.]
        [|[Trout|Salmon|Otters|Herons] have returned to the {name} since {rng.randint(1975, 2015)}.]""",
    )


def _animal(rng: Random) -> str:
    """Describe a species; its food and its young fit its class."""
    kind, species, cover, foods, home = rng.choice(ANIMALS)
    name = f"{rng.choice(QUALITIES)} {rng.choice(species.split())}"
    food, other = rng.sample(foods.split(), 2)
    young = rng.randint(2, 12)
    colour, second = rng.sample(COLOURS, 2)
    finder, length = person(rng), rng.randint(2, 60)
    brood = "young" if kind == "mammal" else "eggs"
    return fill(
        rng,
        f"""The {name} is a [small|medium-sized|rare|shy] {kind} found in the {rng.choice(HABITATS)} of {land(rng)}.
        It is {length} to {length + rng.randint(1, 15)} {"milli" if kind == "beetle" else "centi"}metres long
        and has {colour} {cover}[| with {second} [spots|bands|edges]].
        [It feeds on {food} and {other}[|, mostly at [night|dawn|dusk]].
        |Its diet consists of {food}; in winter it also eats {other}.]
        In [spring|early summer|{rng.choice(MONTHS[2:7])}] the female [builds|prepares] a {home} and
        {"bears" if kind == "mammal" else "lays"} {count(young, brood, brood)}, which [both parents guard|she
        guards alone|
        are guarded by the male].
        [The {name} was [first described|discovered] in {rng.randint(1758, 1950)} by {finder.name}[|, who named it
        after {finder.his} [teacher|home town|sister]].]
        [|Its numbers have [fallen|risen|remained stable] since the {rng.choice(HABITATS)} were
        [drained|protected|cleared].]
        [|In [folk tales|old songs] it brings [luck|rain|bad weather].]""",
    )


def _plant(rng: Random) -> str:
    """Describe a plant and its use."""
    kind, species, use = rng.choice(PLANTS)
    name = f"{rng.choice(QUALITIES)} {rng.choice(species.split())}"
    flower, berry = rng.sample(COLOURS, 2)
    start = rng.randint(2, 6)
    country, other_country = several(rng, land, 2)
    low, more, unit = (
        (rng.randint(8, 25), 10, "metres") if kind == "tree" else (rng.randint(20, 150), 60, "centimetres")
    )
    return fill(
        rng,
        f"""The {name} is {a(kind)} native to the {rng.choice(WILDS)} of {country}[| and {other_country}].
        It [reaches|can reach] {low} to {low + rng.randint(2, more)} {unit} in height and [prefers|needs]
        [moist|dry|sandy|stony|deep] soil[| and full sun| and some shade].
        Its {flower} flowers [open|appear] from {MONTHS[start]} to {rng.choice(MONTHS[start + 1 : start + 3])} and are
        visited by [bees|moths|hoverflies|beetles]; the fruit is {berry}[| and bitter| and sweet].
        [People in {land(rng)} use it for {use}.|Its [bark is|leaves are|roots are|seeds were once] used for {use}.]
        [|It has been grown in gardens since {rng.randint(1550, 1890)}[|, when {person(rng).name} brought seeds
        to {place(rng)}].]
        [|The {name} is [easily confused with|closely related to] the {rng.choice(QUALITIES)}
        {rng.choice(species.split())}.]
        [|In some places it is [a weed|protected|a sign of old woodland].]""",
    )


def _mineral(rng: Random) -> str:
    """Describe an invented mineral."""
    town, finder = place(rng), person(rng)
    name = f"{finder.last.rstrip('aeiy')}ite"
    metals = rng.sample(ELEMENTS, 2)
    colour, streak = rng.sample(COLOURS, 2)
    hardness = rng.randint(2, 8)
    return fill(
        rng,
        f"""{name} is a [rare|common|brittle|heavy] [mineral|ore] of {metals[0]}[| and {metals[1]}], named after
        {finder.name},
        who [found|described] it in {rng.randint(1790, 1960)} in a [mine|quarry] near {town}.
        It forms {colour} [needles|cubes|plates|grains|prisms] with a {streak} streak and has a hardness of {hardness}
        on the scale
        of Mohs[|, so that it scratches a mineral of hardness {hardness - 1}].
        [{name} [occurs|is found] in [veins|limestone|granite|volcanic rock|old lava][| together with
        [quartz|mica|pyrite]].
        |It forms where hot water [meets|flows through] [limestone|granite|sandstone].]
        [|When heated it [turns {rng.choice(COLOURS)}|loses its water|glows|gives off sulfur].]
        [{name} was once mined for its {metals[0]}.|Large deposits are known in {listed(several(rng, land, 2))}.
        |The largest crystal weighs {rng.randint(2, 90)} kilograms and is kept in {place(rng)}.]
        [|{finder.last} gave {finder.his} collection to the museum of {town}.]""",
    )


def _formula(atoms: dict[str, int]) -> str:
    """Write a chemical formula."""
    return "".join(f"{symbol}{number if number > 1 else ''}" for symbol, number in atoms.items())


def _mass(atoms: dict[str, int]) -> int:
    """Add up whole atomic masses."""
    return sum(MASSES[symbol] * number for symbol, number in atoms.items())


def _compound(rng: Random) -> str:
    """Describe a real compound by its formula and molar mass, and compare it with another one."""
    (name, state, atoms), (other, _, other_atoms) = rng.sample(COMPOUNDS, 2)
    mass, other_mass = _mass(atoms), _mass(other_atoms)
    parts = listed([f"{count(number, 'atom')} of {SYMBOLS[symbol]}" for symbol, number in atoms.items()])
    amount = rng.randint(2, 40)
    more = "as much as" if mass == other_mass else "more than" if mass > other_mass else "less than"
    terms = " + ".join(f"{number} x {MASSES[symbol]}" for symbol, number in atoms.items())
    return fill(
        rng,
        f"""{cap(name)} is a chemical compound with the formula {_formula(atoms)}.
        [Each [unit|formula unit] [consists of|contains|is made of] {parts}.|It consists of
        {listed([SYMBOLS[symbol] for symbol in atoms])}.]
        At room temperature it is a {state}. [In whole numbers, its|Its] molar mass is about {terms} = {mass}
        grams per mole.
        [{cap(count(amount, "mole"))} of {name} therefore [weigh|have a mass of] about {amount * mass} grams.
        |A sample of {amount * mass} grams [contains|holds] about {count(amount, "mole")} of {name}.]
        One mole of it weighs {more} one mole of {other} ({_formula(other_atoms)}), [which has|with] a molar mass of
        about {other_mass} grams[| per mole].
        [|The chemist {person(rng).name} keeps [a little|a sample] of it in {place(rng)}.]""",
    )


def _battle(rng: Random) -> str:
    """Describe a battle and its treaty; the dates follow each other."""
    country, other_country = several(rng, land, 2)
    field, town, river = several(rng, place, 3)
    winner, loser = several(rng, person, 2)
    year, month = rng.randint(1240, 1810), rng.randrange(9)
    return fill(
        rng,
        f"""The Battle of {field} was fought on {rng.randint(1, 28)} {MONTHS[month]} {year} between {country} and
        {other_country}.
        {winner.name} led the army of {country}, [about|some] {rng.randint(3, 40) * 500:,} men, against the
        [larger|smaller|tired|hungry] force of {loser.name}.
        [Heavy rain|Thick fog|A flood of the {river}|A broken bridge] [delayed|stopped] the
        [cavalry|guns|infantry] of {other_country},
        and [by noon|towards evening|after {count(rng.randint(2, 9), "hour")}] {winner.last} had [won|taken the hill|
        broken the enemy line].
        {loser.last} [fled|escaped|retreated] to {town}[|, where {loser.he} was captured
        {count(rng.randint(2, 9), "day")} later].
        [|{country} lost {rng.randint(2, 50) * 20} men, {other_country} {rng.randint(60, 150) * 20:,}.]
        The [war|conflict] ended with the Treaty of {town} in {year + rng.randint(1, 6)}, by which {other_country}
        [gave up|lost|returned] the [land|towns|forts] [along|west of|east of] the {river}.
        [|A [chapel|stone|cross] at {field} marks the place.]""",
    )


def _building(rng: Random) -> str:
    """Describe a building and its history."""
    kind, parts, site = rng.choice(BUILDINGS)
    town, maker, owner = place(rng), *several(rng, person, 2)
    first, second = rng.sample(STYLES, 2)
    start = rng.randint(1150, 1780)
    done = start + rng.randint(4, 60)
    burnt = done + rng.randint(20, 120)
    return fill(
        rng,
        f"""The {kind} of {town} stands {site} and is one of the [finest|oldest|largest] {first} buildings in
        {land(rng)}.
        It was [begun|started] in {start} by the [architect|master builder] {maker.name} and
        [finished|completed] in {done}, {count(done - start, "year")} later.
        With its {count(rng.randint(2, 12), parts[:-1], parts)} it [resembles|was the model for] the {kind} of
        {place(rng)}.
        [A fire in {burnt} [damaged|destroyed] [the roof|one of the {parts}|the east side], which was rebuilt in
        the {second} style.
        |In {burnt} the {second} front was added[| for {owner.name}].
        |From {burnt} it belonged to {owner.name}, who [sold it|left it to {owner.his} sister]
        {count(rng.randint(3, 30), "year")} later.]
        [It was used as a [prison|school|granary|hospital] [for a time|during the war].|
        Today it houses a [museum|library|school of music].]
        [|It is open to visitors from {rng.choice(MONTHS[2:6])} to {rng.choice(MONTHS[7:11])}.]""",
    )


TOPICS: tuple[Callable[[Random], str], ...] = (
    _biography,
    _town,
    _river,
    _animal,
    _plant,
    _mineral,
    _compound,
    _battle,
    _building,
)
"""Functions that each write one type of entry."""
