// What the browser remembers for the next visit; one that stores nothing forgets it.

const NAME = (key) => `tidegate.${key}`;

export function recall(key) {
  try {
    return localStorage.getItem(NAME(key));
  } catch {
    return null;
  }
}

/** Remembers a text; null is forgotten. */
export function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(NAME(key));
    else localStorage.setItem(NAME(key), value);
  } catch {
    // See above.
  }
}
