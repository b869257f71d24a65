"""Short news reports: sport, business, markets, weather, councils, traffic, culture and research.

The module is longer than most because it contains all sentences of its topics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmri.demo.texts.words import (
    MONTHS,
    NUMBERS,
    ORDINALS,
    WEEKDAYS,
    a,
    cap,
    count,
    fill,
    land,
    listed,
    person,
    place,
    several,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

CLUBS = words("United City Rovers Athletic Wanderers Rangers Albion Town")
RACES = (
    ("marathon", "runners"),
    ("cycling tour", "riders"),
    ("ski race", "skiers"),
    ("regatta", "rowers"),
    ("triathlon", "athletes"),
    ("swimming cup", "swimmers"),
)
SECTORS = (
    ("carmaker", "Motors", "electric vans"),
    ("chipmaker", "Semiconductors", "memory chips"),
    ("brewer", "Breweries", "bottled beer"),
    ("retailer", "Stores", "winter clothing"),
    ("airline", "Airways", "short flights"),
    ("drug company", "Pharma", "a new vaccine"),
    ("software firm", "Systems", "cloud services"),
    ("energy supplier", "Power", "offshore wind"),
    ("food producer", "Foods", "frozen meals"),
    ("shipping line", "Shipping", "container freight"),
    ("steelmaker", "Steel", "railway track"),
    ("publisher", "Press", "school books"),
)
REGIONS = ("the north", "the south", "the east", "the west", "the mountains", "the valleys", "the coastal towns")
PROJECTS = (
    "a new library",
    "a cycle path along the river",
    "a tram line",
    "a sports hall",
    "a primary school",
    "a flood barrier",
    "a covered market",
    "a solar park",
    "the repair of the old bridge",
    "a care home",
)
ARTS = (
    ("paintings", "painter", "gallery"),
    ("photographs", "photographer", "museum"),
    ("sculptures", "sculptor", "art hall"),
    ("drawings", "artist", "town museum"),
    ("vases", "potter", "craft centre"),
    ("posters", "designer", "design museum"),
)
STUDIES = (
    ("sleep", "who slept at least seven hours", "remembered more words"),
    ("diet", "who ate fish twice a week", "had lower blood pressure"),
    ("exercise", "who walked every day", "had fewer heart problems"),
    ("music", "who played an instrument", "heard high notes better"),
    ("noise", "who lived far from busy roads", "slept longer"),
    ("daylight", "who worked near a window", "felt less tired"),
    ("reading", "who read for pleasure", "used a larger vocabulary"),
)
LOOT = (
    ("a jewellery shop", "watches and rings"),
    ("a warehouse", "several hundred phones"),
    ("a bank", "a large sum of cash"),
    ("a museum", "two old coins"),
    ("a farm", "a tractor and tools"),
    ("a chemist", "boxes of medicine"),
)
GOODS = ("oil", "copper", "wheat", "gold", "coffee", "natural gas", "cotton", "cocoa")
FOODS = ("honey", "cheese", "smoked fish", "plum cake", "apple wine", "roasted nuts", "onion soup", "rye bread")


def _match(rng: Random) -> str:
    """Report a football match whose half-time score fits its result."""
    winner, loser = (f"{town} {rng.choice(CLUBS)}" for town in several(rng, place, 2))
    scorer, coach, keeper = several(rng, person, 3)
    goals = rng.randint(1, 5)
    lost = rng.randint(0, goals - 1)
    lead, behind = rng.randint(0, goals - 1), rng.randint(0, lost)
    ahead = (
        f"It was {lead}-{lead}" if lead == behind else f"{winner if lead > behind else loser} led {max(lead, behind)}-"
    )
    half = f"{ahead}{'' if lead == behind else min(lead, behind)} at half-time."
    crowd = f"{rng.randint(4, 60) * 500:,}"
    return fill(
        rng,
        f"""[{winner} beat {loser} {goals}-{lost} on {rng.choice(WEEKDAYS)}[| in front of {crowd} spectators].
        |{loser} lost {goals}-{lost} to {winner} in [the league|the cup|a friendly match] on {rng.choice(WEEKDAYS)}.
        |{scorer.name} scored the decisive goal as {winner} won {goals}-{lost} against {loser}.]
        [||{half}|{half}|{half}]
        {scorer.last}[|, who joined {winner} in {rng.choice(MONTHS)},] [scored|found the net|struck]
        after {rng.randint(46, 89)} minutes [with a header|from a free kick|from a long pass|from the penalty spot].
        [|{keeper.name}, the {loser} goalkeeper, [could do nothing about it|made a costly mistake|saved two more shots|
        was hurt and had to leave the field].]
        ["[We played very well|We had to be patient|The team never gave up|We earned this win]," said
        the {winner} coach, {coach.name}.
        |Coach {coach.name} said {coach.he} was [proud of|pleased with|surprised by] {coach.his}
        [players|team|defence].]
        [|[{winner}|{loser}] will [play|travel|be at home] again next {rng.choice(WEEKDAYS)}.]""",
    )


def _race(rng: Random) -> str:
    """Report a race with a winner, a runner-up and the gap between them."""
    first, second, third = several(rng, person, 3)
    kind, athletes = rng.choice(RACES)
    town, gap = place(rng), rng.randint(2, 59)
    return fill(
        rng,
        f"""[{first.name} won the {town} {kind} on {rng.choice(WEEKDAYS)}, {gap} seconds ahead of {second.name}.
        |{first.name} of {land(rng)} has won the {kind} of {town} for the {rng.choice(ORDINALS[:5])} time,
        with {second.name} [in second place|close behind].]
        [|{third.name} came third, {count(rng.randint(2, 9), "minute")} behind the winner.]
        [About|More than|Nearly] {rng.randint(2, 90) * 100:,} {athletes} [took part|started|had entered] in
        [heavy rain|bright sunshine|a cold wind|thick fog|mild weather].
        [{first.last}, {rng.randint(19, 38)}, [attacked|took the lead] [on the last climb|near the finish|early on].
        |{second.last} led until [the last bend|the final kilometre|the old harbour], where {first.last} passed
        {second.him}.]
        ["[I cannot believe it|It was a hard day|I trained for this all year]," {first.he} said after
        {first.his} victory.
        |{cap(first.he)} said {first.he} would [rest for a week|come back next year|give the prize money to charity].]
        [|For {second.last} it was the {rng.choice(ORDINALS[1:6])} defeat in a row.]""",
    )


def _results(rng: Random) -> str:
    """Report the yearly figures of a company; the change in percent fits them."""
    sector, suffix, product = rng.choice(SECTORS)
    boss = person(rng)
    company = f"{rng.choice((place(rng), person(rng).last))} {suffix}"
    old, percent, up = rng.randint(2, 90) * 10, rng.randrange(10, 60, 10), rng.random() < 0.6
    new = old + (old if up else -old) * percent // 100
    return fill(
        rng,
        f"""[Profit at {company} {"rose" if up else "fell"} by {percent} percent to {new} million last year,
        the {sector} said on {rng.choice(WEEKDAYS)}.
        |The {sector} {company} has reported a profit of {new} million,
        {percent} percent {"more" if up else "less"} than the year before.]
        [|A year earlier the company had earned {old} million.]
        {"[Demand|Strong orders|A growing market] for" if up else "[Weak demand|High costs|Lower prices] for"} {product}
        {"[drove sales|lifted sales|helped the firm]" if up else "[hurt sales|weighed on the firm]"}[| in {land(rng)}].
        [Chief executive {boss.name} said {boss.he} expected [a stable year|further growth|a hard spring|rising costs].
        |"[We are well prepared|The next year will be hard|Our customers trust us]," said {boss.name},
        who has led the company since {rng.randint(2004, 2023)}.]
        [Shares in {company} closed {rng.randint(2, 12)} percent {"higher" if up else "lower"}.
        |The company will {"[hire|add]" if up else "[cut|remove]"} {rng.randint(2, 40) * 50} jobs[| at its plant
        in {place(rng)}].]
        [|Analysts had [hoped for more|feared worse|expected a similar figure].]""",
    )


def _takeover(rng: Random) -> str:
    """Report that one company buys another."""
    (sector, suffix, _), (other_sector, other_suffix, _) = rng.sample(SECTORS, 2)
    town, other_town, seat = several(rng, place, 3)
    buyer, target = f"{town} {suffix}", f"{other_town} {other_suffix}"
    boss, founder = several(rng, person, 2)
    price = rng.randint(3, 95) * 10
    return fill(
        rng,
        f"""[{buyer} will buy {target} for {price} million, the two companies said on {rng.choice(WEEKDAYS)}.
        |The {sector} {buyer} has agreed to take over the {other_sector} {target} for {price} million.
        |{target} is to be sold to {buyer} in a deal worth {price} million.]
        [|{target}, based in {seat}, employs {rng.randint(3, 90) * 100:,} people.]
        {boss.name}, head of {buyer}, said the deal would
        [open new markets|save costs|bring both firms closer|secure jobs].
        [{founder.name} will remain in charge of {target}.
        |{founder.name}, who founded {target} in {rng.randint(1975, 2012)}, will give up {founder.his} post.
        |Unions in {seat} said they feared for the jobs at {target}.]
        [Regulators|Shareholders|The authorities] must [still agree|approve the plan|vote on the offer]
        by {rng.choice(MONTHS)}.
        [|{buyer} shares [gained|lost] {rng.randint(1, 9)} percent.]""",
    )


def _market(rng: Random) -> str:
    """Report a day on the stock exchange; the points add up."""
    town, country, banker = place(rng), land(rng), person(rng)
    start, move, up = rng.randint(20, 90) * 100, rng.randint(5, 95), rng.random() < 0.5
    end = start + move if up else start - move
    good, bad = (sector for sector, _, _ in rng.sample(SECTORS, 2))
    rising, falling = rng.sample(GOODS, 2)
    return fill(
        rng,
        f"""[Shares in {town} {"rose" if up else "fell"} on {rng.choice(WEEKDAYS[:5])}, with the main index
        {"gaining" if up else "losing"} {move} points to {end}.
        |The {town} stock exchange closed {"higher" if up else "lower"} on {rng.choice(WEEKDAYS[:5])},
        as the index went from {start} to {end} points.]
        [Traders|Investors|Dealers] {"[welcomed|were cheered by]" if up else "[were worried by|feared]"}
        [news about interest rates|figures on inflation|the budget|a report on jobs] [in|from] {country}.
        [|The best share of the day was that of {a(good)}; the worst was that of {a(bad)}.]
        The price of {rising} [rose|climbed|jumped] by {rng.randint(1, 9)}
        percent[|, and {falling} fell by {rng.randint(1, 9)} percent].
        [|The currency of {country} [was little changed|weakened|strengthened|lost half a percent].]
        "[The mood can change quickly|The market is nervous|Many are waiting|This was a calm day]," said
        {banker.name} of {person(rng).last} Bank[|, adding that {banker.he} remained [cautious|hopeful]].""",
    )


def _weather(rng: Random) -> str:
    """Forecast the weather of two days; nights are colder than days, and snow falls when it is cold."""
    here, there = rng.sample(REGIONS, 2)
    today = rng.randrange(7)
    low = rng.randint(-8, 16)
    high = low + rng.randint(4, 12)
    day, night = (f"{degrees} degree{'' if degrees == 1 else 's'}" for degrees in (high, low))
    wet, danger = ("snow", "[ice|black ice|snow]") if high < 3 else ("rain", "[fog|flooded roads|fallen branches]")
    return fill(
        rng,
        f"""[{WEEKDAYS[today]} will be [cloudy|dry|windy|mostly sunny|foggy at first] in {here},
        with [some|heavy|light] {wet} in {there}.
        |{cap(wet)} will reach {here} on {WEEKDAYS[today]}, while {there} will [stay dry|see some
        sunshine|remain cloudy].]
        Temperatures will [reach|rise to|climb to] {day} during the day and fall to {night} at night.
        The wind will be [light|moderate|fresh|strong|gusty][| and come from the [north|south|east|west]].
        [|In {place(rng)} up to {rng.randint(1, 9) * 5} millimetres of {wet} are expected.]
        [|Drivers [around {place(rng)}|in {here}] are warned of {danger}.]
        On {WEEKDAYS[(today + 1) % 7]} it will [turn|become|be] [warmer|colder|milder|brighter], with
        [a few showers|long sunny spells|thick cloud|clear skies] in [{here}|{there}].
        [|The outlook for the rest of the week [remains|is] [uncertain|friendly|unsettled|calm].]""",
    )


def _council(rng: Random) -> str:
    """Report a vote of a town council."""
    town = place(rng)
    mayor, critic = several(rng, person, 2)
    project, against = rng.choice(PROJECTS), rng.randint(3, 15)
    return fill(
        rng,
        f"""[The council of {town} has [voted for|approved|agreed on] {project}.
        |{town} will get its way: the council voted {against + rng.randint(1, 12)} to {against} for {project}.
        |After a long debate the {town} council decided on {rng.choice(WEEKDAYS)} to pay for {project}.]
        The [plan|project|work] will cost {rng.randint(2, 60)} million and [take|last]
        {count(rng.randint(2, 6), "year")}.
        [Mayor {mayor.name} [called it|spoke of] [a good day for the town|an important step|a fair compromise].
        |"[Our town needs this|We have waited long enough|This is money well spent]," said mayor {mayor.name}.]
        [{critic.name}, who voted against it, said {critic.he} [doubted the figures|feared higher taxes|wanted less].
        |{critic.name} of the opposition asked {mayor.last} [where the money would come from|
        why {mayor.he} had not asked the residents].
        |But {critic.name} told {mayor.last} that the town could not afford it.]
        [Work|Building] [will begin|is to start|starts] in {rng.choice(MONTHS)}.
        [|Residents of {town} can see the plans in the town hall[| until {rng.choice(WEEKDAYS)}].]""",
    )


def _traffic(rng: Random) -> str:
    """Report an accident on a road or a railway line."""
    start_town, end_town, origin = several(rng, place, 3)
    witness, hours, hurt = person(rng), rng.randint(2, 9), rng.randint(1, 8)
    way, start, role = rng.choice(
        (
            ("road", f"A [lorry|bus|van|tanker] left the road between {start_town} and {end_town}", "the driver"),
            (
                "line",
                f"A [goods train|fallen tree|broken signal] stopped all trains between {start_town} and {end_town}",
                "a passenger",
            ),
        )
    )
    return fill(
        rng,
        f"""{start} on {rng.choice(WEEKDAYS)}[| [morning|evening|night]].
        [Nobody was hurt.|No one was injured, the police said.|{cap(count(hurt, "person", "people"))}
        {"was" if hurt == 1 else "were"} [slightly|badly] hurt.]
        The {way} was closed for {count(hours, "hour")}.
        {witness.name} from {origin}, {role}, said {witness.he} had
        [seen nothing in the fog|heard a loud noise|waited for {count(rng.randint(2, hours), "hour")}|
        called {witness.his} [wife|brother|daughter]{"" if witness.he == "he" else " at once"}].
        [|The [damage|cost|loss] is [put|estimated] at {rng.randint(1, 40) * 10},000.]
        [|[Police|Engineers|Experts] [are looking for the cause|believe ice was the cause|have ruled out a fault].]
        [Traffic from {start_town} is now running normally again.
        |[Travellers|People] on the way to {end_town} should still allow more time.
        |The {way} to {end_town} was [cleared|opened] [at noon|after dark|an hour later].]""",
    )


def _exhibition(rng: Random) -> str:
    """Report that an exhibition opens."""
    works, maker, house = rng.choice(ARTS)
    artist, curator = several(rng, person, 2)
    town, start = place(rng), rng.randrange(11)
    return fill(
        rng,
        f"""[The {town} {house} is showing {rng.randint(20, 180)} {works} by {artist.name} from {rng.choice(WEEKDAYS)}.
        |An exhibition of {works} by the {maker} {artist.name} opens in {town} on {rng.choice(WEEKDAYS)}.]
        {artist.last}, who [grew up|was born|studied|lives] in {place(rng)},
        [is known for|became famous with|won a prize for] {artist.his}
        [early work|large formats|use of colour|quiet scenes|humour|sense of light].
        [Curator {curator.name} spent {count(rng.randint(2, 7), "year")} [collecting|choosing|preparing] the {works}.
        |"[Nobody has shown this before|These works belong together|You must see them up close]," said {curator.name},
        [the curator|director of the {house}].]
        [|[Many|Half|Most] of the {works} have never been shown in {land(rng)}.]
        The [show|exhibition] runs from {MONTHS[start]} to {rng.choice(MONTHS[start + 1 :])};
        [admission is free|tickets cost {rng.randint(4, 18)}|children pay nothing].
        [|{artist.last} [will talk about|has written a book on] {artist.his} work.]""",
    )


def _study(rng: Random) -> str:
    """Report the findings of a study."""
    subject, group, finding = rng.choice(STUDIES)
    town = place(rng)
    lead, other = several(rng, person, 2)
    return fill(
        rng,
        f"""[People {group} {finding}, according to a study of the University of {town}.
        |Researchers in {town} have found that people {group} {finding} than others.]
        The team [followed|observed|questioned] {rng.randint(3, 90) * 100:,} [adults|volunteers|men and women]
        for {count(rng.randint(2, 12), "year")}.
        "[The effect is small but clear|We did not expect this|The result surprised us]," said {lead.name},
        who led the study on {subject}.
        [|The effect was [strongest|weakest] in people [over|under] {rng.randrange(30, 75, 5)}.]
        [{other.name}, who did not take part, warned that
        [the cause is not known|other factors may matter|the groups were not equal].
        |{lead.last} now wants to repeat {lead.his} study with [children|students|twins|older people] in {land(rng)}.]
        [|It was paid for by the [health ministry|research council|{person(rng).last} Foundation].]""",
    )


def _crime(rng: Random) -> str:
    """Report a burglary and what the police know."""
    target, loot = rng.choice(LOOT)
    town, thieves = place(rng), NUMBERS[rng.randint(2, 5)]
    officer, witness = several(rng, person, 2)
    return fill(
        rng,
        f"""[{cap(thieves)} thieves broke into {target} in {town} on {rng.choice(WEEKDAYS)} night and took {loot}.
        |Police in {town} are searching for {thieves} men who stole {loot} from {target}.]
        {witness.name}, {rng.randint(18, 79)}, [who lives nearby|a neighbour|on {witness.his} way home],
        [heard glass breaking|saw a light|noticed a van] and called the police.
        When officers arrived {rng.randint(4, 25)} minutes later, the {thieves} had [already fled|gone|escaped]
        [in a grey car|on foot|by boat|on motorcycles].
        [|The owner put [the loss|the damage] at {rng.randint(3, 95)},000.]
        [Inspector {officer.name} said {officer.he} had [a first clue|no doubt they would be caught|seen nothing
        like it].
        |Inspector {officer.name} asked [witnesses|drivers|shopkeepers] to call {officer.his} office in {town}.]
        [|{witness.last} was [thanked|praised] for {witness.his} [quick call|courage].]""",
    )


def _festival(rng: Random) -> str:
    """Report how a fair went; the numbers of visitors can be compared."""
    town, organiser = place(rng), person(rng)
    more = rng.randint(1, 12) * 500
    foods = rng.sample(FOODS, 3)
    return fill(
        rng,
        f"""[The harvest fair|The street festival|The music festival|The book fair|The winter market] in {town}
        [drew|attracted|counted] {more + rng.randint(4, 60) * 500:,} visitors, {more:,} more than last year.
        For {count(rng.randint(2, 9), "day")} [guests|families|people] from {listed(several(rng, land, 2))}
        [enjoyed|tasted|bought] {listed(foods)}.
        [{organiser.name}, who has run it since {rng.randint(1995, 2021)}, said {organiser.he} was
        [delighted|tired but happy|already planning the next one].
        |"[Even the rain could not stop us|It was our best year|We need a bigger square]," said
        organiser {organiser.name}.]
        [|The [longest|first] queue was at the stall with {rng.choice(foods)}.]
        [It will take place again from {rng.randint(1, 14)} to {rng.randint(15, 28)} {rng.choice(MONTHS)}.
        |{town} has not yet decided on a date for next year.]
        [|Police reported [a calm weekend|few problems|three lost children, all found].]""",
    )


TOPICS: tuple[Callable[[Random], str], ...] = (
    _match,
    _race,
    _results,
    _takeover,
    _market,
    _weather,
    _council,
    _traffic,
    _exhibition,
    _study,
    _crime,
    _festival,
)
"""Functions that each write one type of report."""
