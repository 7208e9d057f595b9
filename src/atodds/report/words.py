"""Findings said in words, made from the numbers; never canned."""

from collections.abc import Sequence
from itertools import groupby, pairwise

from atodds.analysis import Rate
from atodds.analysis.numbers import percent
from atodds.report.facts import Facts, ModelFacts, leads
from atodds.threat import Budget

MOST_NAMED = 4
"""With more models than these, a sentence names only the first and the last."""


class Name(str):
    """A piece of a sentence that names a model, which a page sets apart."""

    __slots__ = ()


Sentence = tuple[str, ...]
"""Pieces of text, some of them names. All of it is untrusted: whoever shows it escapes it."""


def plain(sentence: Sentence) -> str:
    """A sentence as plain text."""
    return "".join(sentence)


def answer(facts: Facts) -> tuple[Sentence, ...]:
    """What the run found, in one or two sentences, and one more on whether it can be believed."""
    if facts.key.value == 0 or not facts.attacks:
        return _clean(facts), trust(facts)
    if len(facts.models) == 1:
        return _one(facts), trust(facts)
    return _several(facts), order(facts), trust(facts)


def trust(facts: Facts) -> Sentence:
    """Whether the numbers can be believed, as far as the audit can say."""
    errors, warnings = facts.count("error"), facts.count("warning")
    tally = conjunction([text for text in (counted(errors, "error"), counted(warnings, "warning")) if text[0] != "0"])
    if errors:
        return (f"Do not use these numbers yet: the audit found {tally}.",)
    if warnings:
        return (f"Read the audit before you use these numbers: it found {tally}.",)
    return ("The evaluation can be believed: 0 warnings.",)


def order(facts: Facts) -> Sentence:
    """Who leads where, and between which budgets the order of the models flips.

    A model leads where its paired difference to the second leaves 0 out of its interval.
    """
    clear = [(model, budget) for budget, model in leads(facts) if model is not None]
    spans = [(model, [budget for _, budget in group]) for model, group in groupby(clear, key=lambda lead: lead[0])]
    if not spans:
        return ("No model is clearly ahead of the others at any ε, nor without an attack.",)
    if len(spans) == 1:
        model, span = spans[0]
        if len(span) == len(facts.budgets):
            return (Name(model.name), " leads at every ε, and without an attack too.")
        return ("Only ", Name(model.name), f" is clearly ahead anywhere: {_span(span)}.")
    pieces: list[str] = []
    for place, (model, span) in enumerate(spans):
        pieces += ["; " if place else "", Name(model.name), " leads ", _span(span)]
    flips = [f"between {_name(before[1][-1])} and {_name(after[1][0])}" for before, after in pairwise(spans)]
    return (*pieces, f": the order flips {conjunction(flips)}.")


def curve_title(facts: Facts) -> Sentence:
    """The finding of the chart of robust accuracy over ε."""
    best, worst, key = facts.models[0], facts.models[-1], facts.key
    if not facts.attacks:
        return ("Nothing was attacked: these are accuracies",)
    if key.value == 0:
        return ("No attack fooled any model on any image",)
    if best is worst:
        return (
            Name(best.name),
            f" falls from {share(best.accuracy)} without an attack to {share(best.at(key))} at {key}",
        )
    if best.at(key).value == worst.at(key).value:
        return (f"All {len(facts.models)} models keep {share(best.at(key))} at {key}",)
    many = ", the least" if len(facts.models) > 2 else ""
    ends = (" keeps ", share(best.at(key)), ", ", Name(worst.name), f" {share(worst.at(key))}{many}")
    return (f"At {key} ", Name(best.name), *ends)


def classes_title(facts: Facts) -> Sentence:
    """The finding of the class heatmaps: worst and best class of the model that keeps most."""
    model = facts.models[0]
    worst, best = extremes(model)
    at = widest(model)
    curves = model.classes.curves
    if not curves[best].rates[at].clears(curves[worst].rates[at]):
        return ("The intervals of the worst and the best class of ", Name(model.name), " overlap at every ε")
    low, high = (f"{model.classes.classes[place]} ({share(curves[place].rates[at])})" for place in (worst, best))
    return (Name(model.name), f" is weakest on {low} and strongest on {high} at {facts.budgets[at]}")


def extremes(model: ModelFacts) -> tuple[int, int]:
    """The places of the classes with the lowest and the highest robust accuracy, averaged over the budgets."""
    means = [curve.mean for curve in model.classes.curves]
    return means.index(min(means)), means.index(max(means))


def widest(model: ModelFacts) -> int:
    """The place of the budget at which those two classes lie furthest apart."""
    worst, best = (model.classes.curves[place].rates for place in extremes(model))
    return max(range(len(best)), key=lambda at: best[at].low - worst[at].high)


def attacks_title(facts: Facts) -> Sentence:
    """The finding of the chart of attacks: what came after the first one, and at which cost, at the largest budget."""
    found: dict[str, int] = {}
    spent: dict[str, int] = {}
    for model in facts.models:
        for attack in model.shares.attacks:
            found[attack.attack] = found.get(attack.attack, 0) + round(attack.added[-1].value * attack.added[-1].n)
            spent[attack.attack] = spent.get(attack.attack, 0) + attack.passes
    if not found:
        return ("Nothing was attacked",)
    if not sum(found.values()):
        return (f"{counted(len(found), 'attack')} fooled no image within {facts.budgets[-1]}",)
    first, *others = found
    if not others:
        return (f"{first} found all {counted(found[first], 'fooling image')}",)
    after = others[0] if len(others) == 1 else f"the {len(others)} attacks after it"
    more = sum(found[name] for name in others)
    took = f"{percent(sum(spent[name] for name in others) / max(1, sum(spent.values())), 0)} % of the passes"
    part = f"{percent(found[first] / sum(found.values()))} % of all fooling images"
    return (f"{first} found {part}; {after} took {took} for {more or 'no'} more",)


def conjunction(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *head, last = parts or [""]
    return f"{', '.join(head)} and {last}" if head else last


def counted(number: int, noun: str) -> str:
    """ "1 warning", "2 warnings"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def share(rate: Rate) -> str:
    """A rate without its interval, where the chart below shows it."""
    return f"{percent(rate.value)} %"


def _clean(facts: Facts) -> Sentence:
    """The accuracies, where nothing was attacked or nothing fooled."""
    pieces: list[str] = ["No attack fooled any model: " if facts.attacks else "Nothing was attacked: "]
    named = facts.models if len(facts.models) <= MOST_NAMED else (facts.models[0], facts.models[-1])
    for place, model in enumerate(named):
        joint = "" if place == 0 else " and " if place == len(named) - 1 else ", "
        pieces += [joint, Name(model.name), f" {model.accuracy}"]
    return (*pieces, f" of {counted(facts.n, 'image')} classified rightly.")


def _one(facts: Facts) -> Sentence:
    model, key, last = facts.models[0], facts.key, facts.budgets[-1]
    start = (Name(model.name), f" classifies {model.accuracy} of {counted(model.accuracy.n, 'image')} rightly")
    gone = next((budget for budget in facts.budgets if model.at(budget).value == 0), None)
    if model.accuracy.value == 0:
        return (*start, ".")
    if gone == key:
        return (*start, f", and none {_within(facts, key)}.")
    kept = (*start, f", and {model.at(key)} {_within(facts, key)}")
    if gone is not None:
        return (*kept, f"; from {gone} on it keeps none.")
    return (*kept, "." if last == key else f"; at {last} it keeps {model.at(last)}.")


def _several(facts: Facts) -> Sentence:
    key = facts.key
    first, *rest = facts.models
    start = (Name(first.name), f" keeps {_kept(first.at(key))} of {counted(facts.n, 'image')} {_within(facts, key)}")
    if len(facts.models) > MOST_NAMED:
        most = f", the most of {len(facts.models)} models; "
        return (*start, most, Name(rest[-1].name), f" keeps {_kept(rest[-1].at(key))}, the least.")
    pieces: list[str] = []
    for place, model in enumerate(rest):
        joint = ", where " if place == 0 else " and " if place == len(rest) - 1 else ", "
        pieces += [joint, Name(model.name), " keeps ", _kept(model.at(key))]
    return (*start, *pieces, ".")


def _within(facts: Facts, budget: Budget) -> str:
    if facts.unit.norm == "linf":
        return f"when every pixel may change by up to {budget}"
    return f"within {budget} in {facts.unit.symbol}"


def _span(span: Sequence[Budget]) -> str:
    first, last = span[0], span[-1]
    if first == last:
        return f"at {first}" if first.value else "without an attack"
    return f"from {first} to {last}" if first.value else f"without an attack and up to {last}"


def _name(budget: Budget) -> str:
    return budget.text if budget.value else "no attack"


def _kept(rate: Rate) -> str:
    return str(rate) if rate.value else "none"
