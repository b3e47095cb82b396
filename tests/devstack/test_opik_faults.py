"""What the receiver does wrong when it is asked to."""

import asyncio

import httpx
import pytest

from devstack.opik.rules import new_id

BATCH = "/api/v1/private/traces/batch"


def body(*ids: str, name: str = "t") -> dict[str, list[dict[str, str]]]:
    start = "2026-01-25T14:30:00Z"
    return {"traces": [{"id": identity, "name": name, "start_time": start} for identity in ids]}


async def fault(opik: httpx.AsyncClient, **asked: object) -> None:
    (await opik.post("/control/faults", json=asked)).raise_for_status()


async def there(opik: httpx.AsyncClient, identity: str) -> bool:
    return (await opik.get(f"/api/v1/private/traces/{identity}")).status_code == 200


async def test_a_status_with_headers_as_often_as_asked(opik: httpx.AsyncClient) -> None:
    await fault(opik, kind="429", count=2, path="traces/batch", headers={"RateLimit-Reset": "1"})
    identity = new_id()
    answers = [await opik.post(BATCH, json=body(identity)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 204]
    assert answers[0].headers["RateLimit-Reset"] == "1"
    assert (await opik.get("/control/faults")).json() == {"faults": []}


async def test_a_fault_stays_until_it_is_cleared_and_spares_the_rest(
    opik: httpx.AsyncClient,
) -> None:
    await fault(opik, kind=503, method="POST", path="batch$")
    for _ in range(3):
        assert (await opik.post(BATCH, json=body(new_id()))).status_code == 503
    assert (await opik.get("/api/is-alive/ping")).status_code == 200
    assert (await opik.delete("/control/faults")).json() == {"faults": []}
    assert (await opik.post(BATCH, json=body(new_id()))).status_code == 204


@pytest.mark.parametrize(
    ("kind", "status", "media", "kept"),
    [("lose", 204, "", False), ("html", 200, "text/html", False), ("slow", 204, "", True)],
)
async def test_an_answer_that_is_not_the_usual_one(
    opik: httpx.AsyncClient, kind: str, status: int, media: str, kept: bool
) -> None:
    await fault(opik, kind=kind, seconds=0.01, count=1)
    identity = new_id()
    answer = await opik.post(BATCH, json=body(identity))
    assert answer.status_code == status
    assert answer.headers.get("content-type", "").partition(";")[0] == media
    assert await there(opik, identity) is kept


@pytest.mark.parametrize(("kind", "kept"), [("refuse", False), ("cut", True)])
async def test_closed_without_an_answer(opik: httpx.AsyncClient, kind: str, kept: bool) -> None:
    await fault(opik, kind=kind, count=1)
    identity = new_id()
    with pytest.raises(httpx.TransportError):
        await opik.post(BATCH, json=body(identity))
    assert await there(opik, identity) is kept


async def test_hang_lasts_until_cleared(opik: httpx.AsyncClient) -> None:
    await fault(opik, kind="hang", path="batch")
    hanging = asyncio.create_task(opik.post(BATCH, json=body(new_id())))
    while not (await opik.get("/control/faults")).json()["faults"][0]["hits"]:
        continue
    assert not hanging.done()
    await opik.delete("/control/faults")
    with pytest.raises(httpx.TransportError):
        await hanging


@pytest.mark.parametrize("by", ["id", "name"])
async def test_poison_refuses_only_batches_that_hold_it(opik: httpx.AsyncClient, by: str) -> None:
    bad, good = new_id(), new_id()
    await fault(opik, kind="poison", match=bad if by == "id" else "evil")
    poisoned = body(good)["traces"] + body(bad, name="evil")["traces"]
    assert (await opik.post(BATCH, json={"traces": poisoned})).status_code == 400
    assert not await there(opik, good)
    assert (await opik.post(BATCH, json=body(good))).status_code == 204


async def test_a_fault_nobody_knows_is_refused(opik: httpx.AsyncClient) -> None:
    for asked in (
        {"kind": "explode"},
        {"kind": "500", "colour": "red"},
        {"kind": "500", "path": "("},
    ):
        assert (await opik.post("/control/faults", json=asked)).status_code == 400


async def test_requests_are_counted_with_their_items(opik: httpx.AsyncClient) -> None:
    await fault(opik, kind="500", count=1)
    for _ in range(2):
        await opik.post(BATCH, json=body(new_id(), new_id()))
    report = (await opik.get("/control/requests")).json()
    assert report["routes"] == {"POST /v1/private/traces/batch": {"500": 1, "204": 1}}
    assert report["items"] == {"/v1/private/traces/batch": 2}
    assert [seen["fault"] for seen in report["recent"]] == ["status", None]
    await opik.delete("/control/requests")
    assert (await opik.get("/control/requests")).json()["routes"] == {}


async def test_the_store_can_be_emptied(opik: httpx.AsyncClient) -> None:
    identity = new_id()
    await opik.post(BATCH, json=body(identity))
    assert (await opik.delete("/control/store")).status_code == 204
    assert not await there(opik, identity)
