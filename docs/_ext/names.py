"""What is public: each name with its home, its family and its first sentence."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jaxloss

PACKAGE = Path(jaxloss.__file__).parent
SUBMODULES = ("prox", "plotting", "testing")


@dataclass(frozen=True)
class Family:
    """A group of names that share a page.

    Attributes:
        slug: The name of its page.
        title: Its heading.
        lead: One sentence on what it is for.
        homes: Where its names are written, as they are ordered on the page: modules or folders.
    """

    slug: str
    title: str
    lead: str
    homes: tuple[str, ...]


FAMILIES = (
    Family(
        "regression",
        "Regression",
        "A number is predicted: errors that count in full, quantiles, tubes, percentages.",
        ("_regression.simple", "_regression.asymmetric", "_regression.relative"),
    ),
    Family(
        "robust",
        "Robust regression",
        "A number is predicted, and some of the targets are wrong.",
        ("_regression.robust", "_regression.general", "_regression"),
    ),
    Family(
        "likelihood",
        "Likelihoods and scores",
        "A distribution of numbers, counts or amounts is predicted.",
        (
            "_likelihood.real",
            "_likelihood.censored",
            "_likelihood.counts",
            "_likelihood.amounts",
            "_likelihood.angles",
            "_likelihood.counts",
            "_likelihood.inflated",
            "_likelihood.amounts",
            "_likelihood.mixture",
            "_likelihood.multivariate",
            "_likelihood.latent",
            "_likelihood",
        ),
    ),
    Family(
        "ensemble",
        "Ensembles and intervals",
        "Several forecasts or an interval stand for a distribution, scored against what came.",
        ("_ensemble",),
    ),
    Family(
        "survival",
        "Survival",
        "The time until an event, of which some are only known to be later than a time.",
        ("_survival",),
    ),
    Family(
        "ordinal",
        "Ordered classes",
        "One class of several that have an order: ratings, stages, ages.",
        ("_ordinal.thresholds", "_ordinal.distances", "_ordinal"),
    ),
    Family(
        "binary",
        "Yes or no",
        "One score for each question that has two answers.",
        ("_binary.cross_entropy", "_binary.focal", "_binary.margin"),
    ),
    Family(
        "multiclass",
        "One class of several",
        "One score for each class, of which one is right.",
        (
            "_multiclass.cross_entropy",
            "_multiclass.focal",
            "_multiclass.noisy_labels",
            "_multiclass.margin",
            "_multiclass.margin_logits",
            "_multiclass.fenchel_young",
        ),
    ),
    Family(
        "multilabel",
        "Several labels at once",
        "One score for each label, of which any number are right.",
        ("_binary.multilabel", "_binary"),
    ),
    Family(
        "divergence",
        "Distributions",
        "A distribution over classes is compared with the one that it should be.",
        ("_divergence.kullback_leibler", "_divergence"),
    ),
    Family(
        "segmentation",
        "Segmentation",
        "A class, or yes or no, for each pixel: losses of the overlap of regions.",
        ("_segmentation.overlap", "_segmentation"),
    ),
    Family(
        "boxes",
        "Boxes",
        "Axis-aligned boxes, each against its own, and their coding.",
        ("_boxes.losses", "_boxes"),
    ),
    Family(
        "embedding",
        "Pairs and triplets",
        "Vectors that belong together, or do not.",
        ("_embedding.cosine", "_embedding.pairs", "_embedding"),
    ),
    Family(
        "contrastive",
        "Batches of embeddings",
        "All pairs of a batch: with labels, of two views, with or without negatives.",
        (
            "_contrastive.labelled",
            "_contrastive.margins",
            "_contrastive.mining",
            "_contrastive.views",
            "_contrastive",
        ),
    ),
    Family(
        "ranking",
        "Rankings",
        "The documents of a list are put in order.",
        (
            "_ranking.softmax",
            "_ranking.listwise",
            "_ranking.permutations",
            "_ranking.pairwise",
            "_ranking",
        ),
    ),
    Family(
        "preference",
        "Preferences",
        "One of two answers is better, or an answer is good or bad.",
        ("_preference", "_multiclass.tokens", "_multiclass"),
    ),
    Family(
        "policy",
        "Policies and values",
        "Reinforcement learning: actions with advantages, and values of states.",
        ("_policy.ratios", "_policy.advantages", "_policy.tokens", "_policy.values", "_policy"),
    ),
    Family(
        "sequences",
        "Sequences",
        "Labels in order, at times that nobody knows; a label for each step; two speeds.",
        ("_sequences",),
    ),
    Family(
        "own",
        "Masks, means, your own loss",
        "What every loss keeps, and what gives a loss of your own the same.",
        ("_contract", "_custom"),
    ),
    Family(
        "prox",
        "Proximal operators",
        "Exact zeros: proximal operators, Moreau envelopes and conjugates.",
        ("prox",),
    ),
    Family(
        "scale",
        "Scale",
        "Vocabularies whose logits are too many to hold, and batches too large to be one.",
        ("_multiclass.linear", "_contract.accumulate"),
    ),
    Family("plotting", "Plotting", "Curves and surfaces of any loss.", ("plotting",)),
    Family("testing", "Testing", "The laws of this library, run on any loss.", ("testing",)),
)


@dataclass(frozen=True)
class Entry:
    """A public name.

    Attributes:
        name: As it follows `jaxloss.`: "huber_loss", "prox.l1".
        value: What it names.
        home: The module below `jaxloss` that it is written in.
        line: Where in that module, counted from 1.
        family: The group it belongs to.
        sentence: The first sentence of its docstring.
    """

    name: str
    value: Any
    home: str
    line: int
    family: Family
    sentence: str

    @property
    def is_loss(self) -> bool:
        """Whether it computes losses, and so has to have a picture."""
        if self.family.slug in ("own", "prox", "plotting", "testing"):
            return False
        reduces = inspect.isfunction(self.value) and (
            "reduction" in inspect.signature(self.value).parameters
        )
        return reduces or self.name.endswith("_loss")


@functools.cache
def public() -> dict[str, Entry]:
    """All public names, in the order of the families and of the code."""
    entries = [_entry(name, getattr(jaxloss, name), "") for name in jaxloss.__all__]
    for submodule in SUBMODULES:
        if importlib.util.find_spec(f"jaxloss.{submodule}") is None:
            continue
        module = importlib.import_module(f"jaxloss.{submodule}")
        for name in getattr(module, "__all__", _given(module)):
            entries.append(_entry(f"{submodule}.{name}", getattr(module, name), submodule))

    def order(entry: Entry) -> tuple[int, int, str, int]:
        chapter = _fit(entry.home, entry.family)
        return FAMILIES.index(entry.family), chapter, entry.home, entry.line

    found = sorted((entry for entry in entries if entry), key=order)
    return {entry.name: entry for entry in found}


def _given(module: ModuleType) -> list[str]:
    """What a module gives: the names that it imports as themselves, and those that it defines."""
    tree = ast.parse(inspect.getsource(module))
    names = []
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            names += [x.name for x in statement.names if x.asname == x.name]
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.append(statement.name)
    return [name for name in names if not name.startswith("_")]


def _entry(name: str, value: Any, submodule: str) -> Entry | None:
    if inspect.ismodule(value):
        return None
    home, line = _home(name, value)
    # What a submodule gives under its own name belongs to it, wherever it is written.
    family = next((x for x in FAMILIES if x.slug == submodule), None) or _family(home)
    return Entry(name, value, home, line, family, sentence(value))


def _family(home: str) -> Family:
    fitting = [family for family in FAMILIES if _fit(home, family) < len(family.homes)]
    if not fitting:
        raise LookupError(f"docs/_ext/names.py: no family of the reference has jaxloss.{home}")
    return max(fitting, key=lambda family: len(family.homes[_fit(home, family)]))


def _fit(home: str, family: Family) -> int:
    """Which of the homes of a family a module is, or lies in; their number if none."""
    fits = [x for x in family.homes if home == x or home.startswith(f"{x}.")]
    return family.homes.index(max(fits, key=len)) if fits else len(family.homes)


def _home(name: str, value: Any) -> tuple[str, int]:
    if inspect.isfunction(value):
        function = inspect.unwrap(value)
        return function.__globals__["__name__"].removeprefix("jaxloss."), (
            function.__code__.co_firstlineno
        )
    path, statement = definition(name)
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__"), statement.lineno


@functools.cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def definition(name: str) -> tuple[Path, ast.stmt]:
    """The file and the statement that define a class, a value or a type alias.

    Args:
        name: As in `Entry`: a submodule's is sought in its files.
    """
    submodule, _, short = name.rpartition(".")
    for path in _files(submodule, short):
        for statement in _trees()[path].body:
            if isinstance(statement, ast.ClassDef) and statement.name == short:
                return path, statement
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            if any(isinstance(x, ast.Name) and x.id == short for x in targets):
                return path, statement
    raise LookupError(f"docs/_ext/names.py: nothing in jaxloss defines {name}")


def _files(submodule: str, short: str) -> list[Path]:
    """The files of a submodule, or of the package: first the one that a name is imported from."""
    files = [x for x in _trees() if str(x.relative_to(PACKAGE)).startswith(submodule)]
    imports = [
        statement.module
        for path in files
        if path.name == "__init__.py"
        for statement in _trees()[path].body
        if isinstance(statement, ast.ImportFrom) and any(x.name == short for x in statement.names)
    ]
    return sorted(
        files, key=lambda path: path.stem not in {str(x).rpartition(".")[2] for x in imports}
    )


def sentence(value: Any) -> str:
    """The first sentence of a docstring, which may be of several lines."""
    if not (inspect.isfunction(value) or inspect.isclass(value)):
        return ""
    paragraph = (inspect.getdoc(value) or "").partition("\n\n")[0]
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split()))[0]


def mentioned(text: str, module: str = "") -> str:
    """The public name that a piece of code is, or calls: "" if none.

    Args:
        text: `huber_loss`, `jaxloss.huber_loss`, `huber_loss(p, t, delta=2.0)`.
        module: The submodule whose names are meant first.
    """
    match = re.fullmatch(r"(?:jaxloss\.)?([A-Za-z_][\w.]*)(?:\(.*\))?", text.strip(), re.S)
    if match is None:
        return ""
    name = match[1]
    if name.startswith("Mean."):
        return "Mean"
    return next((x for x in (f"{module}.{name}", name) if x in public()), "")
