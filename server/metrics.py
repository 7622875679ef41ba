"""What a vLLM server says of its own load, out of the text of its `/metrics`.

Source: https://docs.vllm.ai/en/stable/usage/metrics
"""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
CACHE = "vllm:kv_cache_usage_perc"
PREEMPTIONS = "vllm:num_preemptions_total"

_SAMPLES = tuple(name + end for name in (RUNNING, WAITING, CACHE, PREEMPTIONS) for end in "{ ")
"""How the lines begin that matter: a page has hundreds, and it is read twice a second."""


@dataclass(frozen=True)
class Load:
    """Of all engines and for all clients of a server, at one moment.

    `running` and `waiting` count sequences, so a request for four answers counts four times. `cache` is the fullest
    engine's KV cache in 0..1; `preempted` grows each time that a sequence lost its place in it and starts over.
    """

    running: int
    waiting: int
    cache: float
    preempted: int


def load_of(text: str) -> Load | None:
    """None: this is no vLLM server, or one that keeps its numbers to itself (`--disable-log-stats`)."""
    lines = [line for line in text.splitlines() if line.startswith(_SAMPLES)]
    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families("\n".join((*lines, ""))):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.value)
        return Load(
            running=int(sum(found[RUNNING])),
            waiting=int(sum(found[WAITING])),
            cache=max(found.get(CACHE, [0.0])),
            preempted=int(sum(found.get(PREEMPTIONS, [0.0]))),
        )
    except (KeyError, ValueError, OverflowError):  # not there, not Prometheus's text, or NaN and infinity
        return None
