// Swagger UI has its dark form under a class: the class follows the system's colours, as the style sheets of all pages do.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
