from karkas.agents.sources.html import read_html
from karkas.server.documents import BlockKind

PAGE = """<!doctype html><html><head><title>Retrying – Docs</title>
<meta property="article:modified_time" content="2026-02-03T10:00:00Z"><style>p {}</style></head>
<body><nav><a href=/>Home</a></nav><header>Logo</header>
<main><h1>Retrying<a class="headerlink" href="#x">¶</a></h1>
<p>Stops after <b>three</b>
   attempts &amp; waits.</p>
<ul><li>first <code>item</code><ul><li>nested</li></ul></li><li><p>second</p></li><li><a href=x>Elsewhere</a></li></ul>
<table><tr><th>Name<th>Default</tr><tr><td>stop</td><td>3</td></tr></table>
<pre>x = 1
  y = 2</pre>
<dl><dt class="sig sig-object py">wait(seconds=1)</dt><dd>Waits.</dd></dl>
Loose text<div>in a div</div>
<script>alert("no")</script></main><footer>© us</footer></body></html>"""


def test_the_main_content_is_read_block_by_block() -> None:
    extract = read_html(PAGE)
    assert [(block.kind, extract.text[block.start : block.end]) for block in extract.blocks] == [
        (BlockKind.HEADING, "Retrying"),
        (BlockKind.PARAGRAPH, "Stops after three attempts & waits."),
        (BlockKind.ITEM, "first item"),
        (BlockKind.ITEM, "nested"),
        (BlockKind.ITEM, "second"),
        (BlockKind.OTHER, "Elsewhere"),
        (BlockKind.ROW, "Name | Default"),
        (BlockKind.ROW, "stop | 3"),
        (BlockKind.CODE, "x = 1\n  y = 2"),
        (BlockKind.SIGNATURE, "wait(seconds=1)"),
        (BlockKind.PARAGRAPH, "Waits."),
        (BlockKind.PARAGRAPH, "Loose text"),
        (BlockKind.PARAGRAPH, "in a div"),
    ]
    assert extract.title == "Retrying"
    assert extract.modified == "2026-02-03"


def test_a_page_without_main_is_read_whole_and_named_by_its_title() -> None:
    extract = read_html("<title>T</title><p>All of it.</p>")
    assert (extract.title, extract.text) == ("T", "All of it.\n")
