"""A user's Python file: the workflow it names, and the tools and zones that it declares on the way."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from karkas.agents.tools import Tool
from karkas.policies.errors import KarkasError, UsageError, WorkflowError
from karkas.policies.zones import Zone
from karkas.workflows.failure import PREFIX, told
from karkas.workflows.runs import Graph

NOWHERE = "/dev/null/karkas"
"""Where byte code is looked for while a user's file is imported; nothing can lie there."""


@dataclass(frozen=True)
class UserFile:
    """What a file declares at its top level. `version` is the hash of its text."""

    path: Path
    version: str
    module: ModuleType

    @property
    def tools(self) -> list[Tool]:
        return [value for value in vars(self.module).values() if isinstance(value, Tool)]

    @property
    def zones(self) -> list[Zone]:
        return [value for value in vars(self.module).values() if isinstance(value, Zone)]

    def workflow(self, name: str) -> Graph:
        """The workflow called `name`: a `Workflow`, a LangGraph graph, or a function without parameters giving one."""
        found = vars(self.module).get(name)
        if _gives_a_graph(found):
            try:
                found = found()
            except KarkasError:
                raise
            except Exception as error:
                raise WorkflowError(f"{name}() gave no workflow: {told(error)}") from error
        if isinstance(found, StateGraph | CompiledStateGraph):
            return found
        graphs = [
            key
            for key, value in vars(self.module).items()
            if isinstance(value, StateGraph | CompiledStateGraph)
        ]
        known = f"; it has {', '.join(graphs)}" if graphs else ""
        raise WorkflowError(f"{self.path} has no workflow called {name!r}{known}")


def _gives_a_graph(found: object) -> TypeGuard[Callable[[], object]]:
    """Whether it can be called without arguments; a node of the graph cannot."""
    if isinstance(found, StateGraph | CompiledStateGraph) or not callable(found):
        return False
    try:
        signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def split_reference(reference: str) -> tuple[Path, str]:
    """`FILE.py:NAME` as path and name."""
    path, _, name = reference.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise UsageError(f"{reference!r} should read FILE.py:NAME, for example flows.py:publish")
    return Path(path), name


def version_of(path: Path) -> str:
    """The hash of a user's file, which is not run for it."""
    return sha256(_source(path)).hexdigest()


def _source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror}") from error


def load_file(path: Path, *, version: str | None = None) -> UserFile:
    """Imports a user's file. It is the user's own code and runs with the user's rights.

    With a `version`, a file that has another one is not run: agents may have written it since.
    """
    path = path.resolve()
    source = _source(path)
    wanted, version = version, sha256(source).hexdigest()
    if wanted not in {None, version}:
        raise WorkflowError(
            f"{path} changed since the run was begun with it, so it was not run; look at what changed, then"
            " `karkas runs resume` goes on with it as it is now"
        )
    name = f"{PREFIX}{path.stem}_{version[:8]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        sys.path.insert(0, str(path.parent))
        caches, sys.pycache_prefix = sys.pycache_prefix, NOWHERE
        written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            # Without byte code, also of what it imports: what lies beside it may be a sandboxed command's.
            exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102
        except KarkasError:
            del sys.modules[name]
            raise
        except Exception as error:
            del sys.modules[name]
            raise WorkflowError(f"{path} could not be imported: {told(error)}") from error
        finally:
            sys.path.remove(str(path.parent))
            sys.pycache_prefix, sys.dont_write_bytecode = caches, written
    return UserFile(path=path, version=version, module=sys.modules[name])
