from collections.abc import Callable

from karkas.policies.distillates import Claim, ConflictKind
from karkas.server.documents import Document
from karkas.server.offline.conflicts import conflicts

Page = Callable[..., Document]
Claims = Callable[..., list[Claim]]

PACKED = (
    "# {title}\n\nNotice the new argument being passed, `bnb_4bit_quant_storage_dtype`, which denotes the data type for"
    " packing the 4-bit parameters. For example, when it is set to `bfloat16`, **{sum}** 4-bit params are packed"
    " together post quantization."
)


def test_two_pages_that_compute_one_setting_differently_are_the_first_candidate(
    page: Page, claims: Claims
) -> None:
    documents = [
        page(PACKED.format(title="FSDP", sum="16/4 = 4"), "accelerate/fsdp.md", framework="peft"),
        page(PACKED.format(title="DeepSpeed", sum="32/4 = 8"), "accelerate/deepspeed.md", framework="peft"),
    ]
    found = conflicts(claims(*documents), documents)
    assert found[0].kind is ConflictKind.NUMERIC
    assert "16/4 = 4" in found[0].why
    assert "32/4 = 8" in found[0].why
    assert found[0].score > 0.8
    assert found[0].scope["framework"] == "peft"
    assert found[0].label == "candidate"


def test_a_short_name_on_two_pages_is_no_conflict(page: Page, claims: Claims) -> None:
    documents = [
        page("# LoRA\n\n- `r`: Rank of the update matrices (default: `8`).", "lora.md", framework="peft"),
        page(
            "# OFT\n\n- `r`: Number of blocks in each rotation (default: `32`).", "oft.md", framework="peft"
        ),
    ]
    assert conflicts(claims(*documents), documents) == []


def test_the_classes_of_one_package_have_their_own_defaults(page: Page, claims: Claims) -> None:
    text = "# Options\n\n- `learning_rate` of `{}` has the default of {} in this package."
    documents = [
        page(text.format("AdamConfig", 8), "a.md", framework="x"),
        page(text.format("LionConfig", 32), "b.md", framework="x"),
    ]
    assert conflicts(claims(*documents), documents) == []


def test_two_frameworks_never_contradict_one_another(page: Page, claims: Claims) -> None:
    text = "The `gradient_accumulation_steps` option defaults to {} in every training run."
    same = [page(text.format(n), f"{n}.md", framework="peft") for n in (1, 4)]
    other = [page(text.format(n), f"{n}.md", framework=f"framework-{n}") for n in (1, 4)]
    assert [one.kind for one in conflicts(claims(*same), same)] == [ConflictKind.NUMERIC]
    assert conflicts(claims(*other), other) == []


def test_tables_with_other_defaults_for_one_key_conflict(page: Page, claims: Claims) -> None:
    table = "# {}\n\n| Option | Type | Default | Description |\n|---|---|---|---|\n| `skip_zero_batches` | bool | `{}` | Skip batches without a signal |"
    documents = [
        page(table.format("GRPO", "true"), "grpo.qmd", framework="axolotl"),
        page(table.format("EBFT", "false"), "ebft.qmd", framework="axolotl"),
    ]
    (found,) = conflicts(claims(*documents), documents)
    assert "skip_zero_batches" in found.why
    assert "default" in found.why


def test_unset_and_false_are_the_same_default(page: Page, claims: Claims) -> None:
    table = "# {}\n\n| Option | Type | Default | Description |\n|---|---|---|---|\n| `skip_zero_batches` | bool | `{}` | Skip batches without a signal |"
    documents = [page(table.format("A", "null"), "a.md"), page(table.format("B", "false"), "b.md")]
    assert conflicts(claims(*documents), documents) == []


def test_a_denied_support_conflicts_with_an_affirmed_one(page: Page, claims: Claims) -> None:
    documents = [
        page(
            "# Kernels\n\nThe `lora_kernels` option is not supported for RLHF training runs.",
            "a.md",
            framework="x",
        ),
        page(
            "# RLHF\n\nThe `lora_kernels` option is supported for RLHF training runs by default.",
            "b.md",
            framework="x",
        ),
    ]
    (found,) = conflicts(claims(*documents), documents)
    assert found.kind is ConflictKind.NEGATION
    assert "a.md denies" in found.why


def test_two_expansions_of_an_abbreviation_conflict(page: Page, claims: Claims) -> None:
    documents = [
        page("Low-Rank Hadamard Product (LoHa) is a method that multiplies two small matrices.", "a.md"),
        page("Linear Hadamard Adaptation (LoHa) is a method that scales two large matrices.", "b.md"),
    ]
    (found,) = conflicts(claims(*documents), documents)
    assert found.kind is ConflictKind.DEFINITION


def test_two_required_versions_of_one_thing_conflict(page: Page, claims: Claims) -> None:
    text = "# Install\n\nThe `flex_attention` backend requires torch >= {} to be installed."
    documents = [
        page(text.format("2.6"), "a.md", framework="x"),
        page(text.format("2.11"), "b.md", framework="x"),
    ]
    (found,) = conflicts(claims(*documents), documents)
    assert found.kind is ConflictKind.VERSION


def test_documentation_that_states_another_default_than_the_code_conflicts(
    page: Page, module: Page, claims: Claims
) -> None:
    code = module(
        "class Waiter(Base):\n    def __init__(self, max_delay: float = 10.0) -> None:", package="tenacity"
    )
    prose = page(
        "# Waiting\n\nThe `max_delay` of `Waiter` defaults to 60 in this package.",
        "README.md",
        package="tenacity",
    )
    (found,) = conflicts(claims(code, prose), [code, prose])
    assert found.kind is ConflictKind.DOC_VS_CODE
    assert "60" in found.why
    assert "10" in found.why


def test_documentation_that_agrees_with_the_code_does_not(page: Page, module: Page, claims: Claims) -> None:
    code = module(
        "class Waiter(Base):\n    def __init__(self, max_delay: float = 10.0) -> None:", package="tenacity"
    )
    prose = page(
        "# Waiting\n\nThe `max_delay` of `Waiter` defaults to 10 in this package.",
        "README.md",
        package="tenacity",
    )
    assert conflicts(claims(code, prose), [code, prose]) == []


def test_ids_do_not_depend_on_the_order_of_claims(page: Page, claims: Claims) -> None:
    text = "The `gradient_accumulation_steps` option defaults to {} in every training run."
    documents = [page(text.format(n), f"{n}.md", framework="peft") for n in (1, 4)]
    known = claims(*documents)
    assert [one.id for one in conflicts(known, documents)] == [
        one.id for one in conflicts(known[::-1], documents)
    ]
