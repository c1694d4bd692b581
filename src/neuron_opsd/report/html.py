"""What every page is made with: one template environment, one style, one policy.

Every word that comes from a model, a data set or a user passes through two gates that
no part of a template can go round: `presentable` writes out control characters, and
Jinja's autoescape makes the rest harmless. Only SVG from our own code is markup.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from neuron_opsd.report import wording
from neuron_opsd.report.charts.svg import PALETTE, share_bar
from neuron_opsd.report.tables import said

LONGEST_PROMPT = 12_000
LONGEST_TEXT = 2_000


def render_template(name: str, values: Mapping[str, object], *more_styles: str) -> str:
    """Fill a template of this package; equal values give equal bytes."""
    style = style_sheet(*more_styles)
    template, policy = environment().get_template(name), security_policy(style)
    return template.render(
        values, style=Markup(style), policy=policy, longest_text=LONGEST_TEXT
    )


def environment(*, autoescape: bool = True) -> Environment:
    """Return the template environment, with the filters that write numbers."""
    made = Environment(
        autoescape=autoescape,
        finalize=presentable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=FunctionLoader(resource),
    )
    made.filters.update(
        {
            "brief": wording.one_line,
            "clip": clip,
            "number": wording.number,
            "percent": wording.percent,
            "said": said,
            "share_bar": share_bar,
            "size": wording.size,
            "tail": wording.tail,
            "token": wording.token,
        }
    )
    return made


def resource(name: str) -> str:
    """Return a file of this package."""
    return (files("neuron_opsd.report") / "templates" / name).read_text("utf-8")


def presentable(value: object) -> object:
    """Make the unseen characters of a plain string seen; leave our markup alone."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return wording.visible(value)
    return value


def clip(text: str, limit: int) -> str:
    """Cut a very long text, and say how much is missing, within the limit.

    What was cut is not cut again by the same limit.
    """
    if len(text) <= limit:
        return text
    kept = max(0, limit - len(f"\n[{len(text):,} more characters]"))
    return f"{text[:kept]}\n[{len(text) - kept:,} more characters]"


def style_sheet(*more: str) -> str:
    """Return `page.css` and more, with the palette's colours written before them."""
    light, dark = (
        "".join(f"--{role}:{pair[scheme]};" for role, pair in PALETTE.items())
        for scheme in (0, 1)
    )
    sheets = "".join(resource(name) for name in ("page.css", *more))
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"{sheets}"
    )


def security_policy(style: str) -> str:
    """Return a policy that allows this style sheet and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest())
    return (
        f"default-src 'none'; style-src 'sha256-{digest.decode('ascii')}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
