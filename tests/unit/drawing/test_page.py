"""Pages: one file, valid, and what comes from elsewhere is text in it."""

from __future__ import annotations

from html.parser import HTMLParser

from paramserver.drawing.page import Html, figure, figures, page, section, settings, table

EVIL = "<img src=x onerror=alert(1)>"


class Seen(HTMLParser):
    """Takes down the elements, and complains of what is not closed."""

    VOID = ("meta", "img", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def everything(word: str) -> str:
    return page(
        word,
        section(word, word, figure(word, word, Html("<svg></svg>"), word))
        + figures([(word, word, word)])
        + table([word], [[word]])
        + settings([(word, word)]),
    )


def test_a_page_is_well_formed_and_loads_nothing() -> None:
    seen = Seen(everything("word"))
    assert not {"script", "link", "img", "iframe"} & set(seen.names)
    assert "url(" not in everything("word")


def test_text_is_text_wherever_it_goes() -> None:
    assert "img" not in Seen(everything(EVIL)).names


def test_what_is_html_already_stays_it() -> None:
    assert "<td><b>1</b></td>" in table(["a", "n"], [["x", Html("<b>1</b>")]])


def test_words_stand_at_the_left_and_numbers_at_the_right() -> None:
    text = table(["name", "n"], [["x", 1]])
    assert '<td class="left">x</td><td>1</td>' in text


def test_light_and_dark_are_the_readers_choice() -> None:
    assert "@media (prefers-color-scheme: dark)" in page("t", "b")
