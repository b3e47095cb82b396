"""The pages for people, as a browser without JavaScript gets them."""

import re
import sqlite3
from html import unescape

import httpx

from devstack.opik import present
from devstack.opik.rules import new_id, now_us, to_pico
from devstack.opik.waterfall import Waterfall, waterfall
from tests.devstack.opik_house import V1, page, score, send, span, text, trace

HOSTILE = '<script>alert("1")</script><img src=x onerror=alert(2)>'


async def test_opik_s_own_address_of_a_trace_shows_it(opik: httpx.AsyncClient) -> None:
    one = trace(input={"goal": "run a 5K"}, output={"title": "12 weeks"}, tags=["local"])
    stage = span(one["id"], name="generation_stage")
    await send(opik, "traces", one)
    await send(opik, "spans", stage)
    project = (await opik.post(f"{V1}/projects/retrieve", json={"name": "rein"})).json()["id"]
    for workspace in ("default", "my-team"):
        html = await page(
            opik,
            f"/{workspace}/projects/{project}/logs",
            logsType="traces",
            trace=one["id"],
            span=stage["id"],
        )
        assert {"run a 5K", "12 weeks", "generation_stage"} <= set(re.findall(r">([^<>]+)<", html))
        assert re.search(rf'id="span-{stage["id"]}" open', html)


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
    await send(opik, "spans", span(one["id"], name=HOSTILE, model=HOSTILE, input=HOSTILE))
    await score(opik, one["id"], HOSTILE, 1)
    for path in ("/", f"/traces/{one['id']}"):
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
    tabs = ["/", "/traces", "/datasets", "/config"]
    for path in (*tabs, f"/traces/{one['id']}", "/no-such-page", f"/traces/{new_id()}"):
        answer = await opik.get(path)
        assert "Local stand-in for Opik" in answer.text
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert "style=" not in answer.text
        assert not re.search(r"<script| on[a-z]+=", answer.text)
        used = re.findall(r'(?:src|<link[^>]+href)="([^"]+)"', answer.text)
        assert all(each.startswith("/static/") for each in used), used
        for each in used:
            assert (await opik.get(each)).status_code == 200
    assert (await opik.get("/no-such-page")).status_code == 404
    assert (await opik.get("/static/..%2fpages.py")).status_code == 404


async def test_an_empty_receiver_shows_pages_too(opik: httpx.AsyncClient) -> None:
    assert "No traces yet" in await page(opik, "/")
    assert "No datasets yet" in await page(opik, "/datasets")


async def test_a_trace_s_scores_are_listed_with_their_reasons(opik: httpx.AsyncClient) -> None:
    one = trace()
    await send(opik, "traces", one)
    await score(opik, one["id"], "user_feedback.rating", 4.5)
    seen = text(await page(opik, f"/traces/{one['id']}"))
    assert "user_feedback.rating 4.5 Just now because of 4.5" in seen


async def test_a_dataset_and_its_experiment(opik: httpx.AsyncClient) -> None:
    item = {"id": new_id(), "data": {"input": "run a 5K"}}
    body = {"dataset_name": "low-scoring", "items": [{**item, "source": "sdk"}]}
    (await opik.put(f"{V1}/datasets/items", json=body)).raise_for_status()
    one, experiment = trace(output={"title": "12 weeks"}), new_id()
    await send(opik, "traces", one)
    await score(opik, one["id"], "has_plan", 1)
    named = {"id": experiment, "name": "generate-v2", "dataset_name": "low-scoring"}
    (await opik.post(f"{V1}/experiments", json=named)).raise_for_status()
    tried = {"experiment_id": experiment, "dataset_item_id": item["id"], "trace_id": one["id"]}
    items = {"experiment_items": [tried]}
    (await opik.post(f"{V1}/experiments/items", json=items)).raise_for_status()
    html = await page(opik, "/datasets")
    assert "generate-v2 1 items on low-scoring has_plan 1" in text(html)
    for path in re.findall(r'href="(/(?:datasets|experiments)/[^"]+)"', html):
        seen = text(await page(opik, unescape(path)))
        assert {"generate-v2", "run a 5K"} <= set(re.findall("generate-v2|run a 5K", seen))
    assert "12 weeks" in await page(opik, f"/experiments/{experiment}")


async def test_config_names_faults_and_the_variables(opik: httpx.AsyncClient) -> None:
    await opik.post("/control/faults", json={"kind": "429", "path": "batch"})
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
    assert early.total.cost_pico == 200
    assert (found.total.input_tokens, found.total.output_tokens) == (15, 21)
    assert found.ticks == [(25 * second, second * 1_000_000) for second in range(4)]


def test_waterfall_keeps_what_does_not_fit() -> None:
    found = fall(("a", "b", 0, 1), ("b", "a", 1, 2), ("lost", "nowhere", 2, None))
    orphans = [bar.id for bar in found.bars if bar.orphan]
    assert orphans == ["a", "b", "lost"]
    assert found.bars[2].width == 50


def test_durations_and_money_have_the_digits_they_need() -> None:
    seconds = (0.00045, 0.048, 0.37, 3.2, 42, 245, 300, 108_000)
    words = "0.5 ms, 48 ms, 0.37 s, 3.2 s, 42 s, 4 min 5 s, 5 min, 30 h 0 min"
    assert ", ".join(present.duration(int(each * 1e6)) for each in seconds) == words
    dollars = (0, 1e-11, 0.0001752, 0.01752, 2.5)
    words = "$0, under $0.000001, $0.000175, $0.0175, $2.50"
    assert ", ".join(present.money(to_pico(each)) for each in dollars) == words
