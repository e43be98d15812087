// Elements of a page by their ids.

/**
 * Returns the element of an id. Which ids a page has, and what they are, is read from its HTML (see scripts/check-pages.sh).
 * @template {keyof PageElements} Id
 * @param {Id} id
 * @returns {PageElements[Id]}
 */
export const element = (id) => /** @type {any} */ (document.getElementById(id));

/**
 * Returns an element that is there only while what it belongs to is shown.
 * @param {string} id
 */
export const shown = (id) => document.getElementById(id);
