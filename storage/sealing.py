"""The serializer of checkpoints: what karkas did not write is not read.

LangGraph rebuilds any object that a checkpoint names, so whoever writes to its database could run code here, and
could say what was proposed and answered.
"""

import hmac
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from karkas.policies.errors import AuditError
from karkas.storage.keys import SigningKey
from karkas.storage.meter import count

MAC_BYTES = 32


class SealedSerializer(JsonPlusSerializer):
    """LangGraph's own, with an HMAC-SHA256 (RFC 2104) before each value."""

    def __init__(self, key: SigningKey) -> None:
        super().__init__()
        self._secret = key.derived(b"karkas checkpoints")

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        kind, data = super().dumps_typed(obj)
        count(len(data))
        return kind, self._mac(kind, data) + data

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, sealed = data
        mac, plain = sealed[:MAC_BYTES], sealed[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(kind, plain)):
            raise AuditError(
                "the run's checkpoint was changed outside karkas, so it does not go on; begin a new run (decisions and"
                " permits are not in it)"
            )
        return super().loads_typed((kind, plain))

    def _mac(self, kind: str, data: bytes) -> bytes:
        return hmac.digest(self._secret, kind.encode() + b"\0" + data, "sha256")
