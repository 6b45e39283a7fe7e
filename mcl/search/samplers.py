"""Build Optuna's samplers and pruners with the options of a configuration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    TPESampler,
)

from mcl.base.errors import ConfigError, nearest
from mcl.config import schema

NUMBERED = (
    "grid",
    "random",
    "qmc",
)  # a point depends on its number alone; every other sampler adapts
ADAPTIVE: dict[str, Any] = {
    "tpe": TPESampler,
    "cmaes": CmaEsSampler,
    "nsga2": NSGAIISampler,
    "nsga3": NSGAIIISampler,
    "gp": GPSampler,
}
# they store generations with the trials that they draw
WITH_ATTRIBUTES = ("cmaes", "nsga2", "nsga3")
SEVERAL_OBJECTIVES = ("tpe", "nsga2", "nsga3", "gp", *NUMBERED)
# samplers that can see how far a soft constraint is broken
SOFT = ("tpe", "nsga2", "nsga3", "gp", *NUMBERED)
NEEDED = {"gp": ("torch", "scipy")}  # packages that are no dependency of mcl, by sampler


@dataclass(frozen=True)
class Option:
    """A number of one kind between two limits, or a switch."""

    kind: type
    low: float = 0.0
    high: float = float("inf")

    def fault(self, value: Any) -> str:
        """The fault of a value. Empty where it fits."""
        if self.kind is bool:
            return "" if isinstance(value, bool) else "must be true or false"
        number = isinstance(value, int if self.kind is int else (int, float)) and not isinstance(
            value, bool
        )
        if number and self.low <= value <= self.high:
            return ""
        kind = "a whole number" if self.kind is int else "a number"
        return f"must be {kind} of at least {self.low:g}" + (
            f", at most {self.high:g}" if self.high < float("inf") else ""
        )


COUNT, POSITIVE, SHARE, SWITCH = Option(int), Option(int, 1), Option(float, 0, 1), Option(bool)
GENETIC = {
    "population_size": Option(int, 2),
    "mutation_prob": SHARE,
    "crossover_prob": SHARE,
    "swapping_prob": SHARE,
}
SAMPLER_OPTIONS: dict[str, dict[str, Option]] = {
    "tpe": {
        "n_startup_trials": COUNT,
        "n_ei_candidates": POSITIVE,
        "constant_liar": SWITCH,
        "multivariate": SWITCH,
        "group": SWITCH,
    },
    "cmaes": {
        "n_startup_trials": COUNT,
        "sigma0": Option(float, 1e-12),
        "popsize": Option(int, 2),
        "consider_pruned_trials": SWITCH,
        "use_separable_cma": SWITCH,
        "with_margin": SWITCH,
        "lr_adapt": SWITCH,
    },
    "nsga2": GENETIC,
    "nsga3": GENETIC | {"dividing_parameter": POSITIVE},
    "gp": {"n_startup_trials": COUNT, "deterministic_objective": SWITCH},
}
EARLY = {
    "n_startup_trials": COUNT,
    "n_warmup_steps": COUNT,
    "interval_steps": POSITIVE,
    "n_min_trials": POSITIVE,
}
HALVING = {"min_resource": POSITIVE, "reduction_factor": Option(int, 2), "bootstrap_count": COUNT}
PRUNER_OPTIONS: dict[str, dict[str, Option]] = {
    "median": EARLY,
    "percentile": EARLY | {"percentile": Option(float, 0, 100)},
    "halving": HALVING | {"min_early_stopping_rate": COUNT},
    "hyperband": HALVING | {"max_resource": POSITIVE},
    "wilcoxon": {"p_threshold": SHARE, "n_startup_steps": COUNT},
}


def check(search: schema.Search) -> None:
    """ConfigError where an option is not one of its sampler's or pruner's, or a sampler's package
    is missing.
    """
    _check_options("sampler", search.sampler, search.sampler_options, SAMPLER_OPTIONS)
    _check_options("pruner", search.pruner, search.pruner_options, PRUNER_OPTIONS)
    missing = [name for name in NEEDED.get(search.sampler, ()) if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"search.sampler={search.sampler} needs the package {missing[0]}, which is not"
            " installed",
            f"pip install {' '.join(missing)}",
        )
    if search.soft_constraints and search.sampler not in SOFT:
        raise ConfigError(
            f"search.sampler={search.sampler} cannot see search.soft_constraints",
            "use search.sampler=tpe or nsga2, or search.constraints",
        )
    try:
        sampler(search, 0)
        pruner(search)
    except ValueError as error:
        raise ConfigError(
            f"the options of search.sampler or search.pruner do not fit together: {error}"
        ) from None


def sampler(search: schema.Search, seed: int) -> BaseSampler:
    """Optuna's own sampler of one trial, which draws from this seed."""
    fixed = {"warn_independent_sampling": False} if search.sampler in ("cmaes", "gp") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna_sampler: BaseSampler = ADAPTIVE.get(search.sampler, TPESampler)(
            seed=seed, **fixed, **search.sampler_options
        )
    return optuna_sampler


def pruner(search: schema.Search) -> BasePruner:
    """Optuna's own pruner; its steps are the folds.

    Median gives up what is below the median of the earlier trials, percentile what is not in their
    best share. Halving and hyperband continue the better part. Wilcoxon compares fold by fold with
    the best trial.
    """
    options = search.pruner_options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if search.pruner == "median":
            return MedianPruner(**{"n_startup_trials": 5} | options)
        if search.pruner == "percentile":
            return PercentilePruner(**{"percentile": 25.0, "n_startup_trials": 5} | options)
        if search.pruner == "halving":
            return SuccessiveHalvingPruner(**{"min_resource": 1, "reduction_factor": 2} | options)
        if search.pruner == "hyperband":
            limits = {"min_resource": 1, "max_resource": search.folds, "reduction_factor": 2}
            return HyperbandPruner(**limits | options)
        if search.pruner == "wilcoxon":
            return WilcoxonPruner(**{"p_threshold": 0.1} | options)
        return NopPruner()


def _check_options(
    kind: str,
    name: str,
    values: Mapping[str, Any],
    options_by_name: Mapping[str, Mapping[str, Option]],
) -> None:
    options = options_by_name.get(name, {})
    for key, value in values.items():
        setting = f"search.{kind}.{key}={value!r}"
        if key not in options:
            choices = nearest(key, list(options)) if options else "it has none"
            raise ConfigError(f"{setting} is no option of search.{kind}={name}: {choices}")
        if fault := options[key].fault(value):
            raise ConfigError(f"{setting} {fault}")
