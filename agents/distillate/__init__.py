"""The distillate as a file: YAML (`dump`, `load`, `sha256`), proof (`verify`), Markdown, and what changed (`diff`)."""

from karkas.agents.distillate.changes import diff
from karkas.agents.distillate.document import dump, load, sha256, verify
from karkas.agents.distillate.markdown import to_markdown

__all__ = ["diff", "dump", "load", "sha256", "to_markdown", "verify"]
