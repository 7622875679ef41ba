"""JSON Schemas of the two files: `python -m karkas.agents.distillate.schemas docs` writes them."""

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from karkas.policies.distillates import Distillate
from karkas.policies.frames import Frame

_MODELS: dict[str, type[BaseModel]] = {"distillate.schema.json": Distillate, "frame.schema.json": Frame}


def schemas() -> dict[str, str]:
    """Each schema (JSON Schema 2020-12) by the name of its file."""
    return {name: _schema(model) for name, model in _MODELS.items()}


def _schema(model: type[BaseModel]) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in schemas().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
