"""Which task a request is, by plain rules on the words of its last user message.

Rules in order, first match wins: screenshot with tools that operate a screen; design to code;
visual maths; grounding; OCR and charts; else general. Words are English and Chinese.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from glm_serving.gateway.priors import (
    DESIGN_TO_CODE,
    GENERAL,
    GROUNDING,
    GUI_AGENT,
    LONG_VIDEO,
    OCR_AND_CHARTS,
    VISUAL_MATHS,
)

if TYPE_CHECKING:
    from glm_serving.gateway.facts.model import Opening


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[a-z0-9]+")
_SCREEN_TOOL_WORDS = _words(
    "click tap scroll swipe drag type key keyboard mouse press hover browser navigate goto "
    "computer screen screenshot window cursor desktop"
)
_WORDS = (
    (
        DESIGN_TO_CODE,
        _words("html css jsx tsx react vue svelte tailwind frontend webpage svg"),
        ("front end", "front-end", "web page", "网页", "前端", "页面代码"),
    ),
    (
        VISUAL_MATHS,
        _words(
            "solve equation equations prove theorem geometry triangle integral derivative "
            "trigonometry hypotenuse perimeter radius"
        ),
        ("\\frac", "$$", "求解", "方程", "证明", "三角形", "面积"),
    ),
    (
        GROUNDING,
        _words("locate bbox coordinates coordinate pinpoint localize"),
        ("bounding box", "point to", "where is the", "定位", "坐标", "框出"),
    ),
    (
        OCR_AND_CHARTS,
        _words(
            "ocr transcribe read text extract invoice receipt table chart plot graph axis document "
            "handwriting scanned legend"
        ),
        ("识别", "文字", "发票", "图表", "表格"),
    ),
)


def operates_screen(tool_name: str) -> bool:
    """Whether a tool's name says that it clicks, types or looks at a screen."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", tool_name).lower()
    return not _SCREEN_TOOL_WORDS.isdisjoint(_WORD.findall(spaced))


def infer(opening: Opening, screen_tools: bool, tools: bool) -> str:
    """The task of a request with media; empty where tools are offered and no rule knows them."""
    if opening.videos:
        return LONG_VIDEO
    if screen_tools:
        return GUI_AGENT
    lowered = opening.text.lower()
    words = frozenset(_WORD.findall(lowered))
    for task, single, phrases in _WORDS:
        if not single.isdisjoint(words) or any(phrase in lowered for phrase in phrases):
            return task
    return "" if tools else GENERAL
