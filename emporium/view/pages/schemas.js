// A JSON Schema of an OpenAPI file, in words and lists.

import { el } from "./dom.js";

const DEEPEST = 8; // a schema may contain itself

/** What "$ref" means in this file; other things as they are. */
export function resolved(thing, file) {
  let now = thing;
  for (let hop = 0; now?.$ref && hop < DEEPEST; hop += 1) {
    now = now.$ref
      .replace(/^#\//, "")
      .split("/")
      .reduce((inside, name) => inside?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], file);
  }
  return now ?? {};
}

/** The schema as an element: its kind and limits in words, its members as a list. */
export function schemaWords(schema, file, depth = 0) {
  if (schema === undefined || schema === null) return el("span", {});
  if (schema === true) return el("span", {}, "anything");
  const name = schema.$ref ? schema.$ref.split("/").at(-1) : null;
  const now = resolved(schema, file);
  const parts = [el("span", { class: "kind" }, [name, kind(now)].filter(Boolean).join(": "))];
  const told = now.description ? [" ", now.description] : [];
  const several = now.oneOf ?? now.anyOf ?? now.allOf;
  if (depth < DEEPEST && several) {
    parts.push(
      el(
        "ul",
        {},
        several.map((one) => el("li", {}, schemaWords(one, file, depth + 1))),
      ),
    );
  }
  if (depth < DEEPEST && now.properties) {
    const must = new Set(now.required ?? []);
    parts.push(
      el(
        "ul",
        { class: "members" },
        Object.entries(now.properties).map(([member, one]) =>
          el(
            "li",
            {},
            el("code", {}, member),
            must.has(member) ? " " : " (may be missing) ",
            schemaWords(one, file, depth + 1),
          ),
        ),
      ),
    );
  }
  if (depth < DEEPEST && now.items)
    parts.push(el("ul", {}, el("li", {}, "each: ", schemaWords(now.items, file, depth + 1))));
  if (depth < DEEPEST && typeof now.additionalProperties === "object")
    parts.push(el("ul", {}, el("li", {}, "each member: ", schemaWords(now.additionalProperties, file, depth + 1))));
  return el("span", {}, parts[0], told, parts.slice(1));
}

/** "integer, 0 to 100", "array of at most 5", "one of a, b". Pure. */
export function kind(schema) {
  const types = [schema.type ?? []].flat();
  const words = [types.join(" or ")];
  if (schema.const !== undefined) words.push(`always ${JSON.stringify(schema.const)}`);
  if (schema.enum) words.push(`one of ${schema.enum.map((one) => JSON.stringify(one)).join(", ")}`);
  if (schema.minimum !== undefined || schema.maximum !== undefined)
    words.push(`${schema.minimum ?? "any"} to ${schema.maximum ?? "any"}`);
  if (schema.minLength !== undefined || schema.maxLength !== undefined)
    words.push(`${schema.minLength ?? 0} to ${schema.maxLength ?? "any number of"} characters`);
  if (schema.minItems !== undefined || schema.maxItems !== undefined)
    words.push(`${schema.minItems ?? 0} to ${schema.maxItems ?? "any number of"} items`);
  if (schema.pattern) words.push(`like ${schema.pattern}`);
  if (schema.default !== undefined) words.push(`${JSON.stringify(schema.default)} if missing`);
  if (schema.oneOf || schema.anyOf) words.push("one of");
  if (schema.allOf) words.push("all of");
  return words.filter(Boolean).join(", ");
}
