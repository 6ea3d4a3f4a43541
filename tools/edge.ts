import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { checkout } from './checkout.ts';

export interface EdgeAddresses {
  /** The loopback port that browsers use. */
  port: number;
  /** Bridgehead's port. */
  bridgehead: number;
  /** The worker's own port. */
  worker: number;
  /** The folder of static files (nginx only). */
  frontend?: string;
}

/** A file from proxy/ with its default addresses replaced; every default must be there. */
export async function edgeConfiguration(
  name: 'nginx.conf' | 'haproxy.cfg',
  { port, bridgehead, worker, frontend }: EdgeAddresses,
): Promise<string> {
  const defaults: Record<string, string> = {
    '127.0.0.1:8080': `127.0.0.1:${bridgehead}`,
    '127.0.0.1:8000': `127.0.0.1:${worker}`,
  };
  if (name === 'nginx.conf') {
    if (frontend === undefined) throw new Error('nginx.conf needs the folder of the frontend');
    defaults['listen 80;'] = `listen 127.0.0.1:${port};`;
    defaults['/srv/shop/frontend'] = frontend;
  } else {
    defaults['bind :80\n'] = `bind 127.0.0.1:${port}\n`;
  }
  let text = await readFile(join(checkout, 'proxy', name), 'utf8');
  for (const [from, to] of Object.entries(defaults)) {
    if (!text.includes(from)) throw new Error(`proxy/${name} has no ${JSON.stringify(from)} to replace`);
    text = text.replaceAll(from, to);
  }
  return text;
}
