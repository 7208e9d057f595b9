"""Runs of MLflow: one for each model, with its settings as parameters and its accuracies as metrics.

Everything goes through a client of its own, so that no global setting of MLflow is changed. A model that was sent
before is not sent again: a tag says which run, model and budgets a run of MLflow holds.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from atodds.analysis import Rate
from atodds.errors import MissingExtraError, RunError
from atodds.report.exports.measured import Measured

MARK = "atodds.export"
LONGEST = 500
"""Letters of a parameter that every store takes."""


def track(found: Sequence[Measured], address: str | None, experiment: str) -> tuple[str, ...]:
    """Send models to a store, and give the ids of their runs there, old or new.

    Args:
        found: the models.
        address: of the store: a folder, "sqlite:///file.db" or a server; MLflow's own where left out.
        experiment: its name; made where it is not there.

    Raises:
        MissingExtraError: MLflow is not installed.
        RunError: the store refuses.
    """
    mlflow = _mlflow()
    try:
        client = mlflow.MlflowClient(tracking_uri=address)
        held = client.get_experiment_by_name(experiment)
        place = client.create_experiment(experiment) if held is None else held.experiment_id
        return tuple(_sent(client, str(place), one) for one in found)
    except (mlflow.exceptions.MlflowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        where = address or "the default store of MLflow"
        raise RunError(f"{where} did not take the run: {said}. Check --out, MLFLOW_TRACKING_URI.") from error


def _sent(client: Any, experiment: str, one: Measured) -> str:
    mark = identity(one)
    there = client.search_runs([experiment], filter_string=f"tags.`{MARK}` = '{mark}'", max_results=1)
    if there:
        return str(there[0].info.run_id)
    tags = {MARK: mark, "atodds.model": one.info.id, "atodds.commit": one.manifest.commit}
    made = client.create_run(experiment, run_name=one.name, tags=tags).info.run_id
    for key, value in parameters(one).items():
        client.log_param(made, key, value)
    for key, number in metrics(one).items():
        client.log_metric(made, key, number)
    client.set_terminated(made)
    return str(made)


def identity(one: Measured) -> str:
    """64 hex digits over what is sent."""
    text = json.dumps([one.info.id, one.info.fingerprint, parameters(one), metrics(one)])
    return hashlib.sha256(text.encode()).hexdigest()


def parameters(one: Measured) -> dict[str, str]:
    """How it was measured."""
    manifest, data = one.manifest, one.manifest.data
    told: dict[str, object] = {
        "model": one.name,
        "source": one.info.source,
        "fingerprint": one.info.fingerprint,
        "parameters": one.info.parameters,
        "data": data.name,
        "split": data.split,
        "selection": data.selection,
        "n": data.n,
        "data_fingerprint": data.fingerprint,
        "norm": manifest.norm,
        "eps": ", ".join(budget.text for budget in one.curve.budgets),
        "attacks": ", ".join(manifest.attacks),
        "seed": manifest.seed,
        "precision": manifest.precision,
    }
    return {key: str(value)[:LONGEST] for key, value in told.items()}


def metrics(one: Measured) -> dict[str, float]:
    """What was measured, with the ends of 95 % intervals."""
    numbers = dict(_three("accuracy", one.accuracy))
    for budget, rate in one.attacked:
        numbers |= _three(f"robust_accuracy_{one.manifest.norm}_{_key(budget.text)}", rate)
    return numbers | {"audit_warnings": float(one.warnings), "audit_errors": float(one.errors)}


def _three(name: str, rate: Rate) -> dict[str, float]:
    return {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}


def _key(text: str) -> str:
    """A budget inside the name of a metric: a slash would be a folder there."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", text)


def _mlflow() -> ModuleType:
    try:
        return importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        raise MissingExtraError("mlflow", "mlflow") from error
