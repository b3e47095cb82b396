// A backend service: sends a goal, watches it, lists, cancels, rates; every error is a Problem.

import { randomUUID } from "node:crypto";
import { EventSourceParserStream } from "eventsource-parser/stream";
import createClient from "openapi-fetch";
import type { components, paths } from "./rein.js";

type Schemas = components["schemas"];
type Answer<T> = { data?: T; error?: Schemas["Problem"] };

const baseUrl = process.env.REIN_URL!;
const rein = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${process.env.REIN_KEY}` } });

function good<T>({ data, error }: Answer<T>): T {
  if (data === undefined) throw new Error(`${error?.status} ${error?.code}: ${error?.detail}; ${error?.cure}`);
  return data;
}

const refused = ({ error }: Answer<unknown>) => console.log(`refused   ${error!.status} ${error!.code}`);

async function watch(trace_id: string) {
  const answer = await rein.GET("/api/runs/{trace_id}/events", { params: { path: { trace_id } }, parseAs: "stream" });
  const text = good(answer)!.pipeThrough(new TextDecoderStream());
  for await (const { data } of text.pipeThrough(new EventSourceParserStream())) {
    const event: Schemas["RunEvent"] = JSON.parse(data);
    console.log(`event     ${event.seq} ${event.kind}: ${event.message}`);
  }
}

const body = { goal: "I want to run a 5K by end of Q1", user_id: "user-42" };
const once = { "Idempotency-Key": randomUUID() }; // the same key again finds the same run
const { trace_id } = good(await rein.POST("/api/goals", { body, params: { header: once } }));
await watch(trace_id);
const done = good(await rein.GET("/api/goals/{trace_id}", { params: { path: { trace_id } } }));
console.log(`done      ${done.status} ${done.quality_score} ${done.title}`);
const again = await rein.POST("/api/goals", { body, params: { header: { ...once, Prefer: "wait=30" } } });
console.log(`again     ${again.response.status} replayed=${again.response.headers.get("Idempotent-Replayed")}`);
const page = good(await rein.GET("/api/goals", { params: { query: { user_id: "user-42", limit: 5 } } }));
console.log(`listed    ${page.items.some((item) => item.trace_id === trace_id)}`);
const rating = { trace_id, user_id: "user-42", rating: 4.5, clarity: true, comment: "Clear steps" };
console.log(`rated     ${good(await rein.POST("/api/feedback", { body: rating })).rating}`);

const other = { path: { trace_id: good(await rein.POST("/api/goals", { body })).trace_id } };
const stopped = good(await rein.POST("/api/runs/{trace_id}/cancel", { params: other }));
console.log(`cancelled ${stopped.trace_id === other.path.trace_id}`);
refused(await rein.GET("/api/goals", { headers: { Authorization: "Bearer no key" } }));
refused(await rein.GET("/api/goals/{trace_id}", { params: { path: { trace_id: randomUUID() } } }));
refused(await rein.POST("/api/runs/{trace_id}/cancel", { params: { path: { trace_id } } }));
refused(await rein.POST("/api/goals", { body: { ...body, goal: "" } }));
