"""The timeline widget: its state in Python, its still picture, and view modules that parse."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import labkit.widgets
from labkit.errors import UsageError
from labkit.measure import Span, Timeline
from labkit.widgets import TimelineView

FOLDER = Path(labkit.widgets.__file__).parent
TIMELINE = Timeline(
    spans=(
        Span(lane="rank 0", name="forward <b>", start_s=100.0, end_s=100.004, category="compute", args={"bytes": 64}),
        Span(lane="rank 1", name="wait", start_s=100.001, end_s=100.003),
    )
)
LIVE = "application/vnd.jupyter.widget-view+json"


def test_time_stays_within_the_timeline() -> None:
    view = TimelineView(TIMELINE)
    assert view.time_s == 100.0
    view.time_s = 0.0
    assert view.time_s == 100.0
    view.time_s = 1e9
    assert view.time_s == 100.004
    with pytest.raises(UsageError, match="time_s must be a time"):
        view.time_s = float("nan")


def test_at_says_what_each_lane_does() -> None:
    view = TimelineView(TIMELINE, time_s=100.002)
    assert {lane: span and span.name for lane, span in view.at().items()} == {"rank 0": "forward <b>", "rank 1": "wait"}
    view.time_s = 100.0035
    assert view.at()["rank 1"] is None


def test_state_is_what_the_view_gets() -> None:
    view = TimelineView(TIMELINE, speed=2.0)
    state = json.loads(json.dumps({name: getattr(view, name) for name in ("data", "time_s", "playing", "speed")}))
    assert (state["time_s"], state["playing"], state["speed"]) == (100.0, False, 2.0)
    data = state["data"]
    assert (data["lanes"], data["unit"], data["scale"]) == (["rank 0", "rank 1"], "ms", 1e-3)
    assert data["busy"] == pytest.approx([1.0, 0.5])
    assert [category["name"] for category in data["categories"]] == ["compute", "wait"]
    assert data["spans"][0] == {
        "lane": 0, "start": 100.0, "end": 100.004, "name": "forward <b>", "category": 0, "detail": "bytes = 64",
    }  # fmt: skip


def test_the_front_end_moves_the_state() -> None:
    view = TimelineView(TIMELINE)
    view.set_state({"time_s": 100.002, "playing": True, "speed": 4.0})
    assert (view.time_s, view.playing, view.speed) == (100.002, True, 4.0)
    with pytest.raises(UsageError, match=r"speed must be one of 0\.25, 0\.5, 1, 2, 4; got 3"):
        view.speed = 3.0


def test_a_still_picture_stands_beside_the_live_view() -> None:
    bundle, metadata = TimelineView(TIMELINE)._repr_mimebundle_()
    assert LIVE in bundle
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert (
        bundle["text/plain"]
        == "rank 0 is busy 100% of the time, rank 1 50%. 2 lanes over 4 ms; busy: rank 0 100%, rank 1 50%."
    )
    assert metadata["image/png"]["width"] == 700


def test_without_a_front_end_only_the_still_picture_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    bundle, _ = TimelineView(TIMELINE)._repr_mimebundle_()
    assert set(bundle) == {"image/png", "text/plain"}


def test_an_empty_timeline_is_refused() -> None:
    with pytest.raises(UsageError, match="record at least one"):
        TimelineView(Timeline(spans=()))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda p: p.name)
def test_view_modules_parse(path: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the browser test loads the modules all the same")
    module = tmp_path / f"{path.stem}.mjs"
    module.write_text(path.read_text())
    subprocess.run([node, "--check", str(module)], check=True)


def test_the_joined_timeline_module_has_one_export_with_clock_and_view(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the browser test loads the module all the same")
    module = tmp_path / "timeline.mjs"
    module.write_text(str(TimelineView._esm))
    script = f"import view from {json.dumps(module.as_uri())}; console.log(Object.keys(view).sort().join())"
    ran = subprocess.run([node, "--input-type=module", "-e", script], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "initialize,render"


def test_no_view_parses_text_as_html() -> None:
    for path in FOLDER.glob("*.js"):
        assert "innerHTML" not in path.read_text(), path.name
        assert "insertAdjacentHTML" not in path.read_text(), path.name
