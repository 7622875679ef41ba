import io

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer

from karkas.agents.sources.pdf import read_pdf
from karkas.policies.errors import SourceError
from karkas.server.documents import BlockKind


def drawn(*lines: tuple[int, str], encrypt: StandardEncryption | None = None) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, encrypt=encrypt)
    canvas.setTitle("On rank")
    for height, line in lines:
        canvas.drawString(72, height, line)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def test_paragraphs_are_parted_by_gaps_and_hyphenated_words_joined() -> None:
    raw = drawn(
        (780, "2.1 Choosing the rank"),
        (760, "The rank decides how large the up-"),
        (746, "date matrices are, and how much the"),
        (732, "model can learn."),
        (700, "A second paragraph stands apart"),
        (686, "from the first one."),
    )
    extract = read_pdf(raw)
    assert [(block.kind, extract.text[block.start : block.end]) for block in extract.blocks] == [
        (BlockKind.HEADING, "2.1 Choosing the rank"),
        (
            BlockKind.PARAGRAPH,
            "The rank decides how large the update matrices are, and how much the\nmodel can learn.",
        ),
        (BlockKind.PARAGRAPH, "A second paragraph stands apart\nfrom the first one."),
    ]
    assert extract.repairs == ("hyphenation: 1 words joined",)
    assert extract.title == "On rank"
    assert extract.modified is not None


def test_a_document_of_several_pages_is_read_to_its_end() -> None:
    buffer = io.BytesIO()
    style = getSampleStyleSheet()["BodyText"]
    story = [
        part for n in range(80) for part in (Paragraph(f"Fact number {n} is stated here."), Spacer(1, 12))
    ]
    SimpleDocTemplate(buffer, title="Facts").build([*story, Paragraph("The end.", style)])
    extract = read_pdf(buffer.getvalue())
    facts = [block for block in extract.blocks if block.kind is BlockKind.PARAGRAPH]
    assert len(facts) == 81  # the first and last lines of the pages differ in a number only, and stay
    assert extract.text.rstrip().endswith("The end.")


def test_page_headers_are_left_out_and_paragraphs_go_on_over_the_page() -> None:
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for number, line in enumerate(
        ["The rank that was chosen", "for the first layer decides.", "Alpha scales it."], 1
    ):
        canvas.drawString(72, 800, "A Handbook")
        canvas.drawString(72, 700, line)
        canvas.drawString(300, 40, str(number))
        canvas.showPage()
    canvas.save()
    extract = read_pdf(buffer.getvalue())
    assert extract.text == "The rank that was chosen\nfor the first layer decides.\n\nAlpha scales it.\n"
    assert extract.repairs == ("page headers and numbers: 6 lines left out",)


def test_an_encrypted_one_says_so() -> None:
    with pytest.raises(SourceError, match="encrypted"):
        read_pdf(drawn((700, "Secret words of some length."), encrypt=StandardEncryption("pw", canPrint=0)))


def test_one_without_text_says_so() -> None:
    with pytest.raises(SourceError, match="no text layer"):
        read_pdf(drawn())


def test_what_is_no_pdf_says_so() -> None:
    with pytest.raises(SourceError, match="not a PDF"):
        read_pdf(b"%PDF-1.7 broken")
