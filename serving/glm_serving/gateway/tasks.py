"""Which task a request is, by plain rules on its tools, system text and last user message.

Rules in order, first match wins: a video; tools that operate a screen, or words that ask for the
next act on one; design to code; visual maths; grounding; OCR and charts; else general. Words are
English, Chinese, and the plainest ones of a few other languages.
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
_SCREEN_AGENT = re.compile(
    r"\b(gui|ui|web|browser|mobile|phone|desktop|computer[- ]use) (automation )?agent\b"
    r"|\b(operate|control|drive|use) (a|an|the|this|my) "
    r"(phone|smartphone|tablet|computer|browser|desktop|device)\b"
    r"|\bnext (ui )?action\b|\bi (click|tap|press) next\b|\b(click|tap|type|scroll)\("
    r"|下一步(操作|点击)"
)
"""An agent without function calling says in its prompt that it operates a screen."""
_SCREEN_HINTS = (
    *("agent", "phone", "tablet", "computer", "browser", "desktop", "device", "action", " next"),
    *("click(", "tap(", "type(", "scroll(", "下一步"),
)
"""One of these is in every text that the pattern above matches; looking for them is much faster."""
_ACTS = _words(
    "click tap scroll swipe drag type hover hotkey keyboard mouse screenshot pyautogui press"
)
_MOST_ACTS = 2
"""So many of these words may stand in the system text of a request that operates no screen."""
_ROLE_CHARS = 200
"""Where a system text says what its model is; read where the user's words say nothing."""
_WORDS = (
    (
        DESIGN_TO_CODE,
        _words(
            "html css scss jsx tsx react vue vue3 svelte tailwind bootstrap frontend webpage svg "
            "swiftui uikit flutter qml javascript typescript stylesheet markup mockup figma "
            "wireframe tikz d3 matplotlib plotly"
        ),
        (
            *("web page", "landing page", "front-end code", "jetpack compose", "mock-up"),
            *("网页", "前端", "页面代码", "设计稿", "webseite", "página web", "page web"),
        ),
    ),
    (
        VISUAL_MATHS,
        _words(
            "solve equation equations prove proof theorem geometry triangle triangles integral "
            "derivative derivation trigonometry hypotenuse perimeter radius angle slope volume "
            "matrix probability homework calculate compute diameter tangent perpendicular subtract "
            "quadrilateral parallelogram rhombus trapezoid circumference polynomial vertices "
            "berechne calcula"
        ),
        (
            *("\\frac", "\\angle", "\\overline", "\\circ", "$$", "∠", "⊙", "△", "∥", "⊥", "°"),
            *("area of", "length of", "value of", "find x", "find y", "find $", "work out"),
            *("as shown in the figure", "comes next in this sequence"),
            *("求解", "解这道", "方程", "证明", "求证", "三角形", "面积", "如图", "度数", "を求め"),
        ),
    ),
    (
        GROUNDING,
        _words("locate bbox coordinates coordinate pinpoint localize localise polygon"),
        (
            *("bounding box", "point to", "where is the", "box around", "at which pixel"),
            *("定位", "坐标", "框出", "koordinaten", "coordenadas"),
        ),
    ),
    (
        OCR_AND_CHARTS,
        _words(
            "ocr transcribe read extract invoice invoices receipt receipts table chart charts "
            "graph axis document contract clause signature handwriting handwritten scan scanned "
            "legend csv markdown menu percentage rechnung facture factura"
        ),
        (
            *("the text", "all text", "text in", "text on", "line plot", "scatter plot"),
            *("it say", "sign say", "message say", "says", "is written", "is printed"),
            *("business card", "error message", "bar chart", "pie chart"),
            *("识别", "文字", "发票", "图表", "表格", "レシート", "請求書", "cartel"),
        ),
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
    lowered, system = opening.text.lower(), opening.system.lower()
    if screen_tools or _asks_for_an_act(lowered, system):
        return GUI_AGENT
    task = _by_words(lowered) or _by_words(system[:_ROLE_CHARS])
    return task or ("" if tools else GENERAL)


def _by_words(lowered: str) -> str:
    words = frozenset(_WORD.findall(lowered))
    for task, single, phrases in _WORDS:
        if not single.isdisjoint(words) or any(phrase in lowered for phrase in phrases):
            return task
    return ""


def _asks_for_an_act(lowered: str, system: str) -> bool:
    if _operates(lowered):
        return True
    if not system:
        return False
    acts = _ACTS.intersection(_WORD.findall(system))
    return len(acts) > _MOST_ACTS or _operates(system)


def _operates(lowered: str) -> bool:
    hinted = any(hint in lowered for hint in _SCREEN_HINTS)
    return hinted and _SCREEN_AGENT.search(lowered) is not None
