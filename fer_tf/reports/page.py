"""Pages that stand alone: one style, one set of macros, and the pictures that go into them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fer_tf.reports import figures

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """One figure of a page.

    Attributes:
      title: its caption's first line.
      text: what it shows; without a `uri`, what it would need.
      lines: more lines of the caption.
      uri: the picture as a `data:` address; empty when there is none.
      alt: what it shows, for those who do not see it.
      wide: whether it takes the page's whole width.
      pixels: whether it is drawn pixel by pixel and never smoothed.
    """

    title: str
    text: str
    lines: tuple[str, ...] = ()
    uri: str = ""
    alt: str = ""
    wide: bool = False
    pixels: bool = False


def svg(figure: Figure, title: str, text: str, lines: tuple[str, ...] = ()) -> Picture:
    """Returns a drawing as a picture."""
    uri = figures.data_uri(figures.to_svg(figure), "image/svg+xml")
    return Picture(title, text, lines, uri, f"{title}. {text}")


def png(figure: Figure, title: str, text: str) -> Picture:
    """Returns a sheet of photographs as a picture."""
    uri = figures.data_uri(figures.to_png(figure, 200), "image/png")
    return Picture(title, text, (), uri, f"{title}. {text}")


def render(template: str, **values: Any) -> str:
    """Returns a page (HTML, escaped) or a card (Markdown, as it is).

    Args:
      template: a file of `templates/` without its `.j2`, such as `report.html`.
      values: what the template names.
    """
    return _environment().get_template(f"{template}.j2").render(**values)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fer_tf.reports"),
        autoescape=lambda name: ".html" in (name or ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["flags"] = _unbroken_flags
    environment.filters["thousands"] = lambda value: f"{value:,}" if isinstance(value, int) else value
    return environment


def _unbroken_flags(text: str) -> Any:
    """HTML of a text whose flags are not broken at their hyphens."""
    import markupsafe

    flag = markupsafe.Markup('<span class="flag">{}</span>')
    words = (
        flag.format(word) if word.startswith("-") and word != "-" else markupsafe.escape(word)
        for word in text.split(" ")
    )
    return markupsafe.Markup(" ").join(words)
