"""Answers are kept by their request's digest, so that no release may give another one for the same request."""

from karkas.server.wire import ChatRequest, Message

REQUEST = ChatRequest(
    model="m",
    messages=(
        Message(role="system", content="Be short."),
        Message(role="user", content='Что такое "повтор"?\n\u2028'),
    ),
    max_tokens=50,
    temperature=0.5,
    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [None, 1, "é"]}}},
    chat_template_kwargs={"enable_thinking": False},
)


def test_a_digest_stays_what_it_was_when_answers_were_kept_by_it() -> None:
    assert REQUEST.digest == "5841d93feec0da5f58bf7574943681f910308b82d61f5ff4684b9980843ac5a9"


def test_who_waits_for_an_answer_changes_nothing_of_what_the_model_sees() -> None:
    assert REQUEST.model_copy(update={"priority": 10}).digest == REQUEST.digest
    assert REQUEST.model_copy(update={"n": 2}).digest != REQUEST.digest
