from hypothesis import given
from hypothesis import strategies as st

from karkas.server.metrics import Load, load_of

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a} 7"} 12.0
vllm:num_requests_running{engine="1",model_name="a} 7"} 4.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a} 7"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a} 7",reason="capacity"} 100.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="a} 7"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a} 7"} 0.75
# TYPE vllm:num_preemptions counter
vllm:num_preemptions_total{engine="0",model_name="a} 7"} 2.0
vllm:num_preemptions_created{engine="0",model_name="a} 7"} 1.79e+09
"""


def test_the_load_of_all_engines_is_summed_and_the_fullest_cache_counts() -> None:
    assert load_of(PAGE) == Load(running=16, waiting=3, cache=0.75, preempted=2)


def test_a_server_that_is_no_vllm_tells_no_load() -> None:
    assert load_of('llamacpp:requests_processing 3\npython_info{version="3"} 1.0\n') is None
    assert load_of("") is None


def test_a_server_that_lies_about_its_load_tells_none() -> None:
    assert load_of(PAGE.replace("12.0", "NaN")) is None
    assert load_of(PAGE.replace("12.0", "many")) is None


@given(st.text())
def test_no_page_is_a_fault(page: str) -> None:
    assert load_of(page) is None or isinstance(load_of(page), Load)


@given(st.text(alphabet=st.characters(exclude_characters="\r\n"), max_size=30))
def test_no_line_of_ours_is_a_fault(rest: str) -> None:
    page = PAGE + f"vllm:num_requests_running{{{rest}\n"
    assert load_of(page) is None or isinstance(load_of(page), Load)
