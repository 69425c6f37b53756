"""Questions about icons, and texts about what they show. Only what a picture shows beyond doubt is asked: whether an
icon is filled, only where its set has it both ways and they look different; a sign, only where a clean pair has it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from arm.icons.conversations import (
    COLOURS,
    POINTING,
    SPOKEN_BADGES,
    Draft,
    Picture,
    Writer,
    choose,
    is_emoji,
    pairs_of_kind,
    with_article,
)
from arm.icons.names import BADGES, parse_name

SINGLE_DIRECTIONS = frozenset({"left", "right", "up", "down"})


def question_drafts(writer: Writer) -> Iterator[Draft]:
    """Every question that the split's icons can answer."""
    corpus, rng = writer.corpus, writer.rng

    def ask(kind: str, picture: Picture, question: str, answer: str) -> Draft:
        return writer.draft(f"ask.{kind}", picture[0], (picture, question), (answer,))

    for i in writer.numbers():
        name = corpus.names[i]
        if corpus.named[i] and not corpus.duplicate[i] and not is_emoji(corpus, i):
            question = choose(rng, ("what is it?", "what does the icon show?", "name this icon"))
            yield ask("what", (i, ""), question, name.phrase)
        if not corpus.is_colour(i) and rng.random() < 0.15:
            colour = choose(rng, ("black", *COLOURS))
            question = choose(rng, ("what color is it?", "which color has the icon?"))
            yield ask("colour", (i, "" if colour == "black" else colour), question, colour)
    for number, answers in _visible_facts(writer).items():
        for kind, answer in sorted(answers):
            picture = (number, "")
            if kind == "fill":
                question = choose(rng, ("is it outlined or filled?", "filled or outlined?"))
                yield ask(kind, picture, question, answer)
            elif kind == "struck":
                question = choose(rng, ("is it struck through?", "is it crossed out?"))
                yield ask(kind, picture, question, answer)
            elif kind == "enclosure":
                question = choose(rng, ("what is around it?", "which shape encloses it?"))
                yield ask(kind, picture, question, answer)
            elif kind == "direction":
                question = choose(rng, ("which way does it point?", "where does it point?"))
                yield ask(kind, picture, question, answer)
            elif kind == "badge":
                spoken = SPOKEN_BADGES.get(answer, answer)
                question = choose(rng, ("which sign does it have?", "what was added to it?"))
                yield ask(kind, picture, question, spoken)
                yield ask("badge-yes-no", picture, f"has it {with_article(spoken)}?", "yes")
                other = choose(rng, sorted(set(BADGES.values()) - {answer}))
                wrong = SPOKEN_BADGES.get(other, other)
                if rng.random() < 0.4:
                    yield ask("badge-yes-no", picture, f"has it {with_article(wrong)}?", "no")
            elif kind == "no badge":
                spoken = SPOKEN_BADGES.get(answer, answer)
                if rng.random() < 0.6:
                    yield ask("badge-yes-no", picture, f"has it {with_article(spoken)}?", "no")


def _visible_facts(writer: Writer) -> dict[int, set[tuple[str, str]]]:
    """By icon of the split, what clean pairs prove that its picture shows: (kind of question, answer)."""
    corpus = writer.corpus
    facts: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for pair in pairs_of_kind(corpus, "fill"):
        facts[pair.source].add(("fill", "outlined"))
        facts[pair.target].add(("fill", "filled"))
    for pair in pairs_of_kind(corpus, "strike"):
        facts[pair.source].add(("struck", "no"))
        facts[pair.target].add(("struck", "yes"))
    for pair in pairs_of_kind(corpus, "badge"):
        if not corpus.names[pair.source].badges:
            facts[pair.source].add(("no badge", pair.step[1]))
            facts[pair.target].add(("badge", pair.step[1]))
    for pair in pairs_of_kind(corpus, "enclose"):
        facts[pair.target].add(("enclosure", pair.step[1]))
    for pair in pairs_of_kind(corpus, "direction"):
        for number in (pair.source, pair.target):
            name = corpus.names[number]
            single = len(name.direction) == 1 and name.direction[0] in SINGLE_DIRECTIONS
            if single and name.content[0] in POINTING and len(name.content) == 1:
                facts[number].add(("direction", name.direction[0]))
    return {n: answers for n, answers in sorted(facts.items()) if writer.member[n]}


def synonyms_of(writer: Writer) -> dict[str, str]:
    """Other name -> content, where a set has one icon under both names and no icon's content is the other name."""
    corpus = writer.corpus
    contents = {name.phrase for name in corpus.names}
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for prefix, aliases in corpus.aliases.items():
        for other, name in aliases.items():
            a, b = parse_name(prefix, other), parse_name(prefix, name)
            if a.concept()[1:] == b.concept()[1:] and a.phrase not in contents:
                votes[a.phrase][b.phrase] += 1
    named = {n.phrase for n, named in zip(corpus.names, corpus.named, strict=True) if named}
    found = {}
    for other, counts in sorted(votes.items()):
        content, count = counts.most_common(1)[0]
        words_differ = not set(other.split()) & set(content.split())
        if words_differ and content in named and 2 * count > counts.total() and len(other) > 2:
            found[other] = content
    return found


def categories_of(writer: Writer) -> dict[str, str]:
    """Content -> the category that most sets give it, where at least two icons have it."""
    corpus = writer.corpus
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for set_name, spelled, name, named in zip(
        corpus.set_of, corpus.spelled, corpus.names, corpus.named, strict=True
    ):
        if named:
            for category in corpus.categories[set_name].get(spelled, ()):
                votes[name.phrase][category] += 1
    best = {phrase: counts.most_common(1)[0] for phrase, counts in sorted(votes.items())}
    return {phrase: category for phrase, (category, count) in best.items() if count >= 2}


def text_drafts(writer: Writer) -> Iterator[Draft]:
    """Synonyms and categories in words, for training; drawings by a synonym that training never draws.

    A model that has read "a bin is a trash" can be asked to draw a bin: dev and test do.
    """
    corpus, rng = writer.corpus, writer.rng
    synonyms = synonyms_of(writer)
    if writer.split == "train":
        for other, content in synonyms.items():
            for asked, answer in (
                (f"what is another word for {other}?", content),
                (f"what does an icon of {other} show?", content),
            ):
                yield Draft("text.synonym", ((asked,), (answer,)), "", f"{other}/", "")
            document = f"an icon of {other} shows {content}"
            yield Draft("text.synonym", ((document,),), "", f"{other}/", "")
        for content, category in categories_of(writer).items():
            asked = choose(rng, ("to what belongs {}?", "in which category is {}?"))
            turns = ((asked.format(content),), (category,))
            yield Draft("text.category", turns, "", f"{content}/", "")
        return
    others: dict[str, list[str]] = defaultdict(list)
    for other, content in synonyms.items():
        others[content].append(other)
    for i in writer.numbers():
        name = corpus.names[i]
        plain = not (name.badges or name.struck or name.direction or name.variant or name.count)
        if plain and corpus.named[i] and name.phrase in others and not name.enclosure:
            other = choose(rng, others[name.phrase])
            yield writer.draft("draw.synonym", i, (f"icon of {other}",), ((i, ""),))
