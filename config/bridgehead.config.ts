/**
 * A configuration as it might be for a shop. Copy it, or let `bridgehead init` write one with every key.
 * All keys and their defaults: docs/CONFIGURATION.md.
 */
import { defineConfig } from 'bridgehead';

export default defineConfig({
  // One deployment, one name: it prefixes Redis keys and is bound into every signed annotation.
  name: 'shop',

  // Where browsers arrive, or the proxy in front of Bridgehead.
  listen: '127.0.0.1:8080',

  // The Python workers: direct sessions go to the one with the fewest, uploads to the one that holds the session.
  backends: ['http://127.0.0.1:8000'],

  // The same in the environment of the workers. Without it nothing is signed and every event does its own auth.
  // Make one with: openssl rand -base64 48
  secret: process.env['BRIDGEHEAD_SECRET'],

  tiers: {
    // Where no rule, resolve function or class says otherwise: what the app's own RX_EVENT_BRIDGE_MODE says.
    mode: 'inherit',

    // The first rule that matches decides. `*` is any run of characters, `?` one character.
    rules: [
      // The cart never looks at the user: Django's session and user queries are saved.
      { state: 'shop.cart.CartState', tier: 'none' },
      // Orders need to know who asks, and nothing else of Django.
      { state: 'shop.orders.*', tier: 'auth_only' },
      // A path only ever raises a tier: it is the client's own word.
      { path: '/account*', tier: 'full' },
    ],

    // For what rules cannot say. Undefined: the rules decide. It sees every event, so keep it cheap.
    resolve(event) {
      return event.upload ? 'full' : undefined;
    },
  },

  limits: {
    // Of one session. More events wait in its queue; only an overflow is refused, and told to the client.
    eventsPerSecond: 200,
    eventBurst: 400,
    // Sessions at once; a balancer sends further ones elsewhere.
    sessions: 20_000,
  },

  // Which websites may open sessions, besides the one the page itself came from.
  origins: ['same-origin'],

  // Whose X-Forwarded-For is believed: the proxy on this machine.
  trustedProxies: ['loopback'],

  metrics: {
    // One line in the log for each minute; Prometheus reads /metrics on the admin listener.
    log: { intervalSeconds: 60, level: 'info' },
  },

  // Health, metrics and the operator's API. Reads are open on loopback; every POST needs the key.
  admin: { listen: '127.0.0.1:8081', apiKey: process.env['BRIDGEHEAD_API_KEY'] },
});
