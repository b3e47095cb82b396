"""The pages for people, as a browser without JavaScript gets them."""

import re
import sqlite3
from html import unescape

import httpx
import pytest

from devstack.opik import present
from devstack.opik.rules import new_id, now_us
from devstack.opik.waterfall import Waterfall, waterfall
from tests.devstack.opik_house import V1, page, score, send, text, trace

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>'


async def test_opik_s_own_address_of_a_trace_shows_it(opik: httpx.AsyncClient) -> None:
    one = trace(input={"goal": "run a 5K"}, output={"title": "12 weeks"}, tags=["local"])
    span = {**trace(trace_id=one["id"], name="generation_stage", type="general"), "id": new_id()}
    await send(opik, "traces", one)
    await send(opik, "spans", span)
    project = (await opik.post(f"{V1}/projects/retrieve", json={"name": "rein"})).json()["id"]
    for workspace in ("default", "my-team"):
        html = await page(
            opik,
            f"/{workspace}/projects/{project}/logs",
            logsType="traces",
            trace=one["id"],
            span=span["id"],
        )
        assert {"run a 5K", "12 weeks", "generation_stage"} <= set(re.findall(r">([^<>]+)<", html))
        assert re.search(rf'id="span-{span["id"]}" open', html)
    link = {"trace_id": str(one["id"]), "path": "aHR0cA=="}
    answer = await opik.get("/api/v1/session/redirect/projects/", params=link)
    assert answer.status_code == 303
    assert "run a 5K" in await page(opik, answer.headers["Location"])


async def test_what_a_model_wrote_is_text_and_nothing_else(opik: httpx.AsyncClient) -> None:
    links = {"workflow_url": "https://temporal.example/w", "evil_url": "javascript:alert(1)"}
    one = trace(
        name=HOSTILE,
        input={HOSTILE: [HOSTILE, {"long": HOSTILE * 40}]},
        metadata={"user_id": HOSTILE, "status": HOSTILE, **links},
        tags=[HOSTILE],
        thread_id=HOSTILE,
        error_info={"exception_type": HOSTILE, "message": HOSTILE, "traceback": HOSTILE},
    )
    await send(opik, "traces", one)
    await send(
        opik, "spans", {**one, "id": new_id(), "trace_id": one["id"], "model": HOSTILE, "usage": {}}
    )
    for path in ("/", f"/traces/{one['id']}", "/feedback", "/evaluations"):
        html = await page(opik, path)
        assert "<script>alert" not in html
        assert "<img" not in html
    html = await page(opik, f"/traces/{one['id']}")
    assert 'href="https://temporal.example/w"' in html
    assert 'href="javascript:' not in html


async def test_characters_that_act_on_a_screen_are_shown_by_name(
    opik: httpx.AsyncClient,
) -> None:
    goal = "run\u202e K5 \x1b[31mred \x07 \U0001f3c3 \u0623\u0631\u064a\u062f"
    one = trace(input={"goal": goal})
    await send(opik, "traces", one)
    for path in ("/traces", f"/traces/{one['id']}"):
        html = await page(opik, path)
        assert "run⟨RLO⟩ K5 ⟨ESC⟩[31mred ⟨07⟩ \U0001f3c3 \u0623\u0631\u064a\u062f" in html
        assert not {"\u202e", "\x1b", "\x07"} & set(html)


async def test_a_big_value_inside_another_is_folded(opik: httpx.AsyncClient) -> None:
    weeks = [{"week": number, "focus": "base"} for number in range(7)]
    one = trace(output={"title": "12 weeks", "weeks": weeks, "milestones": ["one", "two"]})
    await send(opik, "traces", one)
    html = await page(opik, f"/traces/{one['id']}")
    folded = re.findall(r'<details class="long"><summary>(.*?)</summary>', html)
    assert [text(each) for each in folded] == ["7 items 14 values"]


async def test_another_project_is_one_link_away_from_every_page(
    opik: httpx.AsyncClient,
) -> None:
    one = trace()
    await send(opik, "traces", one, trace(project_name="other", name="elsewhere"))
    names = ("rein", "other")
    found = [await opik.post(f"{V1}/projects/retrieve", json={"name": name}) for name in names]
    rein, other = (str(each.json()["id"]) for each in found)
    html = await page(opik, f"/default/projects/{rein}/logs", logsType="traces", trace=one["id"])
    link = re.search(rf'href="([^"]+{other})" *>other<', html)
    assert link
    assert "elsewhere" in await page(opik, unescape(link[1]))


async def test_every_page_says_that_it_is_a_stand_in_and_is_locked_down(
    opik: httpx.AsyncClient,
) -> None:
    one = trace()
    await send(opik, "traces", one)
    tabs = ["/", "/traces", "/feedback", "/evaluations", "/datasets", "/config"]
    for path in (*tabs, f"/traces/{one['id']}", "/no-such-page", f"/traces/{new_id()}"):
        answer = await opik.get(path)
        assert "Local stand-in for Opik" in answer.text
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert "style=" not in answer.text
        assert " on" + "click" not in answer.text
        used = re.findall(r'(?:src|<link[^>]+href)="([^"]+)"', answer.text)
        assert all(each.startswith("/static/") for each in used), used
        for each in used:
            assert (await opik.get(each)).status_code == 200
    assert (await opik.get("/no-such-page")).status_code == 404
    assert (await opik.get("/static/..%2fpages.py")).status_code == 404


async def test_an_empty_receiver_shows_pages_too(opik: httpx.AsyncClient) -> None:
    assert "No traces yet" in await page(opik, "/")
    assert "No ratings" in await page(opik, "/feedback")
    assert "Nothing was evaluated" in await page(opik, "/evaluations")
    assert "No datasets yet" in await page(opik, "/datasets")


async def test_feedback_page_counts_half_stars_up(opik: httpx.AsyncClient) -> None:
    for rating, useful in ((5, 1), (4.5, 1), (3, 0)):
        one = trace()
        await send(opik, "traces", one)
        await score(opik, one["id"], "user_feedback.rating", rating)
        await score(opik, one["id"], "user_feedback.usefulness", useful)
    seen = text(await page(opik, "/feedback"))
    assert "4.2 /5.0" in seen
    assert "5 ★ 2 67% 4 ★ 0 0% 3 ★ 1 33%" in seen
    assert "Usefulness 2/3 67%" in seen
    assert "because of 4.5" in seen


async def test_evaluations_page_averages_and_names_the_quality(opik: httpx.AsyncClient) -> None:
    for overall, clarity in ((8.4, 9), (7.8, 8)):
        one = trace()
        await send(opik, "traces", one)
        await score(opik, one["id"], "evaluation_logged.overall", overall)
        await score(opik, one["id"], "evaluation_logged.clarity", clarity)
    seen = text(await page(opik, "/evaluations"))
    assert "Clarity 8.5/10" in seen
    assert "Overall 8.1/10 GOOD QUALITY 2 scored" in seen
    assert seen.index("7.8/10") < seen.index("8.4/10")


async def test_config_names_faults_and_the_variables(opik: httpx.AsyncClient) -> None:
    await opik.put("/control/fault", json={"kind": "429", "path": "batch"})
    seen = text(await page(opik, "/config"))
    for word in ("OPIK_URL_OVERRIDE", "OPIK_API_KEY", "OPIK_WORKSPACE", "status 429"):
        assert word in seen


def fall(*spans: tuple[str, str | None, float, float | None]) -> Waterfall:
    """A waterfall of (id, parent, start, end), in seconds, of a trace of four seconds."""
    db = sqlite3.connect(":memory:")
    db.row_factory = sqlite3.Row
    columns = "id, name, type, body, usage, cost_pico, parent_span_id, start_us, end_us"
    db.execute(f"CREATE TABLE s ({columns})")
    base = now_us() - 10**12
    for identity, parent, start, end in spans:
        usage = '{"prompt_tokens": 5, "completion_tokens": 7}'
        times = (base + int(start * 1e6), None if end is None else base + int(end * 1e6))
        row = (identity, identity, "llm", "{}", usage, 100, parent, *times)
        db.execute("INSERT INTO s VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    rows = db.execute("SELECT * FROM s").fetchall()
    db.close()
    return waterfall(rows, base, base + 4_000_000)


def test_waterfall_is_the_tree_in_order_of_time() -> None:
    found = fall(("late", None, 2, 3), ("early", None, 0, 2), ("child", "early", 1, 2))
    assert [(bar.id, bar.depth) for bar in found.bars] == [("early", 0), ("child", 1), ("late", 0)]
    assert [(bar.left, bar.width) for bar in found.bars] == [(0, 50), (25, 25), (50, 25)]
    early = found.bars[0]
    assert (early.own.cost_pico, early.total.cost_pico) == (100, 200)
    assert (found.total.input_tokens, found.total.output_tokens) == (15, 21)
    assert [us for _, us in found.ticks] == [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000]


@pytest.mark.parametrize(
    ("seconds", "ticks"),
    [
        (0.05, [0, 0.01, 0.02, 0.03, 0.04, 0.05]),
        (50, [0, 10, 20, 30, 40, 50]),
        (130, [0, 30, 60, 90, 120]),
        (29 * 60, [0, 300, 600, 900, 1200, 1500]),
        (20 * 3600, [0, 6 * 3600, 12 * 3600, 18 * 3600]),
    ],
)
def test_an_axis_has_round_steps(seconds: float, ticks: list[float]) -> None:
    found = waterfall([], 1, 1 + int(seconds * 1e6))
    assert [us / 1e6 for _, us in found.ticks] == ticks


def test_waterfall_keeps_what_does_not_fit() -> None:
    found = fall(("a", "b", 0, 1), ("b", "a", 1, 2), ("lost", "nowhere", 2, None))
    assert [(bar.id, bar.orphan) for bar in found.bars] == [
        ("a", True),
        ("b", True),
        ("lost", True),
    ]
    assert found.bars[2].width == 50


@pytest.mark.parametrize(
    ("us", "words"),
    [
        (None, "–"),
        (450, "0.5 ms"),
        (48_000, "48 ms"),
        (370_000, "0.37 s"),
        (3_200_000, "3.2 s"),
        (42_000_000, "42 s"),
        (245_000_000, "4 min 5 s"),
        (300_000_000, "5 min"),
        (3_600_000_000 * 30, "30 h 0 min"),
    ],
)
def test_durations(us: int | None, words: str) -> None:
    assert present.duration(us) == words


@pytest.mark.parametrize(
    ("pico", "words"),
    [
        (None, "–"),
        (0, "$0"),
        (175_200_000, "$0.000175"),
        (17_520_000_000, "$0.0175"),
        (2_500_000_000_000, "$2.50"),
        (10, "under $0.000001"),
    ],
)
def test_money(pico: int | None, words: str) -> None:
    assert present.money(pico) == words
