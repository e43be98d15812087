// Writes the types of the elements that pages have by id: `node element-types.js PAGE.html... > elements.d.ts`. An element
// that two pages have is of both types.

import { readFileSync } from "node:fs";

/** What elements are in scripts; others are HTMLElement. */
const TYPES = {
  a: "HTMLAnchorElement", audio: "HTMLAudioElement", button: "HTMLButtonElement", canvas: "HTMLCanvasElement",
  details: "HTMLDetailsElement", dialog: "HTMLDialogElement", form: "HTMLFormElement", img: "HTMLImageElement", input: "HTMLInputElement",
  meter: "HTMLMeterElement",
  output: "HTMLOutputElement", progress: "HTMLProgressElement", select: "HTMLSelectElement", table: "HTMLTableElement", textarea: "HTMLTextAreaElement",
  video: "HTMLVideoElement",
};

const found = new Map();
for (const page of process.argv.slice(2)) {
  for (const [, tag, id] of readFileSync(page, "utf8").matchAll(/<(\w+)\b[^>]*?\sid="([^"]+)"/g)) {
    found.set(id, (found.get(id) ?? new Set()).add(TYPES[tag] ?? "HTMLElement"));
  }
}
const lines = [...found].map(([id, types]) => `  ${JSON.stringify(id)}: ${[...types].join(" & ")};`);
process.stdout.write(`interface PageElements {\n${lines.join("\n")}\n}\n`);
