// What stands in the way of the film, in words, and what can be done about it.

import { element } from "./elements.js";
import { text } from "./texts.js";

export class Notice {
  /** @type {{ kind: string, act: (() => void) | null } | null} */
  #shown = null;

  /**
   * Shows the notice of this kind; with `act` there is a button for it.
   * @param {string} kind
   * @param {(() => void) | null} act
   */
  show(kind, act = null) {
    // Said once: it is read aloud.
    if (kind === this.kind) return;
    this.#shown = { kind, act };
    this.translate();
    element("again").onclick = act;
    element("notice").hidden = false;
  }

  hide() {
    this.#shown = null;
    element("notice").hidden = true;
  }

  /** The kind that is shown. */
  get kind() {
    return this.#shown?.kind ?? null;
  }

  /** Says it again, in the language of now. */
  translate() {
    if (!this.#shown) return;
    const { kind, act } = this.#shown;
    element("notice-title").textContent = text(`notice.${kind}`);
    element("notice-text").textContent = text(`notice.${kind}.why`);
    element("again").textContent = text(kind === "displaced" ? "here" : "again");
    element("again").hidden = !act;
  }
}
