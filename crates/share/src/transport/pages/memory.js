// What the browser remembers for the next visit; one that stores nothing forgets it.

const NAME = (key) => `tidegate.${key}`;

export function recall(key) {
  try {
    return localStorage.getItem(NAME(key));
  } catch {
    return null;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(NAME(key), value);
  } catch {
    // See above.
  }
}
