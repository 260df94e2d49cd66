"""The golden table: what the planner makes of every GPU and model of the catalogue."""

from __future__ import annotations

from glm_dev import fit_table


def test_the_page_is_what_the_planner_says() -> None:
    assert fit_table.PAGE.read_text() == fit_table.page(), (
        "docs/gpus.md differs: see whether each changed line is meant, then renew it with "
        "`python -m glm_dev.fit_table --write`"
    )
