"""The server of these tests is a real one, with what they rely on."""

import httpx

from .conftest import Server, StartServer


def ask(server: Server, model: str) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": 8,
        "temperature": 0,
    }
    answer = httpx.post(f"{server.base_url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
    text: str = answer.raise_for_status().json()["choices"][0]["message"]["content"]
    return text


def test_it_answers_by_model_and_by_each_adapter(server: Server) -> None:
    before = server.metrics()["vllm:request_success_total"]
    answers = {ask(server, name) for name in (server.model, *server.adapters)}
    assert len(answers) == len(server.adapters) + 1 == 3
    assert server.metrics()["vllm:request_success_total"] >= before + 3


def test_a_further_server_takes_its_own_flags(start_server: StartServer) -> None:
    small = start_server(max_model_len=2048, max_num_batched_tokens=2048)
    (listed,) = httpx.get(f"{small.base_url}/v1/models", trust_env=False).json()["data"]
    assert (listed["id"], listed["max_model_len"]) == ("tiny", 2048)
