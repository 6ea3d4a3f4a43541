import { allKeys, type Key } from './keys.ts';

export const TEMPLATE_FORMATS = ['ts', 'yaml', 'toml', 'json'] as const;
export type TemplateFormat = (typeof TEMPLATE_FORMATS)[number];

interface Node {
  readonly name: string;
  readonly key: Key;
  readonly children: readonly Node[];
}

/** A new configuration file: every key with its words, commented out at its default. Every format reads back as valid. */
export function template(format: TemplateFormat): string {
  switch (format) {
    case 'ts':
      return typescript();
    case 'yaml':
      return yaml();
    case 'toml':
      return toml();
    case 'json':
      return `${JSON.stringify({ name: 'default', listen: '127.0.0.1:8080', backends: ['http://127.0.0.1:8000'] }, null, 2)}\n`;
  }
}

/** Keys that a file may set, as a tree; those of list entries are told by their list's words. */
function tree(): Node[] {
  const keys = allKeys().filter((key) => !key.path.includes('[]') && key.notation !== 'none');
  const below = (prefix: string): Node[] =>
    keys
      .filter((key) => key.path.startsWith(prefix) && !key.path.slice(prefix.length).includes('.'))
      .map((key) => ({ name: key.path.slice(prefix.length), key, children: below(`${key.path}.`) }));
  return below('');
}

function words({ about }: Key): string {
  const unit = about?.unit === undefined ? '' : ` (${about.unit})`;
  return `${about?.description ?? ''}${unit}`;
}

/** Something to uncomment where there is no default. */
const EXAMPLES: Readonly<Record<string, string>> = {
  preset: 'small',
  peerUrl: 'http://10.0.0.5:8080',
  'live.bus': 'redis',
  'tiers.resolver': './resolver.mjs#resolve',
  'auth.cookie': 'sessionid',
  'auth.loginUrl': '/login',
  'auth.django.secretKey': 'the SECRET_KEY of settings.py',
  'auth.django.userTable': 'auth_user',
  'redis.url': 'redis://127.0.0.1:6379',
  'database.url': 'postgresql://127.0.0.1/shop',
  'database.replicaUrl': 'postgresql://replica/shop',
  'database.listenUrl': 'postgresql://127.0.0.1:5432/shop',
};

function example({ path, fallback }: Key): unknown {
  return fallback ?? EXAMPLES[path] ?? '';
}

/** Secrets come from the environment: better not in the file at all. */
const fromEnvironment = ({ about, path }: Key) =>
  about?.secret === true && !path.endsWith('Url') && !path.endsWith('.url');

function typescript(): string {
  const variable: Readonly<Record<string, string>> = {
    secret: 'BRIDGEHEAD_SECRET',
    'admin.apiKey': 'BRIDGEHEAD_API_KEY',
  };
  const lines = (nodes: readonly Node[], indent: string): string[] =>
    nodes.flatMap(({ name, key, children }) => {
      if (isSection({ name, key, children })) {
        return [`${indent}${name}: {`, ...lines(children, `${indent}  `), `${indent}},`];
      }
      const environment = variable[key.path];
      const value = environment === undefined ? literal(example(key)) : `process.env['${environment}']`;
      return [`${indent}// ${words(key)}`, `${indent}// ${name}: ${value},`];
    });
  return [
    "import { defineConfig } from 'bridgehead';",
    '',
    'export default defineConfig({',
    ...lines(tree(), '  '),
    '});',
    '',
  ].join('\n');
}

function literal(value: unknown): string {
  return JSON.stringify(value)
    .replaceAll(/"((?:[^"\\'])*)"/g, "'$1'")
    .replaceAll(/'(\w+)':/g, '$1: ')
    .replaceAll(/,(?=\S)/g, ', ');
}

function yaml(): string {
  const lines = (nodes: readonly Node[], indent: string): string[] =>
    nodes.flatMap(({ name, key, children }) => {
      // A section without a key of its own would be empty, which is null in YAML: it is commented out too.
      if (isSection({ name, key, children })) return [`# ${indent}${name}:`, ...lines(children, `${indent}  `)];
      const value = fromEnvironment(key) ? `# from the environment` : JSON.stringify(example(key));
      return [`# ${indent}# ${words(key)}`, `# ${indent}${name}: ${value}`];
    });
  return [
    '# The keys of Bridgehead at their defaults: take the # and the blank after it away to set one.',
    ...lines(tree(), ''),
    '',
  ].join('\n');
}

const isSection = ({ key, children }: Node): boolean => children.length > 0 && key.about === undefined;

function tomlEntry({ name, key }: Node): string[] {
  const value = fromEnvironment(key) ? '# from the environment' : inline(example(key));
  return [`# ${words(key)}`, `# ${name} = ${value}`];
}

function toml(): string {
  const section = (node: Node): string[] => [
    '',
    `[${node.key.path}]`,
    ...node.children.filter((child) => !isSection(child)).flatMap(tomlEntry),
    ...node.children.filter(isSection).flatMap(section),
  ];
  const nodes = tree();
  return [
    ...nodes.filter((node) => !isSection(node)).flatMap(tomlEntry),
    ...nodes.filter(isSection).flatMap(section),
    '',
  ].join('\n');
}

function inline(value: unknown): string {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return `{ ${Object.entries(value)
      .map(([name, inner]) => `${name} = ${inline(inner)}`)
      .join(', ')} }`;
  }
  return JSON.stringify(value);
}
