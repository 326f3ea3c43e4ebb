"""The study's page: for each part a picture, a short table, and the answer that its rows give."""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from bmrl.figures.conditions import plot_conditions
from bmrl.figures.identity_study import plot_decoding, plot_lines, plot_relabelling, plot_space
from bmrl.figures.style import number
from bmrl.reproduce.identity.setting import SETTLED
from bmrl.reproduce.markdown import table
from bmrl.reproduce.study import Row
from bmrl.statistics import FEW, iqm, verdict

FAR = 0.1  # m/s: twice the spacing of the 29 train velocities
STEPS = (1, 4, 16, 64)  # transitions after which the table tells the error of the decoded velocity

CLAIM = """# The identity

**The paper's claims.** A set network f infers from a few transitions which MDP they are of, and the policy that is
conditioned on it is zero-shot; f learns better from distillation than from the TD loss; heterogeneous batches help.

**What was done.** HalfCheetah, target velocities in m/s; the train velocities are .05, .1 ... 1.45. `default` is
the student of figure 3; `paper` has the paper's learners, contexts and f, and the preset of the rest, not the best of
eight as in figure 3. All others are *short* students ({short}), most with
smaller networks: weaker than `default`, and to be compared with the others of their section. Returns are means over
episodes, with the same starts for all methods of a table; numbers are interquartile means over the seeds, with the
lowest and the highest seed in brackets. Counts that the text gives are those of `--scale laptop`.
"""


def page(rows: list[Row], out: Path) -> str:
    """Draw every part that has rows, and its section."""
    sizes = groupby(sorted({(row["elements"], row["updates"]) for row in rows if "updates" in row}), lambda x: x[0])
    short = "; ".join(f"{' or '.join(f'{x:,}' for _, x in group)} updates of {n} elements" for n, group in sizes)
    parts = [CLAIM.format(short=short or "few updates")]
    for names, section in SECTIONS.items():
        if here := [row for row in rows if row["part"] in names]:
            parts += [*section(here, out), ""]
    return "\n".join(parts)


# ---------------------------------------------------------------------- numbers


def where(rows: Sequence[Row], **values: object) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in values.items())]


def by_seed(rows: Sequence[Row], what: str = "return_mean") -> dict[int, float]:
    """The mean over a seed's rows, by seed."""
    values: dict[int, list[float]] = {}
    for row in rows:
        if row[what] is not None:
            values.setdefault(row["seed"], []).append(row[what])
    return {seed: float(np.mean(x)) for seed, x in values.items()}


def told(values: dict[int, float], digits: int = 3) -> str:
    """ "-54 [-60, -50]": the interquartile mean over seeds, and their range; empty without seeds."""
    if not values:
        return ""
    text = number(float(iqm(list(values.values()))), digits)
    if len(values) > 1:
        text += f" [{number(min(values.values()), digits)}, {number(max(values.values()), digits)}]"
    return text


def change(one: dict[int, float], other: dict[int, float]) -> dict[int, float]:
    """one - other, for the seeds that both have."""
    return {seed: one[seed] - other[seed] for seed in one if seed in other}


def unique(rows: Sequence[Row], what: str) -> list:
    """A column's values, each once, in order."""
    return list(dict.fromkeys(row[what] for row in rows))


# ---------------------------------------------------------------------- sections


def _decode(rows: Sequence[Row], out: Path) -> list[str]:
    errors, space, tests = (where(rows, part=part) for part in ("decode", "space", "relabelling"))
    plot_decoding(where(errors, decoder="regression"), out / "decoding.png")
    plot_space(space, out / "identities.png")
    plot_relabelling(tests, out / "relabelling.png")
    lines = []
    last = min(len(row["error"]) for row in errors)
    steps = [step for step in (*STEPS, last) if step <= last]
    for variant in unique(errors, "variant"):
        for name in unique(where(errors, variant=variant), "decoder"):
            for split in unique(errors, "split"):
                own = where(errors, variant=variant, decoder=name, split=split)
                cells = [told(by_seed([{**row, "at": row["error"][t - 1]} for row in own], "at"), 2) for t in steps]
                lines.append([variant, name, split, *cells])
    identity = [
        [v, *(told(by_seed(where(tests, variant=v), x), 2) for x in ("identity_mean", "identity_worst", "action_mean"))]
        for v in unique(tests, "variant")
    ]
    return [
        "## What the identity says, and when",
        "",
        "The target velocity is decoded from the identity over the steps of an episode: by ridge regression fitted on "
        "contexts of the train MDPs, and for `default` also as the mean of the train velocities under the posterior. "
        "`default` has seen all transitions of the episode so far, `paper`, as in training, the latest one alone.",
        "",
        "![Error of the decoded velocity over an episode](decoding.png)",
        "",
        "Mean error in m/s after so many transitions:",
        "",
        table(["student", "decoder", "MDPs", *map(str, steps)], lines),
        "",
        "Does the identity follow the reward? Contexts of ten transitions (`paper` was trained with one) of one train "
        "MDP, paid as another pays: the share whose identity is nearest to the one that pays, and the share for which "
        "the first action is.",
        "",
        "![Share of relabelled contexts with the right identity](relabelling.png)",
        "",
        table(["student", "identity, all pairs", "identity, worst pair", "action, all pairs"], identity),
        "",
        "![Principal components of identities](identities.png)",
        "",
        f"**Answer.** {_decode_answer(errors, tests)}",
    ]


def _decode_answer(errors: Sequence[Row], tests: Sequence[Row]) -> str:
    told_ = []
    for variant in unique(errors, "variant"):
        own = where(errors, variant=variant, decoder="regression")
        settled = [{**row, "at": float(np.mean(row["error"][SETTLED:]))} for row in own]
        first = [{**row, "at": row["error"][0]} for row in own]
        text = f"`{variant}`: {told(by_seed(first, 'at'), 2)} m/s off after one transition, "
        text += f"{told(by_seed(settled, 'at'), 2)} on average after the first {SETTLED}"
        share = by_seed(where(tests, variant=variant), "identity_mean")
        told_.append(f"{text}; relabelled contexts are told right in a share of {told(share, 2)}")
    return ". ".join(told_) + "."


def _contexts(rows: Sequence[Row], out: Path) -> list[str]:
    def line(row: Row) -> str:
        return row["condition"] + (", bounded" if row["counted"] == "bounded" else "")

    rows = [{**row, "line": line(row)} for row in rows]
    points = [
        {"panel": "default, test velocities", "line": name, "x": size, "seed": seed, "value": value}
        for name in unique(rows, "line")
        if name != "no context"  # so far below that the others would look alike
        for size in unique(where(rows, line=name), "size")
        for seed, value in by_seed(where(rows, line=name, size=size)).items()
    ]
    plot_lines(points, out / "contexts.png", xlabel="transitions in the context", ylabel="return", log=True)
    sizes = [size for size in unique(rows, "size") if size is not None]
    lines = [
        [name, *(told(by_seed(where(rows, line=name, size=size))) for size in (*sizes, None))]
        for name in unique(rows, "line")
    ]
    bounded = {s: by_seed(where(rows, size=s, counted="bounded")) for s in sizes}
    counted = {s: by_seed([r for r in where(rows, size=s, counted="all") if r["condition"] in LOGS]) for s in sizes}
    gains = [f"{size}: {told(change(found, counted[size]))}" for size, found in bounded.items() if found]
    answer = "Contexts larger than any of training, counted as the largest of training instead of as many as they are, "
    answer += f"change the return by: {'; '.join(gains)}." if gains else "were not tested."
    best = max(
        ((name, told(x), float(iqm(list(x.values())))) for name, x in _by_line(rows).items()), key=lambda x: x[2]
    )
    return [
        "## Return against the size of the context at test",
        "",
        "The `default` student. *transitions* and *prefix*: the context stays the same for the whole episode, drawn "
        "from the log that SAC left at the same velocity, anywhere or from the start of an episode (which has 200 "
        "transitions at most). *own episode*: the latest so many transitions. *bounded*: counts as 16 transitions at "
        "most, the largest context of training; so does the policy, whose context is all of its episode "
        "(*own episode, bounded*). Without context the return is so low that the picture leaves it out.",
        "",
        "![Return against the size of the context](contexts.png)",
        "",
        table(["context", *map(str, sizes), "all, or none"], lines),
        "",
        f"**Answer.** The best is {best[0]}: {best[1]}. {answer}",
    ]


LOGS = ("transitions", "prefix")


def _by_line(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    found = {}
    for name in unique(rows, "line"):
        for size in unique(where(rows, line=name), "size"):
            label = name if size is None else f"{name}, {size} transition{'s' if size > 1 else ''}"
            found[label] = by_seed(where(rows, line=name, size=size))
    return {name: x for name, x in found.items() if x}


def _sweep(rows: Sequence[Row], out: Path) -> list[str]:
    rows = [{**row, "v": row["mdp"]["target_velocity"]} for row in rows]
    points = [
        {"panel": "default", "line": row["method"], "x": row["v"], "seed": row["seed"], "value": row["return_mean"]}
        for row in rows
    ]
    span = (0.05, 1.45)
    plot_lines(points, out / "sweep.png", xlabel="target velocity (m/s)", ylabel="return", span=span)
    regions = {
        "among the train velocities": [row for row in rows if span[0] < row["v"] < span[1]],
        "beyond": [row for row in rows if not span[0] < row["v"] < span[1]],
    }
    methods = unique(rows, "method")
    lines, answers = [], []
    for name, here in regions.items():
        lines.append([name, *(told(by_seed(where(here, method=method))) for method in methods)])
        above = {method: 0 for method in methods if method != "tiMe"}
        for v in unique(here, "v"):
            mean = {m: np.mean([row["return_mean"] for row in where(here, method=m, v=v)]) for m in methods}
            above = {method: count + int(mean["tiMe"] > mean[method]) for method, count in above.items()}
        text = " and ".join(f"above {method} at {count}" for method, count in above.items())
        answers.append(f"{name}, of {len(unique(here, 'v'))} velocities, tiMe is {text}")
    return [
        "## Velocities through the interval and beyond",
        "",
        "Halfway between train velocities (shaded: their range), and on beyond them.",
        "",
        "![Return over the target velocity](sweep.png)",
        "",
        table(["mean return", *methods], lines),
        "",
        f"**Answer.** {'; '.join(answers)[:1].upper()}{'; '.join(answers)[1:]}.",
    ]


def _counts(rows: Sequence[Row], out: Path) -> list[str]:
    names = {
        "longer virtual": "tiMe with virtual MDPs, longer",
        "longer": "tiMe, longer",
        "virtual": "tiMe with virtual MDPs",
        "base": "tiMe",
        "mean": "tiMe without posterior",
        "nearest": "nearest MDP",
    }
    rows = [{**row, "line": names[row["condition"]], "far": row["distance"] >= FAR} for row in rows]
    far = f"test and held out, {FAR} m/s or more away"
    groups = {split: where(rows, split=split) for split in unique(rows, "split")}
    groups[far] = [row for row in where(rows, far=True) if row["split"] != "validation"]
    points = [
        {"panel": label, "line": name, "x": k, "seed": seed, "value": value}
        for label, here in groups.items()
        for name in names.values()
        for k in unique(here, "k")
        for seed, value in by_seed(where(here, line=name, k=k)).items()
    ]
    plot_lines(points, out / "k.png", xlabel="K, train MDPs", ylabel="return", log=True)
    lines, answers = [], []
    for k in sorted(unique(rows, "k")):
        for label, group in groups.items():
            if not (here := where(group, k=k)):
                continue
            found = {name: by_seed(where(here, line=name)) for name in names.values()}
            distance = np.mean([row["distance"] for row in here])
            lines.append([str(k), label, number(distance, 2), *map(told, found.values())])
            if label == far:
                gains = {name: change(x, found["nearest MDP"]) for name, x in found.items() if "tiMe" in name and x}
                answers.append(f"K = {k}: {', '.join(_beside_nearest(name, gain) for name, gain in gains.items())}")
    return [
        "## How many train MDPs",
        "",
        "Short students of K evenly spread train MDPs (the first and the last among them), beside the nearest one's "
        "own learner. Choices were made on the validation velocities; those held out lie halfway between train "
        "velocities, and nothing was chosen on them, except that .575 m/s had a part in letting two MDPs propose, and "
        "that virtual MDPs were made because of those of seed 0 that are far from four train MDPs. Without posterior: "
        "f learns from the distillation alone and its output is the identity. Virtual MDPs: where K is below 16, so "
        "many more lie between the K as make 16. A learned model of the rewards pays the K's transitions as an MDP "
        "between two of them would; learners are taught on these logs as on the others. *longer*: the networks of "
        "`default`, and more updates.",
        "",
        "![Return against K](k.png)",
        "",
        table(["K", "MDPs", "mean distance", *names.values()], lines),
        "",
        f"**Answer.** Against the nearest MDP's learner, at test and held-out velocities that are {FAR} m/s or more "
        f"away from its own: {'; '.join(answers)}."
        if answers
        else "**Answer.** No velocity is far from its nearest train MDP.",
    ]


def _beside_nearest(name: str, gain: dict[int, float]) -> str:
    """ "tiMe is above on 3 of 3 seeds (9.1 [5.2, 12])"."""
    above = sum(value > 0 for value in gain.values())
    return f"{name} is above on {above} of {len(gain)} seed{'s' if len(gain) > 1 else ''} ({told(gain)})"


def _conditions(
    name: str, title: str, text: str, panels: dict[str, Callable[[Row], bool]], answer: Callable[[Sequence[Row]], str]
) -> Callable[[Sequence[Row], Path], list[str]]:
    """A section that compares short students: its picture's panels are the rows that a function picks."""

    def section(rows: Sequence[Row], out: Path) -> list[str]:
        conditions = unique(rows, "condition")
        found = {
            (panel, condition): by_seed([row for row in where(rows, condition=condition) if pick(row)])
            for panel, pick in panels.items()
            for condition in conditions
        }
        points = [
            {"panel": panel, "condition": condition, "seed": seed, "value": value}
            for (panel, condition), values in found.items()
            for seed, value in values.items()
        ]
        plot_conditions(points, out / f"{name}.png", "return")
        lines = [
            [
                condition,
                *(told(found[panel, condition]) for panel in panels),
                told(by_seed([row for row in where(rows, condition=condition) if "decoding" in row], "decoding"), 2),
            ]
            for condition in conditions
        ]
        return [
            f"## {title}",
            "",
            text,
            "",
            f"![{title}]({name}.png)",
            "",
            table(["", *panels, f"error of the decoded velocity after {SETTLED} steps (m/s)"], lines),
            "",
            f"**Answer.** {answer(rows)}",
        ]

    return section


OWN: dict[str, Callable[[Row], bool]] = {
    "test": lambda row: row["method"] == "tiMe" and row["split"] == "test",
    "validation": lambda row: row["method"] == "tiMe" and row["split"] == "validation",
}


def _against(rows: Sequence[Row], base: str) -> dict[str, dict[int, float]]:
    """What every other condition changes in the return of own episodes, by seed."""
    own = where(rows, method="tiMe")
    reference = by_seed(where(own, condition=base))
    found = {x: change(by_seed(where(own, condition=x)), reference) for x in unique(own, "condition") if x != base}
    return {x: gain for x, gain in found.items() if gain}


def _changes(rows: Sequence[Row], base: str) -> str:
    """Every condition's change of the return in own episodes, the largest loss first."""
    found = sorted(_against(rows, base).items(), key=lambda x: float(iqm(list(x[1].values()))))
    text = "; ".join(f"{condition}: {told(gain)}" for condition, gain in found) or "there is nothing to compare yet"
    seeds = max((len(gain) for _, gain in found), default=FEW)
    return text if seeds >= FEW else f"{text} (too few seeds to tell them from chance)"


def _td_answer(rows: Sequence[Row]) -> str:
    one, other = "distillation of Q_S", "TD error of Q_S"
    own = where(rows, method="tiMe")
    gain = change(by_seed(where(own, condition=one)), by_seed(where(own, condition=other)))
    error = change(by_seed(where(own, condition=one), "decoding"), by_seed(where(own, condition=other), "decoding"))
    if not gain:
        return "there is nothing to compare yet."
    by_return = verdict([x > 0 for x in gain.values()], len(gain))
    by_error = verdict([x < 0 for x in error.values()], len(error))
    return (
        f"By the return, **{by_return}**: f taught by distilling Q_S instead of by its TD error changes it by "
        f"{told(gain)}. By the error of the decoded velocity, **{by_error}**: {told(error, 2)} m/s."
    )


def _ablations(rows: Sequence[Row], out: Path) -> list[str]:
    lines = []
    titles = {"base": "Without parts of the method", "mean": "The same where f learns from the distillation alone"}
    for kind, title in titles.items():
        if here := where(rows, kind=kind):
            text = (
                "The default configuration: f's posterior also learns from the MDPs' labels."
                if kind == "base"
                else "No posterior: the identity is the mean of the transitions' outputs, G_S and xi_S get it too."
            )
            section = _conditions(
                f"ablations-{kind}",
                title,
                f"{text} Each row leaves one part out.",
                OWN,
                lambda own: f"Changes of the mean return over test and validation: {_changes(own, 'nothing')}.",
            )
            lines += [*section(here, out), ""]
    return lines


SECTIONS: dict[tuple[str, ...], Callable[[Sequence[Row], Path], list[str]]] = {
    ("decode", "space", "relabelling"): _decode,
    ("contexts",): _contexts,
    ("context training",): _conditions(
        "context-training",
        "How contexts are drawn in training",
        "Short students whose training contexts have sizes uniform in 0 ... the number given, drawn as random "
        "transitions, as prefixes of logged episodes or half of each; relabelled with the rewards that the MDP would "
        "have paid, or *as logged*. At test: contexts of their own episodes, or 16 random transitions of a log.",
        OWN | {"test, contexts of logs": lambda row: row["method"] == "tiMe from logs"},
        lambda rows: f"Changes of the mean return in own episodes, against mixed, 16: {_changes(rows, 'mixed, 16')}.",
    ),
    ("sweep",): _sweep,
    ("k",): _counts,
    ("batches",): _conditions(
        "batches",
        "Quality and amount of the batches",
        "Eight evenly spread train MDPs: learners taught anew, as long as those of the other parts, from the "
        "first third of each replay buffer, the last, a random one (whole episodes) or the whole, and, where learners "
        "share logs, from the best episodes of all eight such parts; and short students of theirs. *learners*: each in "
        "its own MDP.",
        {"learners": lambda row: row["method"] == "learners", **OWN},
        lambda rows: f"Changes of the students' mean return against the whole buffer: {_changes(rows, 'whole')}.",
    ),
    ("td",): _conditions(
        "td",
        "f trained by distillation or by the TD loss",
        "f has no posterior and no labels. *distillation*: as in the method, f learns from Q_S, G_S, xi_S and P. "
        "*distillation of Q_S*: from Q_S alone. *TD error of Q_S*: from Q_S alone, whose targets are not the learners' "
        "values but r + .99 max Q_S(s', a') of a slow copy, over ten actions a' of its own G_S and xi_S: BCQ's target, "
        "with one critic, and a copy that follows as much faster as the learners had more updates: both values reach "
        "as far. G_S and xi_S are distilled in all three, from the identity as it is.",
        OWN,
        _td_answer,
    ),
    ("ablations",): _ablations,
}
