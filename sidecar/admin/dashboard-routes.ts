import { readFile } from 'node:fs/promises';
import type { Reply } from './reply.ts';
import type { Route } from './routes.ts';

/** The page beside this folder: it holds no data, and asks the API for everything. */
const FOLDER = new URL('../dashboard/', import.meta.url);

const TYPES = { html: 'text/html', css: 'text/css', js: 'text/javascript' } as const;

/** Path to file. */
const FILES: Readonly<Record<string, `${string}.${keyof typeof TYPES}`>> = {
  '/': 'index.html',
  '/dashboard.css': 'dashboard.css',
  ...Object.fromEntries(
    ['dashboard', 'api', 'chart', 'figures', 'page', 'words'].map((name) => [`/${name}.js`, `${name}.js`] as const),
  ),
};

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
} as const;

export function dashboardRoutes(): Route[] {
  return Object.entries(FILES).map(([path, file]) => ({
    method: 'GET',
    path,
    access: 'page',
    handle: async (): Promise<Reply> => {
      const body = await readFile(new URL(file, FOLDER), 'utf8');
      const type = TYPES[file.slice(file.lastIndexOf('.') + 1) as keyof typeof TYPES];
      return { status: 200, contentType: `${type}; charset=utf-8`, body, headers: HEADERS };
    },
  }));
}
