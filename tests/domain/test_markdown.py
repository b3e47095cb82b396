"""A person's words on the pages of the Temporal UI, which reads them as Markdown."""

import pytest

from domain.text import as_markdown


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("Run a 5K by end of Q1, at last!", "Run a 5K by end of Q1, at last!"),
        ("see https://evil.example/x", r"see https\://evil.example/x"),
        ("see www.evil.example", r"see www\.evil.example"),
        ("mail me@evil.example", r"mail me\@evil.example"),
        ("[click](javascript:x) ![i](//e/i.png)", r"\[click\](javascript:x) !\[i\](//e/i.png)"),
        ("**bold** _it_ `code` ~~no~~", r"\*\*bold\*\* \_it\_ \`code\` \~\~no\~\~"),
        ("<img src=x> &lt;b&gt;", r"\<img src=x\> \&lt;b\&gt;"),
        ("one\n\n# two\n- three", "one # two - three"),
        (r"a\b", r"a\\b"),
    ],
)
def test_it_shows_as_it_was_said(said: str, written: str) -> None:
    assert as_markdown(said) == written
