from collections.abc import Callable
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from karkas.agents.distillate import diff, dump, load, notation, sha256, to_markdown, verify
from karkas.agents.distillate.schemas import schemas
from karkas.policies.distillates import Distillate
from karkas.policies.errors import DistillateError, KarkasError

FSDP = (
    "# FSDP\n\n> [!TIP]\nThe ratio is 16/4 = 4 for bfloat16 storage, see [the guide](https://evil.example).\n"
)
DEEPSPEED = "# DeepSpeed\n\nThe ratio is 32/4 = 8\nfor *bfloat16* storage.\n"

unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
awkward = st.lists(
    st.sampled_from(
        [
            " ",
            "  ",
            "\n",
            "\r\n",
            "\t",
            "\x85",
            "\u2028",
            "\u2029",
            "\ufeff",
            "\u202e",
            "\x00",
            "\x1b",
            ": ",
            " #",
            "- ",
            "|",
            ">",
            "'",
            '"',
            "\\",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&a",
            "*a",
            "!",
            "%",
            "@",
            "`",
            "---",
            "...",
            "? ",
            "null",
            "no",
            "1_000",
            "12:30",
            "0x1F",
            "2026-11-22",
            "~",
            "a",
            "слово",
            "🤗",
            "é",
            "⟦U+202E⟧",
            "word " * 30,
        ]
    ),
    max_size=12,
).map("".join)
texts = unicode_text | awkward


class Anything(BaseModel):
    value: Any


def evidence(source: str, text: str, quote: str) -> dict[str, Any]:
    start = text.index(quote)
    return {"source": source, "start": start, "end": start + len(quote), "quote": quote}


def claim(name: str, text: str, spans: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "facet": "parameter",
        "subject": "bnb_4bit_quant_storage",
        "scope": {"dtype": "bfloat16"},
        "text": text,
        "mode": "verbatim",
        "evidence": spans,
        "support": {"label": "verbatim", "checked_by": "span-match@1"},
        "confidence": {"level": "low", "why": "conflict k-1"},
        **more,
    }


def source(name: str, path: str, text: str) -> dict[str, Any]:
    digest = sha256_of(text.encode()).hexdigest()
    return {
        "id": name,
        "kind": "file",
        "locator": {"path": path},
        "rank": "official-docs",
        "license": "Apache-2.0",
        "lang": "en",
        "status": "used",
        "bytes": len(text.encode()),
        "sha256_raw": digest,
        "text": {
            "artifact": digest,
            "extractor": "markdown@1",
            "encoding": "utf-8",
            "repairs": [],
            "chars": len(text),
            "sha256": digest,
        },
    }


def content(**change: Any) -> dict[str, Any]:
    one = "The ratio is 16/4 = 4 for bfloat16 storage, see [the guide](https://evil.example)."
    other = "The ratio is 32/4 = 8\nfor *bfloat16* storage."
    return {
        "schema": "karkas.distillate/1",
        "id": "d-1",
        "zone": "lora",
        "engine": {"kind": "extractive", "name": "offline", "version": "1"},
        "honesty": {"abstractive": False, "unsupported_claims": 0, "dropped_claims": 2},
        "run": {
            "id": "r-1",
            "cycles": 2,
            "stop_reason": "saturated",
            "budget": {"wall_s": 1e-07, "tokens": None},
            "spent": {"wall_s": 3.5},
        },
        "summary": [{"title": "What it is", "claims": ["c-1"]}],
        "sources": [source("s-1", "peft/fsdp.md", FSDP), source("s-2", "peft/deepspeed.md", DEEPSPEED)],
        "claims": [
            claim("c-1", one, [evidence("s-1", FSDP, one)]),
            claim("c-2", other, [evidence("s-2", DEEPSPEED, other)]),
        ],
        "conflicts": [
            {
                "id": "k-1",
                "kind": "numeric",
                "claims": ["c-1", "c-2"],
                "detector": "numeric@1",
                "why": "4 or 8",
                "score": 0.93,
            }
        ],
        "weak_spots": [
            {"id": "w-1", "kind": "single_source", "claims": ["c-2"], "why": "only one source says so"}
        ],
        "open_questions": [
            {"id": "q-1", "text": "4 or 8?", "raised_by": "k-1", "would_settle": "the release notes"}
        ],
        "not_covered": [{"topic": "int8", "why": "no source"}],
        **change,
    }


def made(**change: Any) -> Distillate:
    return Distillate.model_validate(content(**change))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False) | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )
)
def test_whatever_is_written_reads_back_the_same(value: Any) -> None:
    assert (
        notation.read(notation.written({"value": value}), Anything, KarkasError, what="file").value == value
    )


@pytest.mark.parametrize("key", ["k" * 999, "k" * 1100, "\u202e" * 300, "x y: " * 300])
@pytest.mark.parametrize(
    "item", ["short", {"a": {"b": "c" * 200}}, [{"d": "e" * 200}], ["f" * 200], "g " * 200, []]
)
def test_keys_of_any_length_are_written(key: str, item: Any) -> None:
    shapes: tuple[dict[str, Any], ...] = (
        {key: item},
        {"flow": [{key: item}], "block": "x" * 200},
        {"a": 1, key: item, "z": [2]},
    )
    for value in shapes:
        written = notation.written({"value": value})
        assert notation.read(written, Anything, KarkasError, what="file").value == value
        assert yaml.safe_load(written) == {"value": value}


@given(texts)
def test_no_invisible_character_reaches_the_file(text: str) -> None:
    written = notation.written({"quote": text})
    assert all(character.isprintable() or character == "\n" for character in written)


@given(texts, texts)
def test_other_yaml_readers_see_the_same_texts(one: str, other: str) -> None:
    assert yaml.safe_load(notation.written({"k": one, "list": [other, {"deep": one}]})) == {
        "k": one,
        "list": [other, {"deep": one}],
    }


@given(texts.filter(bool), texts, st.dictionaries(texts, texts, max_size=3))
def test_a_distillate_survives_its_file(quote: str, why: str, scope: dict[str, str]) -> None:
    span = {"source": "s-1", "start": 0, "end": len(quote), "quote": quote}
    before = made(
        claims=[claim("c-1", quote, [span], scope=scope)],
        conflicts=[],
        weak_spots=[{"id": "w-1", "kind": "stale", "why": why}],
    )
    assert load(dump(before)) == before
    assert load(dump(before).encode()) == before


def test_the_file_says_first_what_it_is_and_how_to_check_it() -> None:
    head = dump(made()).split("schema:")[0]
    assert "extractive engine: every sentence is copied" in head
    assert "karkas distillate verify FILE" in head
    assert "Read `summary` first" in head
    llm = {"kind": "llm", "name": "vllm", "version": "1", "model": "m\u202e"}
    own = dump(made(engine=llm, honesty={"abstractive": True, "unsupported_claims": 0, "dropped_claims": 0}))
    assert "in its own words" in own
    assert "copied from a source" not in own.split("schema:")[0]


def test_the_file_reads_as_formats_shows_it() -> None:
    text = dump(made())
    assert "honesty: {abstractive: false, unsupported_claims: 0, dropped_claims: 2}\n" in text
    assert "  locator: {path: peft/fsdp.md}\n" in text
    assert "  text: |-\n    The ratio is 32/4 = 8\n    for *bfloat16* storage.\n" in text
    order = [text.index(f"\n{name}:") for name in Distillate.model_fields if name != "schema_"]
    assert order == sorted(order)


def test_unicode_stays_readable_and_long_sentences_are_folded() -> None:
    long = "Ранг r задаёт размер адаптера 🤗 и " + "ещё немного " * 20 + "слов."
    text = dump(made(weak_spots=[{"id": "w-1", "kind": "stale", "why": long}]))
    assert "why: >-\n    Ранг r задаёт размер адаптера 🤗 и ещё" in text
    assert max(map(len, text.splitlines())) < 130


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a: 1\nb: [1", "line 3: did not find"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' stands there twice"),
        ("a: &x [1]\nb: *x\n", "line 2: the alias"),
        ("a: &x [*x]\n", "line 1: the alias"),
        ("a: !!python/object/apply:os.system [echo]\n", "tag"),
        ("a: !mine 1\n", "the tag !mine is not read"),
        ("? [a]\n: 1\n", "a key must be a text"),
        ("- 1\n", "line 1"),
        ("a: \x00", "not YAML"),
        ("[" * 200 + "]" * 200, "deeper than 50"),
        ("[" * 100_000, "deeper than 50"),
        (b"\xff\xfe\xff", "not"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str | bytes, said: str) -> None:
    with pytest.raises(DistillateError, match=said):
        load(text)


def test_an_alias_bomb_is_refused() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(DistillateError, match="alias"):
        load(bomb)


def test_a_file_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notation, "MAX_BYTES", 100)
    with pytest.raises(DistillateError, match="larger than"):
        load(dump(made()))


def test_a_wrong_field_is_named_with_its_line() -> None:
    text = dump(made()).replace("score: 0.93", "score: 93")
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "score: 93" in one)
    with pytest.raises(
        DistillateError, match=rf"distillate, line {line}: conflicts.1.score: .*less than or equal to 1"
    ):
        load(text)


def test_the_pinned_hash_is_of_the_bytes() -> None:
    text = dump(made(zone="lora"))
    assert sha256(text) == sha256(text.encode()) == sha256_of(text.encode()).hexdigest()
    assert sha256(text + " ") != sha256(text)


def stored() -> Callable[[str], str | None]:
    return {sha256_of(text.encode()).hexdigest(): text for text in (FSDP, DEEPSPEED)}.get


def test_verify_proves_a_sound_file_and_names_a_forged_quote() -> None:
    assert verify(load(dump(made())), stored()) == []
    forged = load(dump(made()).replace("32/4 = 8", "32/4 = 9"))
    assert any("c-2" in one and "not the quote" in one for one in verify(forged, stored()))


def test_the_rendering_shows_both_sides_of_a_conflict_with_their_sources() -> None:
    page = to_markdown(made(), stored())
    assert "| `peft/fsdp.md` | `peft/deepspeed.md` |" in page
    row = next(line for line in page.splitlines() if "16/4 = 4" in line and "32/4 = 8" in line)
    assert row.index("16/4") < row.index("32/4")
    assert "[^1]: `peft/fsdp.md`, line 4 (c-1" in page
    assert "`peft/deepspeed.md`, lines 3 to 4" in page
    assert "characters 13" in to_markdown(made())


def test_a_judged_conflict_is_shown_with_its_step_and_the_reviewers_reason() -> None:
    conflict = content()["conflicts"][0]
    judged = {"label": "7", "score": 0.7, "reviewer": "reviewer/llm 1 (qwen): One is per batch."}
    page = to_markdown(made(conflicts=[conflict | judged]))
    assert "step 7 of 10, by a model" in page
    assert "reviewer/llm 1 (qwen): One is per batch." in page
    assert "candidate, score 0.93" in to_markdown(made())


def test_the_rendering_is_honest_about_who_made_it() -> None:
    page = to_markdown(made())
    assert "extractive engine: every sentence is copied" in page
    assert "judged by nobody yet" in page
    assert "Dropped: 2 further drafts of claims" in page
    order = [
        page.index(f"## {title}")
        for title in (
            "What it is",
            "Where the sources disagree",
            "Weak spots",
            "Open questions",
            "Not covered",
            "Sources",
        )
    ]
    assert order == sorted(order)


def test_parameters_stand_in_a_table() -> None:
    page = to_markdown(made(summary=[{"title": "Parameters", "claims": ["c-1", "c-2"]}]))
    assert "| `bnb_4bit_quant_storage` | The ratio is 16/4 = 4" in page


ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "[karkas](https://evil.example)",
    "![x](https://evil.example/t.png)",
    "https://evil.example/a www.evil.example a@evil.example",
    "# a heading",
    "a\n\n# a heading",
    "- a list\n1. one",
    "a | b | c",
    "`code` ``two`` ` alone",
    "`<b>` and \\`<b>\\` and `` `<b> ``",
    "\\<b> \\\\<b>",
    "[^1]: a forged note",
    "[ref]: https://evil.example",
    "&lt;b&gt; &copy;",
    "**bold <b>** __init__ *em*",
    "[a [b](https://evil.example)](https://evil.example)",
    "[x][ref] [`<b>`] <https://evil.example>",
    "---",
    "```\n<b>\n```",
    "x `a|b` \\| y",
    "\u202egnp.exe \u200b\x1b[31m",
]


def rendered(page: str) -> list[Any]:
    from markdown_it import MarkdownIt

    return MarkdownIt("gfm-like", {"html": True, "linkify": False}).enable("table").parse(page)


def skeleton(page: str) -> list[str]:
    """Everything in the page but text and code."""
    flat = [token for block in rendered(page) for token in (block, *(block.children or []))]
    ignored = {"text", "code_inline", "inline", "softbreak", "text_special"}
    return [f"{token.type} {token.attrs}" for token in flat if token.type not in ignored]


@given(st.sampled_from(ATTACKS) | st.lists(st.sampled_from(ATTACKS), max_size=3).map(" ".join) | awkward)
@settings(max_examples=150)
def test_no_source_puts_structure_html_or_links_into_the_rendering(attack: str) -> None:
    def page(text: str) -> str:
        span = {"source": "s-1", "start": 0, "end": len(text), "quote": text}
        return to_markdown(
            made(
                claims=[
                    claim("c-1", text, [span], subject=text, scope={text: text}),
                    claim("c-2", text, [span], mode="code"),
                ],
                sources=[source("s-1", text, FSDP), source("s-2", "b.md", DEEPSPEED)],
                conflicts=[
                    {
                        "id": "k-1",
                        "kind": "numeric",
                        "claims": ["c-1", "c-2"],
                        "detector": "n",
                        "why": text,
                        "score": 1,
                    }
                ],
                open_questions=[{"id": "q-1", "text": text, "raised_by": "w", "would_settle": text}],
                not_covered=[{"topic": text, "why": text}],
                summary=[{"title": f"Part {text}", "claims": ["c-1"]}],
            )
        )

    quiet = page("plain words")
    found = page(f"plain {attack} words")
    assert skeleton(found) == skeleton(quiet)
    assert all(character.isprintable() or character == "\n" for character in found)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_source_that_begins_with_markup_stays_text(attack: str) -> None:
    def page(text: str) -> str:
        return to_markdown(
            made(open_questions=[{"id": "q-1", "text": text, "raised_by": "w", "would_settle": "x"}])
        )

    assert skeleton(page(attack)) == skeleton(page("plain"))


def test_linkified_addresses_are_broken_up() -> None:
    page = to_markdown(
        made(not_covered=[{"topic": "https://evil.example www.evil.example", "why": "a@evil.example"}])
    )
    assert "https\\://evil.example www\\.evil.example: a\\@evil.example" in page


def test_a_diff_says_what_changed_in_words() -> None:
    old = made()
    assert diff(old, old) == []
    reworded = content()["claims"][1] | {"id": "c-9", "text": "The ratio is 32/4 = 8"}
    new = made(
        claims=[content()["claims"][0], reworded],
        sources=[content()["sources"][0], source("s-3", "peft/new\u202e.md", "new")],
        conflicts=[],
        summary=[],
        weak_spots=[],
        open_questions=[{"id": "q-2", "text": "why?", "raised_by": "k-1", "would_settle": "x"}],
    )
    said = "\n".join(diff(old, new))
    for expected in (
        "source gone: peft/deepspeed.md",
        "new source: peft/new⟦U+202E⟧.md (used)",
        "claim c-2 on bnb_4bit_quant_storage reworded as c-9",
        "conflict gone: k-1 (numeric) 4 or 8",
        "question no longer open: q-1",
        "new open question: q-2 why?",
        "no longer a weak spot: w-1",
    ):
        assert expected in said
    assert "new claim" not in said
    assert "claim gone" not in said


def test_a_diff_finds_changed_sources_and_labels() -> None:
    changed = made(
        sources=[
            source("s-1", "peft/fsdp.md", FSDP + "more"),
            content()["sources"][1] | {"status": "skipped"},
        ],
        conflicts=[content()["conflicts"][0] | {"label": "resolved"}],
    )
    said = diff(made(), changed)
    assert "source changed: peft/fsdp.md" in said
    assert "source peft/deepspeed.md was used, is skipped" in said
    assert "conflict k-1 was candidate, is resolved" in said


def test_four_hundred_claims_come_back_as_they_were_written() -> None:
    spans = [evidence("s-1", FSDP, FSDP[10:80])]
    many = made(
        claims=[claim(f"c-{n}", FSDP[10:80], spans) for n in range(400)],
        sources=[source(f"s-{n}", f"docs/{n}.md", FSDP) for n in range(160)],
        summary=[],
        conflicts=[],
    )
    assert load(dump(many)) == many


@pytest.mark.parametrize("name", sorted(schemas()))
def test_the_schema_in_the_documentation_is_up_to_date(name: str) -> None:
    committed = Path(__file__).parents[2] / "docs" / name
    assert committed.read_text(encoding="utf-8") == schemas()[name], (
        "run `python -m karkas.agents.distillate.schemas docs`"
    )
