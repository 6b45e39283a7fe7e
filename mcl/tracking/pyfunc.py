"""The files that make a folder an MLflow model with the python_function flavour, without a pickle
in it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = "input_example.json"


def files(
    loader: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    example: pd.DataFrame,
    requires: Sequence[str],
) -> dict[str, bytes]:
    """`MLmodel`, the input example and the requirements of a model that the module `loader` in its
    folder code/ loads.

    inputs, outputs  column -> MLflow type ("double", "long", "boolean", "datetime", "string"), in
    order
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of its own type hints when it is imported
        from mlflow.models import Model, ModelSignature
        from mlflow.pyfunc import add_to_model
        from mlflow.types import ColSpec, Schema

    input_schema, output_schema = (
        Schema([ColSpec(kind, name) for name, kind in columns.items()])
        for columns in (inputs, outputs)
    )
    model = Model(signature=ModelSignature(input_schema, output_schema))
    model.saved_input_example_info = {
        "artifact_path": EXAMPLE,
        "type": "dataframe",
        "pandas_orient": "split",
    }
    add_to_model(model, loader_module=loader, code="code")  # type: ignore[no-untyped-call]
    return {
        "MLmodel": model.to_yaml().encode(),
        EXAMPLE: json.dumps(_split(example)).encode(),
        "requirements.txt": "".join(f"{line}\n" for line in requires).encode(),
    }


def _split(frame: pd.DataFrame) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(
        frame.to_json(orient="split", index=False, date_format="iso", date_unit="ns")
    )
    return whole
