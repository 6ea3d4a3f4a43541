/** What a Reflex page and its worker say to each other, at realistic sizes (an event is near 300 bytes). */

/** Four handlers, so that rules, labels and caches see more than one name. */
export const EVENT_NAMES = [
  'reflex___state____state.shop___cart____cart_state.add',
  'reflex___state____state.shop___catalog____catalog_state.set_search',
  'reflex___state____state.shop___orders____order_state.select_row',
  'reflex___state____state.shop___account____account_state.update_field',
] as const;

/** The Engine.IO packet a browser sends for one event. */
export function eventPacket(name: string, index: number): string {
  const event = {
    name,
    payload: { product_id: 1000 + index, quantity: 2, note: 'leave at the front door' },
    router_data: {
      pathname: '/products/[category]',
      asPath: '/products/books?page=2&sort=price',
      query: { category: 'books', page: '2', sort: 'price' },
    },
  };
  return `42/_event,${JSON.stringify(['event', event])}`;
}

/** The Engine.IO packet a worker answers with. */
export const DELTA_PACKET = `42/_event,${JSON.stringify([
  'event',
  { delta: { 'reflex___state____state.shop___cart____cart_state': { count: 3, total: '59.70' } }, events: [] },
])}`;

/** The Engine.IO OPEN a Reflex worker sends, less `sid`. */
export function openPacket(sid: string): string {
  return `0${JSON.stringify({ sid, upgrades: [], pingInterval: 25_000, pingTimeout: 120_000, maxPayload: 1_000_000 })}`;
}
