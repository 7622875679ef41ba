import pytest
from hypothesis import given
from hypothesis import strategies as st

from karkas.agents.sources.decoding import decode, mend
from karkas.policies.errors import SourceError

RUSSIAN = "Ранг матриц — размер обновления.\nplain line\nИ ещё 🔍 «строка».\n"


def mac_roman(text: str) -> str:
    return text.encode().decode("mac_roman")


def test_utf8_that_was_read_as_mac_roman_is_readable_again_and_told() -> None:
    decoded = decode(mac_roman(RUSSIAN).encode())
    assert decoded.text == RUSSIAN
    assert decoded.repairs == ("mac-roman-mojibake: 2 of 2 lines",)


def test_a_line_half_mojibake_is_mended_where_it_can_be() -> None:
    broken = mac_roman(RUSSIAN) + "Итог: " + mac_roman("ранг") + "\n"
    decoded = decode(broken.encode())
    assert decoded.text.endswith("Итог: ранг\n")


def test_signs_that_could_be_mojibake_stay_where_the_rest_is_sound() -> None:
    sound = "Диапазон 0–∞ для всех значений этого параметра.\n"
    assert decode(sound.encode()) == (sound, "utf-8", ())


def test_usual_mojibake_is_mended_line_by_line() -> None:
    decoded = decode("Itâ€™s the cafÃ©.\nCafé stays.\n".encode())
    assert decoded.text == "It’s the café.\nCafé stays.\n"
    assert decoded.repairs == ("mojibake: 1 of 2 lines",)


def test_code_is_not_mended_because_it_may_quote_mojibake() -> None:
    assert decode('x = "cafÃ©"'.encode(), prose=False).text == 'x = "cafÃ©"'


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "utf-16"])
def test_other_encodings_are_found(encoding: str) -> None:
    text = "Ранг матриц задаёт размер обновления, а коэффициент его масштаб. " * 4
    assert decode(text.encode(encoding)).text == text


def test_a_byte_order_mark_is_removed_and_told() -> None:
    decoded = decode(b"\xef\xbb\xbf# A")
    assert (decoded.text, decoded.repairs) == ("# A", ("byte order mark removed (utf-8)",))


def test_control_and_direction_characters_stay_because_evidence_is_exact() -> None:
    text = "pay \u202eevil\u202c and zero\u200bwidth e\u0301\n"
    assert decode(text.encode()).text == text


@pytest.mark.parametrize(
    "raw", [b"\x00\x01PNG", bytes(range(1, 32)) * 20, b"\x89PNG\r\n\x1a\n" + bytes(range(256))]
)
def test_what_is_no_text_says_so(raw: bytes) -> None:
    with pytest.raises(SourceError, match="binary"):
        decode(raw)


@given(st.text(max_size=300))
def test_mending_never_changes_how_many_lines_there_are(text: str) -> None:
    assert mend(text)[0].count("\n") == text.count("\n")
