from __future__ import annotations

from clinimm.report.markdown import to_html


def test_headings_paragraphs_lists_bold_and_code() -> None:
    html = to_html("# One\n\nText **bold** `code`\nsame paragraph.\n\n- a\n- b\n  goes on\n\n## Two\n- c")
    assert html == (
        "<h3>One</h3>\n<p>Text <strong>bold</strong> <code>code</code> same paragraph.</p>\n"
        "<ul><li>a</li><li>b goes on</li></ul>\n<h4>Two</h4>\n<ul><li>c</li></ul>"
    )


def test_html_and_links_do_not_pass(xss: tuple[str, ...]) -> None:
    for text in xss:
        html = to_html(f"- {text}\n\n{text} [here](javascript:alert(1))")
        assert "<script" not in html and "<img" not in html and "<iframe" not in html
        assert "href" not in html.replace("href=&#39;", "")
