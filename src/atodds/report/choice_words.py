"""A choice said in words: which model, how surely, where the decision flips, and what would settle a close call."""

from atodds.analysis.choice import Amount, Choice, EpsFlip, Flip
from atodds.analysis.decision import Decision
from atodds.analysis.numbers import percent
from atodds.report.units import SYMBOLS
from atodds.report.words import Name, Sentence, conjunction, counted

MOST = 3
"""Flips that are said; the others stand in the table."""


def answer(decision: Decision) -> tuple[Sentence, ...]:
    """The choice in a few sentences, the most important first."""
    choice = decision.choice
    said = [_chosen(decision), _sure(decision), *_settled(decision)]
    if len(choice.options) > 1:
        said += [_flips(decision), *_eps_flips(decision)]
    return tuple(said)


def situation(decision: Decision) -> str:
    """The need in half a sentence: "if 10 % of the inputs are attacked at 4/255 in l∞"."""
    need = decision.choice.need
    low, high = need.attacked
    if high == 0:
        return "if nothing is attacked"
    share = f"{share_text(low)} %" if low == high else f"{share_text(low)} to {share_text(high)} %"
    if len(need.weights) == 1:
        at = f"at {need.budgets[0]}"
    elif len({round(weight, 9) for _, weight in need.weights}) == 1:
        at = f"at {conjunction([budget.text for budget in need.budgets])}, equally often,"
    else:
        at = f"at {conjunction([f'{budget} ({percent(weight, 0)} % of them)' for budget, weight in need.weights])}"
    return f"if {share} of the inputs are attacked {at} in {SYMBOLS[decision.candidates.seen.norm]}"


def share_text(share: float) -> str:
    """An attacked share in percent, as short as it was typed: 10, 2.5."""
    return f"{100 * share:.4g}"


def thousand(value: float) -> str:
    """A cost of one input as that of a thousand: of errors that cost 1 each, their number."""
    size = 1000 * value
    return f"{size:.1f}" if size < 100 else f"{size:,.0f}"


def amount(value: Amount) -> str:
    """The same with its interval: "312 (281–345)"."""
    return f"{thousand(value.value)} {interval(value)}"


def interval(value: Amount) -> str:
    """The interval alone: "(281–345)", and "(−3.1 to 12.0)" where an end is negative."""
    low, high = _signed(value.low), _signed(value.high)
    return f"({low} to {high})" if value.low < 0 else f"({low}–{high})"


def unit(choice: Choice) -> str:
    """What costs are: errors, or what errors cost."""
    return "errors" if not choice.need.costs else "cost of errors"


def crossing(flip: Flip) -> str:
    """Where a flip lies, with its interval: "23.4 % (18.0–29.1)"."""
    return f"{share_text(flip.share)} % ({_end(flip.low)}–{_end(flip.high)})"


def eps_crossing(decision: Decision, flip: EpsFlip) -> str:
    """Where a flip over ε lies: at a distance where all were searched for, else between two budgets."""
    largest = decision.choice.columns[-1].stop
    at = f"at {flip.eps}" if decision.candidates.anywhere else f"between {flip.last} and {flip.eps}"
    if flip.low == flip.high:
        return at
    known = {budget.value: budget.text for budget in decision.candidates.measured}
    low, high = (known.get(end, f"{end:.4g}") if end <= largest else f"beyond {largest:.4g}"
                 for end in (flip.low, flip.high))  # fmt: skip
    return f"{at} ({low} to {high})"


def _chosen(decision: Decision) -> Sentence:
    choice = decision.choice
    best = choice.best
    cost = amount(best.cost)
    does = f"its errors cost {cost} per 1,000 inputs" if choice.need.costs else f"it gets {cost} of 1,000 wrong"
    start = ("Choose ", Name(decision.name(best.model)), f": {situation(decision)}, {does}")
    if len(choice.options) == 1:
        return (*start, "; no other model meets the need." if choice.excluded else "; there is no other model.")
    second = choice.options[1]
    less = "less" if choice.need.costs else "fewer"
    return (*start, f", {amount(second.regret)} {less} than ", Name(decision.name(second.model)), ", the next.")


def _sure(decision: Decision) -> Sentence:
    choice = decision.choice
    images = counted(choice.n, "image")
    if len(choice.options) == 1:
        return (f"Its cost is over {images}.",)
    best, *others = choice.options
    of = counted(len(choice.options), "model")
    if not choice.close:
        return (f"It is the best of {of} in {percent(best.probability)} % of resamples of the {images}.",)
    rival = max(others, key=lambda option: option.probability)
    named = Name(decision.name(rival.model))
    start = f"That is a close call: in resamples of the {images} it is the best in {percent(best.probability)} %, "
    return (start, named, f" in {percent(rival.probability)} %.")


def _settled(decision: Decision) -> list[Sentence]:
    choice = decision.choice
    if not choice.settling:
        return []
    settling = choice.settling[0]
    rival, best = Name(decision.name(settling.rival)), Name(decision.name(choice.best.model))
    if settling.images is None:
        return [(best, " and ", rival, " cost exactly the same here: decide by something else than errors.")]
    where = "on the images themselves" if settling.where == "clean" else f"at {settling.where}"
    said = f" takes about {settling.images:,} images in place of {choice.n:,}, by the paired variance seen here"
    share = f", {percent(settling.share, 0)} % of which is {where}." if len(choice.need.weights) else "."
    return [("To tell ", best, " from ", rival, said + share)]


def _flips(decision: Decision) -> Sentence:
    flips = decision.choice.flips
    at = _at(decision)
    if not flips:
        return (f"No share of attacked inputs changes the choice{at}.",)
    pieces: list[str] = [f"Over the share of attacked inputs the choice flips{at}: "]
    for place, flip in enumerate(flips[:MOST]):
        pieces += [
            "; " if place else "", Name(decision.name(flip.before)), " up to ", crossing(flip), ", then ",
            Name(decision.name(flip.after)),
        ]  # fmt: skip
    return (*pieces, f"; and {len(flips) - MOST} more." if len(flips) > MOST else ".")


def _eps_flips(decision: Decision) -> list[Sentence]:
    """For a need of one budget the flips next to it, else the first ones."""
    choice = decision.choice
    if not choice.columns or choice.need.share == 0:
        return []
    share = share_text(choice.need.share)
    if not choice.eps_flips:
        return [(f"With {share} % attacked, no ε up to {choice.columns[-1].eps} changes it.",)]
    near = list(choice.eps_flips[:MOST])
    if len(choice.need.weights) == 1:
        asked = choice.need.budgets[0].value
        near = [f for f in choice.eps_flips if f.eps.value <= asked][-1:]
        near += [f for f in choice.eps_flips if f.eps.value > asked][:1]
    pieces: list[str] = [f"Over ε, with {share} % attacked, it flips "]
    for place, flip in enumerate(near):
        before, after = Name(decision.name(flip.before)), Name(decision.name(flip.after))
        pieces += [" and " if place else "", eps_crossing(decision, flip), " from ", before, " to ", after]
    more = len(choice.eps_flips) - len(near)
    return [(*pieces, f", and {counted(more, 'time')} further away." if more else ".")]


def _at(decision: Decision) -> str:
    budgets = decision.choice.need.budgets
    return f" at {conjunction([budget.text for budget in budgets])}" if budgets else ""


def _signed(value: float) -> str:
    return f"−{thousand(-value)}" if value < 0 else thousand(value)


def _end(share: float) -> str:
    """An end of a crossing's interval: a model may be ahead at every share in a resample."""
    return "never" if share > 1 else "0" if share <= 0 else f"{100 * share:.1f}"
