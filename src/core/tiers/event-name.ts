/** Where an event's full name leads: `reflex___state____state.shop___cart____cart_state.add`. */
export interface EventTarget {
  /** The full state name: everything before the last dot. */
  readonly stateName: string;
  readonly handler: string;
}

export function splitEventName(name: string): EventTarget {
  const dot = name.lastIndexOf('.');
  return { stateName: dot === -1 ? '' : name.slice(0, dot), handler: name.slice(dot + 1) };
}

/**
 * The dotted `module.Class` as far as a state's name tells: Reflex joins a module's parts with three underscores, sets four
 * before the class, and writes the class in snake case, which cannot be undone for certain. A manifest knows better.
 */
export function guessStateClass(stateName: string): string {
  const own = stateName.slice(stateName.lastIndexOf('.') + 1);
  const separator = own.lastIndexOf('____');
  const module = separator === -1 ? '' : `${own.slice(0, separator).replaceAll('___', '.')}.`;
  const snake = separator === -1 ? own : own.slice(separator + 4);
  const words = snake.split('_').map((word) => word.charAt(0).toUpperCase() + word.slice(1));
  return module + words.join('');
}

/** What is left of a class name when its spelling is in doubt. Applied to patterns and names alike. */
export function looseSpelling(text: string): string {
  return text.toLowerCase().replaceAll('_', '');
}
