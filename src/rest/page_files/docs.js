// Shows the OpenAPI document. All text goes in as text, never as markup.
"use strict";

const element = (name, text, ...children) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
};

// What stands between backticks is code.
const words = (text) => (text || "").split("`").map((part, at) => (at % 2 ? element("code", part) : part));

const follow = (whole, part) => {
  if (!part || !part.$ref) return part;
  return part.$ref.replace("#/", "").split("/").reduce((at, name) => at && at[name], whole);
};

const shape = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  const types = [].concat(schema.type || []);
  if (types.includes("array")) return shape(schema.items) + "[]";
  for (const name of ["oneOf", "anyOf", "allOf"]) {
    if (schema[name]) return schema[name].map(shape).filter(Boolean).join(name === "allOf" ? " & " : " | ");
  }
  return types.join(" | ");
};

const table = (head, rows) => {
  const line = (cells, name) => element("tr", "", ...cells.map((cell) => element(name, "", ...words(cell))));
  return element("table", "", element("thead", "", line(head, "th")), element("tbody", "", ...rows.map((row) => line(row, "td"))));
};

const operation = (whole, base, path, method, one) => {
  const name = element("span", method.toUpperCase());
  name.className = "method";
  const box = element("details", "", element("summary", "", name, element("code", base + path), " ", ...words(one.summary)));
  box.id = one.operationId;
  const parameters = (one.parameters || []).map((parameter) => follow(whole, parameter));
  if (parameters.length) {
    const rows = parameters.map((p) => [p.name, p.in, shape(p.schema), (p.required ? "Required. " : "") + (p.description || "")]);
    box.append(table(["Parameter", "In", "Type", ""], rows));
  }
  for (const [media, content] of Object.entries((one.requestBody || {}).content || {})) {
    box.append(element("p", "", "Body: ", element("code", media + "  " + shape(content.schema))));
  }
  const rows = Object.entries(one.responses).map(([status, response]) => {
    const said = follow(whole, response);
    const forms = Object.entries(said.content || {}).map(([media, content]) => media + "  " + shape(content.schema));
    return [status, said.description, forms.join(", ")];
  });
  box.append(table(["Status", "", "Form"], rows));
  return box;
};

const schemas = (whole) => {
  const all = Object.entries(whole.components.schemas).map(([name, schema]) => {
    const box = element("details", "", element("summary", "", element("code", name), " ", ...words(schema.description)));
    box.id = "schema-" + name;
    const rows = Object.entries(schema.properties || {}).map(([field, one]) => [field, shape(one), one.description || ""]);
    box.append(rows.length ? table(["Field", "Type", ""], rows) : element("p", shape(schema)));
    return box;
  });
  return [element("h2", "Schemas"), ...all];
};

fetch("/api/v1/openapi.json")
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error("the document answered " + answer.status))))
  .then((whole) => {
    const base = whole.servers[0].url;
    const groups = whole.tags.map((tag) => {
      const found = [];
      for (const [path, item] of Object.entries(whole.paths)) {
        for (const [method, one] of Object.entries(item)) {
          if ((one.tags || []).includes(tag.name)) found.push(operation(whole, base, path, method, one));
        }
      }
      return [element("h2", tag.name), element("p", "", ...words(tag.description)), ...found];
    });
    const about = whole.info.description.split("\n\n").map((text) => element("p", "", ...words(text)));
    document.getElementById("operations").replaceChildren(...about, ...groups.flat(), ...schemas(whole));
  })
  .catch((error) => {
    document.getElementById("operations").replaceChildren(element("p", "The document can't be shown: " + error.message));
  });
