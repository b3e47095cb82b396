"""Lists of goals: filters, pages, and what is refused."""

from base64 import urlsafe_b64encode
from typing import Any
from uuid import uuid4

import httpx
import pytest

from db import results
from tests.factories import Runs


def _cursor(at: str) -> str:
    return urlsafe_b64encode(f"{at}|{uuid4()}".encode()).decode()


class TestList:
    async def test_pages_hold_every_run_once_newest_first(
        self, http: httpx.AsyncClient, stored: Runs
    ) -> None:
        made = [str(await stored.finished(user_id="pager")) for _ in range(5)]
        seen: list[str] = []
        query: dict[str, Any] = {"user_id": "pager", "limit": 2}
        while True:
            page = (await http.get("/api/goals", params=query)).json()
            seen += [item["trace_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert seen == made[::-1]

    async def test_filters_narrow(self, http: httpx.AsyncClient, stored: Runs) -> None:
        good = str(await stored.finished(user_id="filter", drafts=(9.0,), goal="Learn the oboe"))
        weak = str(await stored.finished("partial", user_id="filter", drafts=(4.0,)))

        async def found(**query: Any) -> list[str]:
            answer = await http.get("/api/goals", params={"user_id": "filter", **query})
            assert answer.status_code == 200, answer.text
            return [item["trace_id"] for item in answer.json()["items"]]

        assert await found() == [weak, good]
        assert await found(status="partial") == [weak]
        assert await found(status=["partial", "success"]) == [weak, good]
        assert await found(min_score=8.5) == [good]
        assert await found(max_score=8.5) == [weak]
        assert await found(q="OBOE learn") == [good]
        assert await found(q="'\"((:*&|!") == []
        assert await found(**{"from": "2020-01-01", "to": "9999-12-31"}) == [weak, good]
        assert await found(to="2020-01-01") == []

    @pytest.mark.parametrize(
        ("goal", "q"),
        [
            ("Juggle five balls", "juggl"),
            ("Klavierunterricht nehmen", "KLAVIER"),
            ("Crème brûlée zubereiten", "creme brulee"),
            ("Creme brulee zubereiten", "Brûlée"),
            ("Прочитать Толстого", "ТОЛСТ"),
            ("ハーフマラソンを完走する", "マラソン"),
            ("ﾊｰﾌﾏﾗｿﾝ", "ハーフ"),
            ("我想学古琴", "琴"),
            ("我想戒烟", "戒烟"),
            ("소설을 번역하고 출판하기", "번역"),
            ("ฝึกเล่นกีตาร์โปร่ง", "กีตาร์"),
            ("Save 50% of_my salary", "50% of_m"),
            ("Learn\nto  sail", "sail LEARN"),
        ],
    )
    async def test_a_goal_is_found_by_parts_of_its_words(
        self, http: httpx.AsyncClient, stored: Runs, goal: str, q: str
    ) -> None:
        trace_id = str(await stored.accepted(goal, user_id="searched"))
        for text, expected in ((q, True), (f"{q}{q[-1]}q", False), (f"{q} nowhere", False)):
            answer = await http.get("/api/goals", params={"q": text, "limit": 100})
            found = [item["trace_id"] for item in answer.json()["items"]]
            assert (trace_id in found) == expected, text

    async def test_a_common_word_is_found_as_a_rare_one(
        self, http: httpx.AsyncClient, stored: Runs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = [str(await stored.accepted(f"Practise {n}", user_id="common")) for n in range(4)]
        for most in (results.MOST_FOUND, 2):
            monkeypatch.setattr(results, "MOST_FOUND", most)
            answer = await http.get("/api/goals", params={"q": "practis", "limit": 3})
            assert [item["trace_id"] for item in answer.json()["items"]] == made[:0:-1]

    async def test_white_space_narrows_nothing(self, http: httpx.AsyncClient, stored: Runs) -> None:
        trace_id = await stored.accepted()
        newest = (await http.get("/api/goals", params={"q": " ", "limit": 1})).json()["items"]
        assert newest[0]["trace_id"] == str(trace_id)

    @pytest.mark.parametrize(
        "query",
        [
            "cursor=%00",
            "cursor=bm9uc2Vuc2U=",
            "cursor=é",
            f"cursor={_cursor('0001-01-01T00:00:00+14:00')}",
            f"cursor={_cursor('9999-12-31T23:59:59-14:00')}",
            "statsu=success",
            "limit=0",
            "limit=101",
            "q=%00",
            "q=",
            "user_id=%20",
            "status=done",
            "from=yesterday",
            "min_score=nan",
        ],
    )
    async def test_a_wrong_query_is_refused(self, http: httpx.AsyncClient, query: str) -> None:
        answer = await http.get(f"/api/goals?{query}")
        assert answer.status_code == 422, answer.text

    async def test_bytes_that_are_no_text_do_no_harm(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/api/goals?q=%ff%fe")).status_code == 200
