// What the browser remembers for the next visit; one that stores nothing forgets it.

/** @param {string} key */
const NAME = (key) => `tidegate.${key}`;

/**
 * @param {string} key
 * @returns {string | null}
 */
export function recall(key) {
  try {
    return localStorage.getItem(NAME(key));
  } catch {
    return null;
  }
}

/**
 * Remembers a text; null is forgotten.
 * @param {string} key
 * @param {string | null} value
 */
export function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(NAME(key));
    else localStorage.setItem(NAME(key), value);
  } catch {
    // See above.
  }
}
