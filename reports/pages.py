"""Pages that stand alone: templates rendered with their stylesheet and script inside."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports.visible_text import visible

TEMPLATES = Path(__file__).parent / "templates"
_CSS_COMMENT = re.compile(r"/\*.*?\*/\s*", re.DOTALL)


def html_page(template: str, *, script_file: str = "report.js", **values: object) -> str:
    """``template`` rendered as one HTML file that may load nothing and run only its own script.

    Every value is escaped unless a chart function made it; an undefined name is an error.
    """
    style = _CSS_COMMENT.sub("", (TEMPLATES / "report.css").read_text(encoding="utf-8"))
    script = (TEMPLATES / script_file).read_text(encoding="utf-8")
    page = _environment(autoescape=True).get_template(template)
    return page.render(
        style=Markup(style),
        script=Markup(script),
        policy=_content_security_policy(style, script),
        **values,
    )


def text_page(template: str, **values: object) -> str:
    """``template`` rendered as plain text, with nothing escaped."""
    return _environment(autoescape=False).get_template(template).render(**values)


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["visible"] = visible
    return environment


def _content_security_policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    """How a Content-Security-Policy names an inline text (CSP level 3, section 6.7.2)."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
