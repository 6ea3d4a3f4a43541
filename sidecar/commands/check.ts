import { relative } from 'node:path';
import { explain, secretNotice, shownKeys } from '../../config/explain.ts';
import { ConfigError } from '../../config/faults.ts';
import type { LoadedConfig } from '../../config/load.ts';
import { configArgs, faultLines, readConfig } from '../config-source.ts';
import { command, ExitCode } from '../command.ts';

export const check = command({
  meta: { name: 'check', description: 'Read the configuration, tell every fault, show what is in force' },
  args: { ...configArgs, json: { type: 'boolean', description: 'Print JSON' } },
  async run({ args }): Promise<number> {
    try {
      const loaded = await readConfig(args);
      process.stdout.write(args.json ? asJson(loaded) : asText(loaded));
      return ExitCode.ok;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      if (args.json) process.stdout.write(`${JSON.stringify({ ok: false, faults: error.faults }, null, 2)}\n`);
      else process.stderr.write(faultLines(error));
      return ExitCode.failed;
    }
  },
});

function noticesOf(loaded: LoadedConfig): string[] {
  return [...loaded.notices, ...secretNotice(loaded), ...explain(loaded)];
}

function asJson(loaded: LoadedConfig): string {
  const keys = Object.fromEntries(shownKeys(loaded).map(({ path, value, source }) => [path, { value, source }]));
  return `${JSON.stringify({ ok: true, file: loaded.file ?? null, keys, notices: noticesOf(loaded) }, null, 2)}\n`;
}

/** Only what differs from the defaults, and the addresses: the rest stands in the documentation. */
function asText(loaded: LoadedConfig): string {
  const always = new Set(['listen', 'admin.listen', 'link.listen', 'backends']);
  const keys = shownKeys(loaded).filter(({ path, source }) => source !== 'default' || always.has(path));
  const width = Math.max(...keys.map(({ path }) => path.length));
  const lines = keys.map(({ path, value, source }) => `  ${path.padEnd(width)}  ${brief(value)}  (${source})`);
  const file = loaded.file === undefined ? 'no file' : relative(process.cwd(), loaded.file);
  const notices = noticesOf(loaded).map((notice) => `  - ${notice}`);
  return [
    `The configuration is good (${file}). In force:`,
    ...lines,
    ...(notices.length > 0 ? ['Notices:', ...notices] : []),
    '',
  ].join('\n');
}

function brief(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
}
