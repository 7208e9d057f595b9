"""A finished run in the formats of others: RobustBench, model cards of the Hugging Face hub, MLflow.

To add one: a file here with a function from `Measured` to text, and a row in `FORMATS`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from atodds.errors import ArgumentError, RunError, UnknownNameError
from atodds.report.exports import model_card, robustbench
from atodds.report.exports.measured import Measured, file_name, measured
from atodds.report.exports.tracking import track
from atodds.report.source import Source
from atodds.threat import EpsSpec

FORMATS: Mapping[str, tuple[str, Callable[[Measured, Mapping[str, str]], str], tuple[str, ...]]] = {
    "robustbench": (".json", robustbench.write, robustbench.FIELDS),
    "model-card": (".md", model_card.write, model_card.FIELDS),
}
"""Formats that are a file a model: its ending, what writes it, and what only the user can say."""
MLFLOW = "mlflow"


def export(
    run: Source,
    form: str,
    out: str | os.PathLike[str] | None = None,
    *,
    models: Sequence[str] | None = None,
    eps: EpsSpec | None = None,
    fields: Mapping[str, str] | None = None,
    experiment: str = "atodds",
) -> tuple[str, ...]:
    """Write a finished run in another format: a file for each model, or an MLflow run for each model.

    Args:
        run: to be read.
        form: "robustbench", "model-card" or "mlflow".
        out: folder of the files, the current one where left out; for MLflow the address of its store, its own default
            where left out.
        models: by name; all where left out.
        eps: budgets that are told; those of the run where left out. RobustBench takes one, the largest of these.
        fields: what the run cannot know, such as {"authors": "..."}.
        experiment: of MLflow.

    Returns:
        The files, or the ids of the MLflow runs.

    Raises:
        UnknownNameError: no such format, model or field.
        ArgumentError, ThreatError: an argument that the format has no place for, or a budget that was not attacked.
        MissingExtraError: MLflow is not installed.
        RunError: the run is not finished, or a file cannot be written.
    """
    if form not in (*FORMATS, MLFLOW):
        raise UnknownNameError.among("format", form, [*FORMATS, MLFLOW])
    found = measured(run, models, eps)
    given = dict(fields or {})
    if form == MLFLOW:
        if given:
            raise ArgumentError("fields", ", ".join(given), "MLflow is told no fields", "Leave them out.")
        return track(found, None if out is None else os.fspath(out), experiment)
    ending, write, known = FORMATS[form]
    for key in given:
        if key not in known:
            raise UnknownNameError.among("field", key, known)
    texts = [write(one, given) for one in found]  # all of them before the first file: nothing half
    folder = Path() if out is None else Path(out)
    names = file_names([one.name for one in found], ending)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(names, texts, strict=True):
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder} cannot be written to: {error.strerror or error}. Give another folder.") from error
    return tuple(str(folder / name) for name in names)


def file_names(names: Sequence[str], ending: str) -> list[str]:
    """A file for each name, no two the same, also where a file system does not tell capitals apart."""
    files: list[str] = []
    for name in names:
        stem, number = file_name(name), 1
        while any(f"{stem}{ending}".lower() == other.lower() for other in files):
            number += 1
            stem = f"{file_name(name)}-{number}"
        files.append(f"{stem}{ending}")
    return files


__all__ = ["FORMATS", "MLFLOW", "Measured", "export", "file_names", "measured"]
