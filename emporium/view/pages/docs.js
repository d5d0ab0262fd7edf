// The OpenAPI file of each service as a page to read, from this machine alone.

import { get } from "./api.js";
import { el, fill, skipsTo } from "./dom.js";
import { schemaWords, resolved } from "./schemas.js";

const SERVICES = { lb: "Load balancer", db: "Shard", q: "Queue", log: "Log", view: "View" };
const METHODS = ["get", "put", "post", "delete", "patch", "head", "options"];

const place = document.getElementById("docs");
const tabs = document.getElementById("services");

function named() {
  const name = location.hash.slice(1).split("/")[0];
  return name in SERVICES ? name : "lb";
}

async function show() {
  const name = named();
  fill(
    tabs,
    Object.entries(SERVICES).map(([service, words]) =>
      el("li", {}, el("a", { href: `#${service}`, "aria-current": service === name ? "page" : null }, words)),
    ),
  );
  try {
    const file = await get(`/openapi/${name}.json`);
    if (named() === name) fill(place, described(file, name));
  } catch (error) {
    fill(place, el("p", { class: "trouble", role: "alert" }, error.message));
  }
}

function described(file, name) {
  const operations = Object.entries(file.paths ?? {}).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, item, ...item[method] })),
  );
  return el(
    "div",
    {},
    el("h2", {}, `${file.info?.title ?? SERVICES[name]} `, el("span", { class: "quiet" }, file.info?.version ?? "")),
    paragraphs(file.info?.description),
    el("p", {}, "The file itself: ", el("a", { href: `/openapi/${name}.json` }, `/openapi/${name}.json`)),
    operations.map((operation) => describedOperation(operation, file)),
  );
}

function describedOperation(operation, file) {
  const parameters = [...(operation.item.parameters ?? []), ...(operation.parameters ?? [])].map((one) =>
    resolved(one, file),
  );
  const body = operation.requestBody ? resolved(operation.requestBody, file) : null;
  const answers = Object.entries(operation.responses ?? {}).map(([status, answer]) => [status, resolved(answer, file)]);
  return el(
    "details",
    { class: "operation panel" },
    el(
      "summary",
      {},
      el("b", { class: "method" }, operation.method.toUpperCase()),
      " ",
      el("code", {}, operation.path),
      " ",
      el("span", { class: "quiet" }, operation.summary ?? ""),
    ),
    paragraphs(operation.description),
    parameters.length ? el("h3", {}, "Parameters") : null,
    parameters.length
      ? el(
          "dl",
          { class: "pairs" },
          parameters.map((one) => [
            el("dt", {}, el("code", {}, one.name), ` in ${one.in}${one.required ? ", required" : ""}`),
            el("dd", {}, marked(one.description ?? ""), " ", schemaWords(one.schema ?? Object.values(one.content ?? {})[0]?.schema, file)),
          ]),
        )
      : null,
    body ? el("h3", {}, "Body") : null,
    body ? contents(body.content, file) : null,
    el("h3", {}, "Answers"),
    el(
      "dl",
      { class: "pairs" },
      answers.map(([status, answer]) => [
        el("dt", {}, el("b", {}, status)),
        el("dd", {}, marked(answer.description ?? ""), headers(answer.headers, file), contents(answer.content, file)),
      ]),
    ),
  );
}

function headers(told, file) {
  const names = Object.entries(told ?? {});
  return names.length
    ? el(
        "p",
        {},
        "Headers: ",
        names.map(([name, header]) => [el("code", {}, name), ` ${resolved(header, file).description ?? ""} `]).flat(),
      )
    : null;
}

function contents(content, file) {
  return Object.entries(content ?? {}).map(([type, told]) => {
    const example = told.example ?? Object.values(told.examples ?? {})[0]?.value ?? told.schema?.examples?.[0];
    return el(
      "div",
      {},
      el("p", { class: "quiet" }, type),
      told.schema ? el("div", { class: "schema" }, schemaWords(told.schema, file)) : null,
      example === undefined
        ? null
        : el("pre", { tabindex: "0" }, typeof example === "string" ? example : JSON.stringify(example, null, 2)),
    );
  });
}

function paragraphs(text) {
  return (text ?? "")
    .split(/\n\s*\n/)
    .filter(Boolean)
    .map((part) => el("p", {}, marked(part)));
}

/** Text in which `this` is code. */
function marked(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

async function showLabTab() {
  try {
    document.getElementById("lab-tab").hidden = !(await get("/api/state")).lab;
  } catch {
    return; // the view does not answer, and show() has said so
  }
}

skipsTo(document.getElementById("content"));
addEventListener("hashchange", show);
show();
showLabTab();
