import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from karkas.policies.errors import UngatedPathError, WorkflowError
from karkas.server.questions import ToolCall
from karkas.workflows.define import Workflow
from karkas.workflows.lanes import WorkflowState

AROUND: Any = StateGraph
"""LangGraph's own class, for going around what `Workflow` does."""


class State(WorkflowState, total=False):
    log: Annotated[list[str], operator.add]


def propose(_: State) -> ToolCall:
    return ToolCall(tool="write_file", args={"path": "a.md", "content": "a"})


def step(state: State) -> dict[str, Any]:
    return {}


def with_action() -> Workflow:
    workflow = Workflow(State)
    workflow.add_node("draft", step)
    workflow.add_action("publish", propose)
    return workflow.add_edge(START, "draft").add_edge("draft", "publish").add_edge("publish", END)


def test_an_action_led_to_by_its_name_compiles_to_a_langgraph_graph() -> None:
    graph = with_action().compile()
    assert {"draft", "publish", "publish.gate", "publish.act"} <= set(graph.get_graph().nodes)


def test_an_edge_straight_to_the_executor_is_refused_and_the_path_named() -> None:
    workflow = with_action()
    workflow.add_edge("draft", "publish.act")
    with pytest.raises(UngatedPathError, match=r"__start__ → draft → publish\.act.*'publish'"):
        workflow.compile()


def test_a_conditional_edge_to_the_executor_is_refused() -> None:
    workflow = with_action()
    workflow.add_node("fork", step)
    workflow.add_edge("draft", "fork")
    workflow.add_conditional_edges("fork", lambda _: "go", {"go": "publish.act", "stop": END})
    with pytest.raises(UngatedPathError, match=r"fork → publish\.act"):
        workflow.compile()


def test_a_conditional_edge_that_may_lead_anywhere_is_refused() -> None:
    workflow = with_action()
    workflow.add_conditional_edges("draft", lambda _: "publish")
    with pytest.raises(UngatedPathError, match=r"draft → publish\.act"):
        workflow.compile()


def test_a_node_that_declares_a_jump_to_the_executor_is_refused() -> None:
    workflow = with_action()
    workflow.add_node("jump", lambda state: Command(goto="publish.act"), destinations=("publish.act",))
    workflow.add_edge("draft", "jump")
    with pytest.raises(UngatedPathError, match=r"jump → publish\.act"):
        workflow.compile()


def test_a_join_that_leads_to_the_executor_is_refused() -> None:
    workflow = with_action()
    workflow.add_node("other", step)
    workflow.add_edge(START, "other")
    workflow.add_edge(["draft", "other"], "publish.act")
    with pytest.raises(UngatedPathError, match=r"publish\.act"):
        workflow.compile()


def test_the_gate_of_another_action_does_not_count() -> None:
    workflow = with_action()
    workflow.add_action("notify", propose)
    workflow.add_edge("publish", "notify")
    AROUND.add_edge(workflow, "publish.wait", "notify.act")
    with pytest.raises(UngatedPathError, match="executor of 'notify'"):
        workflow.compile()


def test_a_path_around_a_gate_within_a_subgraph_is_found() -> None:
    hole = with_action()
    hole.add_edge(START, "publish.act")
    compiled_around_the_check = AROUND.compile(hole)
    outer = Workflow(State)
    outer.add_node("inside", compiled_around_the_check)
    outer.add_edge(START, "inside")
    with pytest.raises(UngatedPathError, match="in subgraph 'inside'"):
        outer.compile()


def test_sending_to_an_action_by_a_mapped_conditional_edge_is_fine() -> None:
    workflow = Workflow(State)
    workflow.add_node("fan", step)
    workflow.add_action("publish", propose)
    workflow.add_edge(START, "fan")
    workflow.add_conditional_edges("fan", lambda _: [Send("publish", {})], ["publish"])
    workflow.compile()


def test_two_actions_of_one_name_are_refused() -> None:
    with pytest.raises(WorkflowError, match="another name"):
        with_action().add_action("publish", propose)


def test_a_state_without_the_channel_is_refused_with_the_mend() -> None:
    class Bare(TypedDict):
        topic: str

    with pytest.raises(WorkflowError, match=r"class Bare\(WorkflowState\)"):
        Workflow(Bare)
