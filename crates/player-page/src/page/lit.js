// lit-html, in one place: the version stands here and in lib.rs.

export { html, svg, nothing, render } from "./lit-html-3.3.3/lit-html.js";
export { repeat } from "./lit-html-3.3.3/directives/repeat.js";
export { live } from "./lit-html-3.3.3/directives/live.js";
