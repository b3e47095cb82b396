"use strict";

// Ids of the latest answers: the forms that need them are filled in.
const known = {};
const KEY = "rein-key";

const el = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};

const plain = (text) => (text || "").replaceAll("`", "");

const resolve = (spec, thing) =>
  thing && thing.$ref ? thing.$ref.slice(2).split("/").reduce((at, key) => at[key], spec) : thing;

// --- the key ---

function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given !== null) {
    sessionStorage.setItem(KEY, given.trim());
    history.replaceState(null, "", location.pathname + location.search);
  }
  document.getElementById("key").value = sessionStorage.getItem(KEY) || "";
}

function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// --- schemas as lists of fields ---

function variants(spec, schema) {
  const choices = schema.anyOf || schema.oneOf || [schema];
  return choices.map((choice) => resolve(spec, choice));
}

function typeOf(spec, schema) {
  const names = variants(spec, schema).map((choice) => {
    if (choice["x-enumDescriptions"]) return "a code, see below";
    if (choice.enum) return choice.enum.map((value) => JSON.stringify(value)).join(" or ");
    if (choice.const !== undefined) return JSON.stringify(choice.const);
    if (choice.type === "array") return `list of ${typeOf(spec, choice.items || {})}`;
    if (choice.properties) return choice.title || "object";
    return choice.format || choice.type || "anything";
  });
  return [...new Set(names)].join(" or ");
}

// The object whose fields a schema has, be it in a list or as the values of a map.
function inner(spec, schema) {
  for (const choice of variants(spec, schema)) {
    if (choice.properties) return choice;
    const next = choice.items || choice.additionalProperties;
    const found = next && typeof next === "object" && inner(spec, next);
    if (found) return found;
  }
  return null;
}

function fieldsOf(spec, schema, above = []) {
  const object = inner(spec, schema);
  if (!object || above.includes(object)) return null;
  const required = object.required || [];
  return el("ul", { className: "fields" }, ...Object.entries(object.properties).map(([name, field]) => {
    const told = [el("code", { textContent: name }), " ",
      el("small", { textContent: typeOf(spec, field) + (required.includes(name) ? "" : ", optional") })];
    if (field.description) told.push(` – ${plain(field.description)}`);
    const nested = fieldsOf(spec, field, [...above, object]);
    return el("li", {}, ...(nested ? [el("details", {}, el("summary", {}, ...told), nested)] : told));
  }));
}

function answersOf(spec, operation) {
  const drawn = [];
  for (const [status, answer] of Object.entries(operation.responses)) {
    const title = el("h3", { textContent: `${status} ${plain(answer.description)}` });
    const json = answer.content?.["application/json"]?.schema;
    const stream = answer.content?.["text/event-stream"]?.schema;
    if (status >= 400) continue;
    const fields = json || stream ? fieldsOf(spec, json || stream.contentSchema) : null;
    if (stream) title.textContent += `: ${stream.description}`;
    drawn.push(title, ...(fields ? [fields] : []));
  }
  const errors = Object.keys(operation.responses).filter((status) => status >= 400);
  drawn.push(el("p", {}, `Errors: ${errors.join(", ")}; `,
    el("a", { href: "#errors", textContent: "their codes" })));
  return drawn;
}

// --- forms ---

function exampleOf(parameter) {
  const schema = parameter.schema || {};
  return (schema.examples || [])[0] ?? parameter.example ?? schema.default ?? "";
}

function field(parameter) {
  const input = el("input", { name: parameter.name, placeholder: parameter.required ? "" : "optional" });
  if (parameter.in === "path") input.value = exampleOf(parameter);
  input.dataset.in = parameter.in;
  return el("label", {}, el("code", { textContent: parameter.name }), input,
    el("small", { textContent: plain(parameter.description) }));
}

function bodyOf(spec, operation) {
  const content = operation.requestBody?.content?.["application/json"];
  if (!content) return [];
  const area = el("textarea", { name: "body", spellcheck: false });
  const choices = Object.entries(content.examples || {});
  const show = (value) => { area.value = JSON.stringify(value, null, 2); fill(area.form || area); };
  const select = el("select", {}, ...choices.map(([name, example]) =>
    el("option", { value: name, textContent: example.summary || name })));
  select.addEventListener("change", () => show(content.examples[select.value].value));
  if (choices.length) area.value = JSON.stringify(choices[0][1].value, null, 2);
  const fields = fieldsOf(spec, content.schema);
  const told = fields ? [el("details", {}, el("summary", { textContent: "Fields of the body" }),
    el("div", { className: "operation" }, fields))] : [];
  return [el("label", {}, el("span", { textContent: "Example" }), select), area, ...told];
}

function fill(scope) {
  for (const input of scope.querySelectorAll?.("input[data-in=path]") || []) {
    if (known[input.name]) input.value = known[input.name];
  }
  for (const area of scope.querySelectorAll?.("textarea") || []) {
    if (!known.trace_id) continue;
    area.value = area.value.replace(/("trace_id": ")[0-9a-f-]{36}/, `$1${known.trace_id}`);
  }
}

function learn(answer) {
  if (answer.trace_id) known.trace_id = answer.trace_id;
  const resolution = answer.resolution?.resolution_id || answer.resolution_id;
  if (resolution) known.resolution_id = resolution;
  const plan = answer.plan?.plan_id || answer.plan_id;
  if (plan) known.plan_id = plan;
  fill(document);
}

function address(path, form) {
  const query = new URLSearchParams();
  for (const input of form.querySelectorAll("input[data-in]")) {
    if (input.dataset.in === "path") path = path.replace(`{${input.name}}`, encodeURIComponent(input.value));
    if (input.dataset.in === "query" && input.value) query.append(input.name, input.value);
  }
  return query.size ? `${path}?${query}` : path;
}

function requestOf(form) {
  const headers = {};
  for (const input of form.querySelectorAll("input[data-in=header]")) {
    if (input.value) headers[input.name] = input.value;
  }
  const area = form.querySelector("textarea");
  if (area) headers["Content-Type"] = "application/json";
  return { headers, body: area ? area.value : undefined };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curlOf(method, path, form) {
  const { headers, body } = requestOf(form);
  const words = ["curl", "-sN", "-X", method.toUpperCase(), quoted(location.origin + address(path, form))];
  if (authorization().Authorization) words.push("-H", '"Authorization: Bearer $REIN_KEY"');
  for (const [name, value] of Object.entries(headers)) words.push("-H", quoted(`${name}: ${value}`));
  if (body) words.push("-d", quoted(body));
  return words.join(" ");
}

async function send(method, path, form, out) {
  const started = performance.now();
  const { headers, body } = requestOf(form);
  const answer = await fetch(address(path, form), { method, body, headers: { ...headers, ...authorization() } });
  const head = `${answer.status} ${answer.statusText}`;
  if ((answer.headers.get("content-type") || "").startsWith("text/event-stream")) {
    out.textContent = `${head}\n\n`;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) out.textContent += part.value;
    return;
  }
  const text = await answer.text();
  let shown = text;
  try {
    const parsed = JSON.parse(text);
    shown = JSON.stringify(parsed, null, 2);
    if (answer.ok) learn(parsed);
  } catch { /* An answer without a body is no JSON, and is shown as it came. */ }
  out.textContent = `${head} · ${Math.round(performance.now() - started)} ms\n\n${shown}`;
}

// --- the page ---

function draw(spec, path, method, operation) {
  const curl = el("pre", { className: "curl" });
  const out = el("pre", { hidden: true });
  const form = el("form", {},
    ...(operation.parameters || []).map((parameter) => field(resolve(spec, parameter))),
    ...bodyOf(spec, operation),
    el("p", {}, el("button", { textContent: "Send" })), out);
  const parts = [el("p", { textContent: plain(operation.description) }), form,
    ...answersOf(spec, operation), el("h3", { textContent: "From a shell" }), curl];
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    out.hidden = false;
    out.textContent = `${method.toUpperCase()} ${address(path, form)} …`;
    send(method, path, form, out).catch((error) => { out.textContent = String(error); });
  });
  const drawn = el("details", { id: operation.operationId },
    el("summary", {}, el("b", { className: `method ${method}`, textContent: method.toUpperCase() }),
      el("code", { textContent: path }), el("span", { textContent: operation.summary || "" })),
    el("div", { className: "operation" }, ...parts));
  const show = () => { curl.textContent = curlOf(method, path, form); };
  drawn.addEventListener("toggle", show);
  drawn.addEventListener("input", show);
  return drawn;
}

function drawText(text) {
  const list = el("ul");
  const nodes = [];
  for (const part of text.trim().split(/\n(?=\* )|\n\n/)) {
    const words = part.replace(/^(\* |> )/, "").replace(/\*\*|`/g, "").replace(/\s+/g, " ");
    if (part.startsWith("* ")) list.append(el("li", { textContent: words }));
    else nodes.push(el("p", { textContent: words, className: part.startsWith("> ") ? "notice" : "" }));
  }
  return [...nodes, list];
}

const listOf = (meanings) => el("ul", { className: "fields" }, ...Object.entries(meanings).map(
  ([name, meaning]) => el("li", {}, el("code", { textContent: name }), ` ${meaning}`)));

function drawErrors(spec) {
  const { Problem: problem, RunErrorCode: runs } = spec.components.schemas;
  const { code, ...others } = problem.properties;
  const section = document.getElementById("errors");
  section.append(
    fieldsOf(spec, { ...problem, properties: { code: { type: "string" }, ...others } }),
    el("h3", { textContent: "code" }), listOf(code["x-enumDescriptions"]));
  const ofRuns = document.getElementById("run-errors");
  ofRuns.append(listOf(runs["x-enumDescriptions"]));
  section.hidden = ofRuns.hidden = false;
}

function drawPrograms() {
  for (const [title, path] of [["Python", "/docs/caller.py"], ["TypeScript", "/docs/caller.ts"]]) {
    const code = el("pre");
    const drawn = el("details", {}, el("summary", { textContent: title }),
      el("div", { className: "operation" }, code));
    drawn.addEventListener("toggle", async () => { code.textContent = await (await fetch(path)).text(); });
    document.getElementById("programs").append(drawn);
  }
}

async function main() {
  const input = document.getElementById("key");
  input.addEventListener("input", () => sessionStorage.setItem(KEY, input.value.trim()));
  window.addEventListener("hashchange", takeKey);
  takeKey();
  const spec = await (await fetch("/openapi.json", { headers: authorization() })).json();
  document.getElementById("version").textContent = spec.info.version;
  document.getElementById("summary").textContent = spec.info.summary;
  document.getElementById("description").append(...drawText(spec.info.description));
  const groups = {};
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      (groups[operation.tags?.[0] || "other"] ||= []).push(draw(spec, path, method, operation));
    }
  }
  const page = document.getElementById("operations");
  for (const [name, drawn] of Object.entries(groups)) page.append(el("h2", { textContent: name }), ...drawn);
  drawErrors(spec);
  drawPrograms();
  const first = document.getElementById(location.hash.slice(1) || "create_goal");
  if (first instanceof HTMLDetailsElement) first.open = true;
}

main();
