"""How far the flagship leads flash at each task, from the vendor's published benchmarks.

The scores are those of `facts/glm-4.6v.yaml` (percent, GLM-4.6V and GLM-4.6V-Flash, December 2025).
A lead is a prior: measured on benchmarks, not on anybody's requests.
"""

from __future__ import annotations

from types import MappingProxyType

GUI_AGENT = "gui-agent"
DESIGN_TO_CODE = "design-to-code"
LONG_VIDEO = "long-video"
"""No figure is published for it, so it has no lead."""
OCR_AND_CHARTS = "ocr-and-charts"
VISUAL_MATHS = "visual-maths"
GROUNDING = "grounding"
GENERAL = "general"
TASKS = (
    GUI_AGENT,
    DESIGN_TO_CODE,
    LONG_VIDEO,
    OCR_AND_CHARTS,
    VISUAL_MATHS,
    GROUNDING,
    GENERAL,
)
"""The values of `x-glm-task`."""

SCORES = MappingProxyType(
    {
        # benchmark: (GLM-4.6V, GLM-4.6V-Flash)
        "MMBench V1.1": (88.8, 86.9),
        "MMBench V1.1 (CN)": (88.2, 85.9),
        "MMStar": (75.9, 74.7),
        "MUIRBENCH": (77.1, 75.7),
        "MMMU (Val)": (76.0, 71.1),
        "MMMU_Pro": (66.0, 60.6),
        "MathVista": (85.2, 82.7),
        "AI2D": (88.8, 89.2),
        "Design2Code": (88.6, 69.8),
        "OSWorld": (37.2, 21.1),
        "WebVoyager": (81.0, 71.8),
        "OCRBench": (86.5, 84.7),
        "OCR-Bench_v2 (EN)": (65.1, 63.5),
        "ChartQAPro": (65.5, 62.6),
        "RefCOCO-avg (val)": (88.6, 85.6),
    }
)
BENCHMARKS = MappingProxyType(
    {
        GUI_AGENT: ("OSWorld", "WebVoyager"),
        DESIGN_TO_CODE: ("Design2Code",),
        OCR_AND_CHARTS: ("OCRBench", "OCR-Bench_v2 (EN)", "ChartQAPro"),
        VISUAL_MATHS: ("MMMU (Val)", "MMMU_Pro", "MathVista"),
        GROUNDING: ("RefCOCO-avg (val)",),
        GENERAL: ("MMBench V1.1", "MMBench V1.1 (CN)", "MMStar", "MUIRBENCH", "AI2D"),
    }
)


def _mean_lead(task: str) -> float:
    leads = [SCORES[name][0] - SCORES[name][1] for name in BENCHMARKS[task]]
    return round(sum(leads) / len(leads), 2)


LEADS = MappingProxyType({task: _mean_lead(task) for task in BENCHMARKS})
"""Task -> mean lead of the flagship in percentage points; a task without figures is missing."""
