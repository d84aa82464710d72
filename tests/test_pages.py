"""Pages: what a model or a sample says is text, never markup."""

import jinja2
import pytest

from vistune.pages import render


def test_text_is_escaped_and_the_style_is_shared(tmp_path):
    template = tmp_path / "a.html"
    template.write_text('{% include "style.html" %}<p title="{{ said }}">{{ said | loud }}</p>')
    page = render(template, {"said": '"><script>x</script>'}, {"loud": str.upper})
    assert "<style>" in page
    assert page.endswith(
        '<p title="&#34;&gt;&lt;script&gt;x&lt;/script&gt;">&#34;&gt;&lt;SCRIPT&gt;X&lt;/SCRIPT&gt;</p>'
    )


def test_a_missing_name_is_an_error(tmp_path):
    (tmp_path / "a.html").write_text("{{ absent }}")
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        render(tmp_path / "a.html", {})
