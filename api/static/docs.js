"use strict";

// Ids of the latest answers: the forms that need them are filled in.
const known = {};

const el = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};

const resolve = (spec, thing) =>
  thing && thing.$ref ? thing.$ref.slice(2).split("/").reduce((at, key) => at[key], spec) : thing;

function exampleOf(parameter) {
  const schema = parameter.schema || {};
  return (schema.examples || [])[0] ?? parameter.example ?? schema.default ?? "";
}

function field(parameter) {
  const input = el("input", { name: parameter.name, placeholder: parameter.required ? "" : "optional" });
  if (parameter.in === "path") input.value = exampleOf(parameter);
  input.dataset.in = parameter.in;
  const note = el("small", { textContent: (parameter.description || "").replaceAll("`", "") });
  return el("label", {}, el("code", { textContent: parameter.name }), input, note);
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
  return [el("label", {}, el("span", { textContent: "Example" }), select), area];
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

function headersOf(form) {
  const headers = {};
  for (const input of form.querySelectorAll("input[data-in=header]")) {
    if (input.value) headers[input.name] = input.value;
  }
  const area = form.querySelector("textarea");
  if (area) headers["Content-Type"] = "application/json";
  return { headers, body: area ? area.value : undefined };
}

async function send(method, path, form, out, event) {
  event.preventDefault();
  const started = performance.now();
  out.textContent = `${method.toUpperCase()} ${address(path, form)} …`;
  const answer = await fetch(address(path, form), { method, ...headersOf(form) });
  const head = `${answer.status} ${answer.statusText}`;
  if ((answer.headers.get("content-type") || "").startsWith("text/event-stream")) {
    out.textContent = `${head}\n\n`;
    for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) out.textContent += chunk;
    return;
  }
  const text = await answer.text();
  let shown = text;
  try {
    const parsed = JSON.parse(text);
    shown = JSON.stringify(parsed, null, 2);
    if (answer.ok) learn(parsed);
  } catch { /* Prometheus text is no JSON, and is shown as it came. */ }
  out.textContent = `${head} · ${Math.round(performance.now() - started)} ms\n\n${shown}`;
}

function draw(spec, path, method, operation) {
  const out = el("pre", { hidden: true });
  const form = el("form", {},
    el("p", { textContent: (operation.description || "").replaceAll("`", "") }),
    ...(operation.parameters || []).map((parameter) => field(resolve(spec, parameter))),
    ...bodyOf(spec, operation),
    el("p", {}, el("button", { textContent: "Send" })), out);
  form.addEventListener("submit", (event) => {
    out.hidden = false;
    send(method, path, form, out, event).catch((error) => { out.textContent = String(error); });
  });
  return el("details", { id: operation.operationId },
    el("summary", {}, el("b", { className: `method ${method}`, textContent: method.toUpperCase() }),
      el("code", { textContent: path }), el("span", { textContent: operation.summary || "" })), form);
}

function drawText(text) {
  const list = el("ul");
  const nodes = [];
  for (const part of text.trim().split(/\n(?=\* )|\n\n/)) {
    const plain = part.replace(/^\* /, "").replace(/\*\*|`/g, "").replace(/\s+/g, " ");
    if (part.startsWith("* ")) list.append(el("li", { textContent: plain }));
    else nodes.push(el("p", { textContent: plain }));
  }
  return [...nodes, list];
}

async function main() {
  const spec = await (await fetch("/openapi.json")).json();
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
  const first = document.getElementById(location.hash.slice(1) || "create_goal");
  if (first) first.open = true;
}

main();
