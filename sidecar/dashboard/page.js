// The elements of index.html. Texts are written as texts: nothing that comes from elsewhere becomes markup.

/** @typedef {{ cells: readonly (string | number | Node)[], classes?: readonly string[] }} Row */

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (found instanceof kind) return found;
  throw new Error(`index.html has no ${kind.name} #${id}`);
}

/**
 * @param {string} id
 * @param {string} text
 * @param {string} [className]
 */
export function say(id, text, className) {
  const node = element(id, HTMLElement);
  // A screen reader would say again what is written again.
  if (node.textContent !== text) node.textContent = text;
  if (className !== undefined) node.className = className;
}

/**
 * Fills a table anew.
 *
 * @param {string} id
 * @param {readonly string[]} columns names; those of numbers begin with `#`
 * @param {readonly Row[]} rows
 */
export function fill(id, columns, rows) {
  /**
   * @param {'th' | 'td'} kind
   * @param {Row} row
   */
  const line = (kind, { cells, classes = [] }) => {
    const fields = cells.map((cell, index) => {
      const field = document.createElement(kind);
      field.append(cell instanceof Node ? cell : String(cell));
      if (columns[index]?.startsWith('#')) field.classList.add('number');
      const own = classes[index];
      if (own) field.classList.add(own);
      return field;
    });
    const made = document.createElement('tr');
    made.append(...fields);
    return made;
  };
  const table = element(id, HTMLTableElement);
  // A button that is being pressed, or was tabbed to, stays: the next time will do.
  if (table.querySelector('button:active, button:focus-visible') !== null) return;
  const names = columns.map((name) => name.replace('#', ''));
  table.replaceChildren(line('th', { cells: names }), ...rows.map((row) => line('td', row)));
}

/**
 * @param {string} text
 * @param {() => void} onClick
 */
export function button(text, onClick) {
  const made = document.createElement('button');
  made.type = 'button';
  made.textContent = text;
  made.addEventListener('click', () => {
    made.blur();
    onClick();
  });
  return made;
}
