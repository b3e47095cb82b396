"""Bodies of writes: packed, unknown fields, wrong types, too large, too many."""

import gzip
import json

import httpx
import pytest

from devstack import standin
from devstack.opik.rules import new_id
from tests.devstack.opik_house import V1, post, span, stored, trace

PACKED = {"Content-Encoding": "gzip"}


async def test_gzip_and_unknown_fields_are_taken(opik: httpx.AsyncClient) -> None:
    one = trace(brand_new=[1])
    body = gzip.compress(json.dumps({"traces": [one]}).encode())
    answer = await opik.post(f"{V1}/traces/batch", content=body, headers=PACKED)
    assert answer.status_code == 204
    assert (await stored(opik, "traces", one["id"]))["brand_new"] == [1]


async def test_a_body_too_large_is_413(
    opik: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standin, "PACKED_LIMIT", 1000)
    monkeypatch.setattr(standin, "UNPACKED_LIMIT", 5000)
    plain = await opik.post(f"{V1}/traces/batch", content=b" " * 1001)
    unpacked = gzip.compress(b" " * 5001)
    packed = await opik.post(f"{V1}/traces/batch", content=unpacked, headers=PACKED)
    assert (plain.status_code, packed.status_code) == (413, 413)


WRONG: list[tuple[str, object]] = [
    ("name", {"a": 1}),
    ("thread_id", [1]),
    ("project_name", ["rein"]),
    ("tags", "local"),
    ("tags", [1]),
    ("error_info", "boom"),
    ("error_info", {"exception_type": "E"}),
    ("start_time", "soon"),
    ("usage", [1]),
    ("usage", {"prompt_tokens": "many"}),
    ("usage", {"prompt_tokens": 2**31}),
    ("total_estimated_cost", "cheap"),
    ("model", ["m"]),
    ("type", "thought"),
]


async def test_a_wrong_type_refuses_the_whole_batch(opik: httpx.AsyncClient) -> None:
    good = span(new_id())
    for name, value in WRONG:
        answer = await post(opik, "spans", good, {**span(new_id()), name: value})
        assert answer.status_code == 400, name
        assert answer.json()["message"] == "Unable to process JSON"
    assert (await opik.get(f"{V1}/spans/{good['id']}")).status_code == 404


async def test_a_wrong_type_refuses_a_patch(opik: httpx.AsyncClient) -> None:
    one = trace()
    await post(opik, "traces", one)
    for change in ({"tags_to_add": "a"}, {"name": [1]}, {"error_info": "boom"}):
        body = {"project_name": "rein", **change}
        assert (await opik.patch(f"{V1}/traces/{one['id']}", json=body)).status_code == 400


async def test_null_is_as_if_absent(opik: httpx.AsyncClient) -> None:
    nulls = dict.fromkeys(("tags", "error_info", "thread_id", "end_time", "metadata"))
    one = trace(**nulls)
    assert (await post(opik, "traces", one)).status_code == 204
    assert not nulls.keys() & (await stored(opik, "traces", one["id"])).keys()


async def test_a_batch_holds_one_to_a_thousand(opik: httpx.AsyncClient) -> None:
    many = [trace() for _ in range(1001)]
    assert (await post(opik, "traces", *many)).status_code == 422
    assert (await post(opik, "traces")).status_code == 422
    assert (await post(opik, "traces", *many[:1000])).status_code == 204
    assert (await post(opik, "spans", *(span(new_id()) for _ in many))).status_code == 422
    scores = [{"id": each["id"], "name": "n", "value": 1, "source": "sdk"} for each in many]
    put = await opik.put(f"{V1}/traces/feedback-scores", json={"scores": scores})
    assert put.status_code == 422
