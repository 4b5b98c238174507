"""Do explanations find what was planted: on a simulated hospital whose truth is known.

    .venv/bin/python benchmarks/explanation_truth.py runs/demo [--hospital runs/demo-hospital] [--subjects N]

For every held-out subject: the exact Shapley values of the modalities against those of the best possible
reader, who knows the scenario and sees the same modalities (signs of all that matter, order of all pairs
that differ, and beside it of those that the truth sets far apart); the strongest cell of the film against
the planted opacity (pointing game, with the share of cells that meet it as chance); the planted lab value and
sentence among the three strongest of their modality, with what three at random would hold. Intervals:
Wilson, 95 %. Then the same with all weights of the model shuffled, ``--shuffles`` times: mean over the
shuffles, with its interval (Student's t, 95 %) and the range. With ``--shuffle-encoder`` the films' maps once
more with the image encoder's weights shuffled too (``random_film_encoder.py``): then nothing is left that
was learned, on these data or elsewhere.

Contributions are counted twice, each against the reader's own under the same rule: from no modality, and
from other patients. In `synergy` the rules disagree in sign for an opacity without inflammation: than
without a film the film lowers the risk, than in another patient it does not. Values below half a logit
are not called planted, because their sign hangs on the rule.

A finding is called found by the model where that modality alone moves its logit the way of the reader who
sees that alone. Which way it speaks beside the others is a question of the mix, so on the map a cell, a
sentence or a lab counts by the size of its score.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from random_film_encoder import FILMS, blinded, film_pixels, reread
from scipy.stats import t as student

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.config import load_pipeline
from clinimm.core.attribution import Place
from clinimm.core.record import digest_file
from clinimm.corpus import Corpus
from clinimm.evaluate.metrics import wilson
from clinimm.explain.attribute import attribute
from clinimm.explain.baselines import BASELINES
from clinimm.explain.contribution import contributions, contributions_against, shapley
from clinimm.explain.localise import localise
from clinimm.explain.methods import METHODS
from clinimm.explain.problem import Setting
from clinimm.explain.randomise import randomise
from clinimm.explain.select import explained_class
from clinimm.explain.subject import Explainer
from clinimm.explain.training import with_training
from clinimm.model import FusionModel
from clinimm.nn.tokens import Batch
from clinimm.simulate.scenario import SCENARIOS, Scenario

#: Modality -> the hidden factor that it shows, and the optional input that must be there for it.
SHOWS: dict[str, tuple[str, str | None]] = {
    "radiology": ("lesion", None),
    "ehr": ("inflamed", "crp"),
    "notes": ("distress", "note"),
    "pathology": ("dense", "slide"),
}
#: Planted values below this are nothing, and values nearer than the second are no order, in logits.
_NOTHING, _TIE = 0.5, 0.5
#: Pairs of modalities that the truth sets this far apart, in logits, are counted on their own as well.
_FAR = 2.0
_TOP = 3
#: Training subjects that contributions are counted from.
_REFERENCES = 64


#: What can be asked for: the modality mix, and the maps.
PARTS = ("mix", "maps")


@dataclass(frozen=True)
class Top:
    """Whether something planted is among the three strongest, the chance of that, and ``Found.seen``."""

    hit: bool
    chance: float
    seen: bool


@dataclass(frozen=True)
class Pointing:
    """How the film's map lies on the opacity, and ``Found.seen``."""

    hit: bool
    chance: float
    mass: float
    size: str
    seen: bool


@dataclass(frozen=True)
class Mix:
    """Whether all contributions that matter have the planted sign, and all pairs the planted order.

    Attributes:
        signs: of contributions of at least ``_NOTHING`` in the truth; None where there is none.
        order: of pairs that the truth sets at least ``_TIE`` apart; None where there is none.
        order_far: of those that it sets at least ``_FAR`` apart.
    """

    signs: bool | None = None
    order: bool | None = None
    order_far: bool | None = None


@dataclass(frozen=True)
class Found:
    """What one subject's explanation found; None where there was nothing to find.

    Attributes:
        mix, mix_against: whether the modalities' contributions have the planted signs and order, counted
            from no modality and from other patients.
        film, lab, sentence: whether the map shows what was planted; ``seen`` of each says whether the
            model found it: the modality alone moves the logit as it should.
    """

    mix: Mix
    mix_against: Mix
    film: Pointing | None
    lab: Top | None
    sentence: Top | None


@dataclass(frozen=True)
class Looker:
    """What explanations of one fit need: how to explain, the fit, and reference subjects."""

    explainer: Explainer
    model: FusionModel
    references: Batch


def planted_worth(
    scenario: Scenario, patient: Mapping[str, Any], names: Sequence[str], against: bool = False
) -> np.ndarray:
    """(coalition,) the logit of the reader who knows the scenario and sees these modalities.

    Args:
        against: what is outside a coalition shows another patient's factors, each a fair coin, instead
            of nothing. Two modalities that contradict each other on a factor tell nothing of it.
    """
    copies, shown = dict(scenario.copies), {}
    for bit, name in enumerate(names):
        factor, needs = SHOWS[name]
        if needs is None or patient["present"][needs]:
            shown[bit] = copies.get(factor, factor)
    factors = sorted(set(shown.values()))
    others = product((False, True), repeat=len(factors)) if against else [()]
    worth = [
        [_best_logit(scenario, _known(shown, coalition, patient["factors"], other)) for other in draws]
        for draws in [[dict(zip(factors, bits, strict=against)) for bits in others]]
        for coalition in range(2 ** len(names))
    ]
    return np.array(worth).mean(axis=1)


def _known(
    shown: Mapping[int, str], coalition: int, own: Mapping[str, bool], other: Mapping[str, bool]
) -> dict[str, bool]:
    says: dict[str, set[bool]] = defaultdict(set)
    for bit, factor in shown.items():
        inside = bool(coalition >> bit & 1)
        if inside or factor in other:
            says[factor].add(own[factor] if inside else other[factor])
    return {factor: values.copy().pop() for factor, values in says.items() if len(values) == 1}


def _best_logit(scenario: Scenario, known: Mapping[str, bool]) -> float:
    """Log odds given some factors, every other one a fair coin; a copy tells its original."""
    known = dict(known) | {original: known[copy] for copy, original in scenario.copies if copy in known}
    copies = dict(scenario.copies)
    free = [name for name in ("lesion", "inflamed", "distress", "dense", "woman") if name not in copies]
    drawn = [name for name in free if name not in known]
    chances = []
    for bits in product((False, True), repeat=len(drawn)):
        kind = (
            {"sick": False, "late": False, "main_site": False} | known | dict(zip(drawn, bits, strict=True))
        )
        kind |= {copy: kind[original] for copy, original in scenario.copies}
        chances.append(scenario.probability(kind))
    chance = float(np.mean(chances))
    return math.log(chance / (1 - chance))


def patients_of(run: Path, hospital: Path) -> dict[str, dict[str, Any]]:
    """Subject -> its patient in the truth, by the digest of the index film."""
    truth = json.loads((hospital / "truth.json").read_text(encoding="utf-8"))["patients"]
    films = {
        digest_file(hospital / film["file"]): (patient, film)
        for patient in truth.values()
        for film in patient["films"]
    }
    rows = pd.read_parquet(run / "encode" / "radiology" / "tokens.parquet", columns=["subject_id", "digest"])
    found: dict[str, dict[str, Any]] = {}
    for subject, digest in rows.drop_duplicates().itertuples(index=False):
        if digest in films:
            patient, film = films[digest]
            known = found.setdefault(str(subject), dict(patient) | {"seen": {}})
            known["seen"][digest] = film
    return found


def look(
    looker: Looker, target: int, subject: str, patient: Mapping[str, Any], parts: Sequence[str] = PARTS
) -> Found:
    """Explain one subject and compare with what was planted."""
    explainer, model = looker.explainer, looker.model
    batch, setting = explainer.batch(model, [subject])
    found = contributions(model, batch, target)
    planted = planted_worth(SCENARIOS[patient["scenario"]], patient, found.names)
    seen = {
        name: bool(np.sign(own[1 << bit] - own[0]) == np.sign(planted[1 << bit] - planted[0]))
        for bit, name in enumerate(found.names)
        for own in [found.worth[0]]
    }
    result = Found(_mix(found.values[0], shapley(planted[None])[0][0]), Mix(), None, None, None)
    if "mix" in parts:
        result = replace(result, mix_against=_against(looker, target, batch, patient))
    if "maps" not in parts:
        return result
    maps = attribute(model, batch, target, explainer.method, setting.steps, setting)
    places = explainer.places(model, subject)
    scores = {name: one[0] for name, one in maps.scores.items()}
    labs = [f"{lab['code']} = {lab['usual_value']:g} {lab['usual_unit']}" for lab in patient["labs"]]
    spans = [span for note in patient["notes"] for span in note["spans"] if span["factor"] == "distress"]
    return replace(
        result,
        film=_film(scores, places, seen, patient),
        lab=_top(scores, places, seen, "ehr", labs),
        sentence=_top(scores, places, seen, "notes", [span["text"] for span in spans]),
    )


def _against(looker: Looker, target: int, batch: Batch, patient: Mapping[str, Any]) -> Mix:
    """The mix counted from other patients."""
    found = contributions_against(looker.model, batch, target, looker.references)
    planted = planted_worth(SCENARIOS[patient["scenario"]], patient, found.names, against=True)
    return _mix(found.values[0], shapley(planted[None])[0][0])


def _mix(found: np.ndarray, planted: np.ndarray) -> Mix:
    real = np.abs(planted) >= _NOTHING
    signs = bool((np.sign(found) == np.sign(planted))[real].all()) if real.any() else None
    return Mix(signs, _ordered(found, planted, _TIE), _ordered(found, planted, _FAR))


def _ordered(found: np.ndarray, planted: np.ndarray, margin: float) -> bool | None:
    apart = planted[:, None] - planted >= margin
    return bool(((found[:, None] - found)[apart] > 0).all()) if apart.any() else None


def _film(
    scores: Mapping[str, np.ndarray],
    places: Mapping[str, Sequence[Place]],
    seen: Mapping[str, bool],
    patient: Mapping[str, Any],
) -> Pointing | None:
    """The first film with an opacity; the model's map is read by the size of its scores."""
    for digest, film in patient["seen"].items():
        here = [i for i, place in enumerate(places.get("radiology", ())) if place.digest == digest]
        if film["lesions"] and here:
            cells = np.array([places["radiology"][i].box for i in here])
            truth = np.array([lesion["box"] for lesion in film["lesions"]], dtype=float)
            found = localise(np.abs(scores["radiology"][here]), cells, truth)
            return Pointing(found.hit, found.hit_by_chance, found.mass_inside, found.size, seen["radiology"])
    return None


def _top(
    scores: Mapping[str, np.ndarray],
    places: Mapping[str, Sequence[Place]],
    seen: Mapping[str, bool],
    name: str,
    planted: Sequence[str],
) -> Top | None:
    """Whether a planted text is one of the strongest, where the modality shows it among enough others."""
    known = places.get(name, ())
    says = np.isin([place.text for place in known], list(planted))
    if len(known) <= _TOP or not says.any():
        return None
    strongest = np.argsort(-np.abs(scores[name][: len(known)]))[:_TOP]
    none_by_chance = math.comb(int((~says).sum()), _TOP) / math.comb(len(says), _TOP)
    return Top(bool(says[strongest].any()), 1 - none_by_chance, seen[name])


@dataclass(frozen=True)
class Share:
    """One row of the table for one model.

    Attributes:
        words: what is counted.
        known: whether it was found, a subject that has it.
        chance: what chance would give, a subject; empty where that is not known.
    """

    words: str
    known: list[bool]
    chance: list[float]


def shares_of(found: Sequence[Found]) -> list[Share]:
    """Every row, in the same order for every model."""
    rows = []
    for mix, rule in (("mix", "from no modality"), ("mix_against", "from other patients")):
        for field, words in (
            ("signs", "signs of the mix"),
            ("order", "order of the mix"),
            ("order_far", f"order of those at least {_FAR:g} logits apart"),
        ):
            known = [x for one in found if (x := getattr(getattr(one, mix), field)) is not None]
            rows.append(Share(f"{words}, {rule}", known, []))
    parts = {
        "film": "strongest cell meets the opacity",
        "lab": "planted lab in the top three",
        "sentence": "planted sentence in the top three",
    }
    for field, words in parts.items():
        tops = [x for one in found if (x := getattr(one, field)) is not None]
        told = [one for one in tops if one.seen]
        rows.append(Share(words, [one.hit for one in tops], [one.chance for one in tops]))
        told_words = f"{words}, found by the model"
        rows.append(Share(told_words, [one.hit for one in told], [one.chance for one in told]))
    films = [one.film for one in found if one.film is not None]
    for size in sorted({one.size for one in films}):
        of_size = [one for one in films if one.size == size]
        words = f"strongest cell meets the opacity, {size}"
        rows.append(Share(words, [one.hit for one in of_size], [one.chance for one in of_size]))
    return rows


def rows_of(found: Sequence[Found], title: str) -> Iterator[str]:
    """Lines of the table for one model: share of subjects with its interval, and what chance would give."""
    for row in shares_of(found):
        if not row.known:
            yield f"| {title} | {row.words} | – | | 0 |"
            continue
        low, high = wilson(sum(row.known), len(row.known), 0.95)
        share = f"{np.mean(row.known):.1%} ({low:.0%} to {high:.0%})"
        yield f"| {title} | {row.words} | {share} | {_chance(row)} | {len(row.known)} |"
    if films := [one.film for one in found if one.film is not None]:
        mass = float(np.mean([one.mass for one in films]))
        yield f"| {title} | share of the map's size on the opacity | {mass:.1%} | | {len(films)} |"


def rows_of_shuffles(shuffles: Sequence[Sequence[Found]], title: str) -> Iterator[str]:
    """The same for several shuffled models: mean over them, its interval and the range."""
    for rows in zip(*map(shares_of, shuffles), strict=True):
        values = [float(np.mean(row.known)) for row in rows if row.known]
        if values:
            many = [len(row.known) for row in rows if row.known]
            people = f"{min(many)} to {max(many)}" if min(many) < max(many) else str(many[0])
            of = f"{len(values)} shuffles of {people}"
            yield f"| {title} | {rows[0].words} | {over_shuffles(values)} | {_chance(rows[0])} | {of} |"


def rows_of_blind(shuffles: Sequence[Sequence[Pointing]]) -> Iterator[str]:
    """The pointing game of models whose image encoder is shuffled too."""
    known = [films for films in shuffles if films]
    if known:
        row = Share("strongest cell meets the opacity", [], [one.chance for one in known[0]])
        values = [float(np.mean([one.hit for one in films])) for films in known]
        of = f"{len(known)} shuffles of {len(known[0])}"
        title = "weights and image encoder shuffled"
        yield f"| {title} | {row.words} | {over_shuffles(values)} | {_chance(row)} | {of} |"


def over_shuffles(values: Sequence[float]) -> str:
    """Mean, its interval over shuffles (Student's t, 95 %), and the range."""
    words = f"{np.mean(values):.1%}"
    if len(values) > 1:
        half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
        words += f" ({np.mean(values) - half:.0%} to {np.mean(values) + half:.0%}; "
        words += f"single ones {min(values):.0%} to {max(values):.0%})"
    return words


def _chance(row: Share) -> str:
    return f"{np.mean(row.chance):.1%}" if row.chance else ""


def _looker(explainer: Explainer, model: FusionModel, training: Sequence[str]) -> Looker:
    """The explainer with what it needs of training subjects, and those of them who have every modality."""
    corpus, random = explainer.corpus, np.random.default_rng(0)
    drawn = [str(one) for one in random.permutation(list(training))]
    having = {one: set(corpus.modalities_of(one)) & set(model.modalities) for one in drawn}
    whole = [one for one in drawn if having[one] == set().union(*having.values())]
    references = corpus.batch(whole[:_REFERENCES], model.statistics)
    setting = with_training(explainer, model, training, 0)
    return Looker(replace(explainer, setting=setting), model, references)


def _blind(
    explainer: Explainer,
    model: FusionModel,
    hospital: Path,
    subjects: Sequence[str],
    patients: Mapping[str, Mapping[str, Any]],
    shuffles: int,
) -> Iterator[list[Pointing]]:
    """Where the films' maps point when the image encoder's weights are shuffled too."""
    corpus = explainer.corpus
    having = [one for one in subjects if FILMS in corpus.modalities_of(one)]
    digests = {one: set(corpus.rows(one, FILMS)["digest"].astype(str)) for one in having}
    files = sorted(hospital.joinpath("dicom").rglob("*.dcm"))
    films = film_pixels(model, files, set().union(*digests.values()))
    readable = [one for one in having if digests[one] <= set(films)]
    for seed in range(shuffles):
        shuffled, tokens = blinded(model, films, seed)
        found = []
        for subject in readable:
            batch, setting = explainer.batch(shuffled, [subject])
            batch = reread(explainer, batch, subject, tokens)
            maps = attribute(shuffled, batch, 0, explainer.method, setting.steps, setting)
            scores = {name: one[0] for name, one in maps.scores.items()}
            seen = dict.fromkeys(scores, True)
            found.append(_film(scores, explainer.places(shuffled, subject), seen, patients[subject]))
        yield [one for one in found if one is not None]


def _fits(run: Path, source: Path, split: str, cohort: pd.DataFrame) -> Iterator[tuple[Path, list[str]]]:
    """Folder of each fit, and the subjects that are asked for: of its own run those that it held out."""
    if source != run or split != "held_out":
        yield source / "train" / "model", sorted(map(str, cohort.loc[cohort["split"] == split, "subject_id"]))
        return
    targets = explained_class(pd.read_parquet(run / "predict" / "predictions.parquet"))
    for fold, group in targets.groupby("fold", sort=True):
        folder = run / "train" / "fits" / f"r0-f{fold}"
        subjects = sorted(map(str, group["subject_id"]))
        yield (folder if folder.is_dir() else run / "train" / "model"), subjects


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--hospital", type=Path, default=Path("runs/demo-hospital"))
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--method", default="integrated_gradients", choices=list(METHODS))
    parser.add_argument("--baseline", choices=list(BASELINES))
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--split", default="held_out", choices=["held_out", "tuning"])
    parser.add_argument("--shuffles", type=int, default=10)
    parser.add_argument("--shuffled-subjects", type=int, default=60, help="of these, for each shuffle")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--shuffle-encoder", action="store_true", help="shuffle the films' encoder too")
    parser.add_argument("--only-shuffles", action="store_true", help="leave out the trained model")
    parser.add_argument("--model", type=Path, help="another run, whose model is explained on these subjects")
    return parser.parse_args()


def main() -> int:
    """Print the table."""
    options = _options()
    if not (options.hospital / "truth.json").is_file():
        print(f"skipped: {options.hospital} holds no truth; `make demo` makes runs/demo-hospital.")
        return 0
    if not (options.run / "predict" / "predictions.parquet").is_file():
        print(f"skipped: {options.run} holds no finished run; `make demo` makes runs/demo.")
        return 0
    torch.set_num_threads(1)
    config = load_pipeline(options.run / "pipeline.yaml")
    corpus = Corpus.load(options.run / "encode", config.plugins)
    setting = Setting(options.baseline, options.steps)
    explainer = Explainer(corpus, config.plugins, options.method, setting, ExplanationPolicy())
    scenario = json.loads((options.hospital / "truth.json").read_text(encoding="utf-8"))["scenario"]
    patients = patients_of(options.run, options.hospital)
    for patient in patients.values():
        patient["scenario"] = scenario
    cohort = pd.read_parquet(options.run / "cohort" / "cohort.parquet")
    training = [str(one) for one in cohort.loc[cohort["split"] == "train", "subject_id"]]
    source = options.model or options.run
    trained: list[Found] = []
    shuffles: list[list[Found]] = [[] for _ in range(options.shuffles)]
    blind: list[list[Pointing]] = [[] for _ in range(options.shuffles)]
    for folder, held_out in _fits(options.run, source, options.split, cohort):
        model = FusionModel.from_pretrained(folder)
        subjects = [one for one in held_out if one in patients][: options.subjects]
        looker = _looker(explainer, model, training)
        trained += [
            look(looker, 0, one, patients[one], options.parts)
            for one in ([] if options.only_shuffles else subjects)
        ]
        some = subjects[: options.shuffled_subjects]
        for seed, found in enumerate(shuffles):
            *_, (_, shuffled) = randomise(model, seed)
            assert isinstance(shuffled, FusionModel)
            looker = _looker(explainer, shuffled, training)
            found += [look(looker, 0, one, patients[one], options.parts) for one in some]
        if options.shuffle_encoder and FILMS in model.modalities:
            seen = _blind(explainer, model, options.hospital, some, patients, len(blind))
            blind = [known + more for known, more in zip(blind, seen, strict=True)]
    print(
        f"{options.run}, scenario {scenario}: {len(trained)} subjects ({options.split}), "
        f"model of {source}, {options.method} from {options.baseline or 'its usual baseline'}\n"
    )
    print("| model | found | share (95 %) | chance | n |\n" + "|---" * 5 + "|")
    for row in rows_of(trained, "trained") if trained else ():
        print(row)
    for row in rows_of_shuffles(shuffles, "weights shuffled"):
        print(row)
    for row in rows_of_blind(blind):
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
