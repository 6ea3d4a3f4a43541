import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { EXTENSIONS } from '../../config/file.ts';
import { template, TEMPLATE_FORMATS } from '../../config/template.ts';
import { command, ExitCode } from '../command.ts';

export const init = command({
  meta: { name: 'init', description: 'Write a commented bridgehead.config file into this folder' },
  args: {
    format: { type: 'enum', options: [...TEMPLATE_FORMATS], default: 'ts', description: 'Kind of file' },
    force: { type: 'boolean', description: 'Overwrite the file' },
    json: { type: 'boolean', description: 'Print JSON' },
  },
  async run({ args }): Promise<number> {
    const format = args.format ?? 'ts';
    const file = resolve(`bridgehead.config.${format}`);
    const name = relative(process.cwd(), file);
    const other = existing().find((found) => found !== file);
    if (other !== undefined)
      return fail(`${relative(process.cwd(), other)} exists already, and only one file can be the configuration`);
    if (existsSync(file) && !args.force) return fail(`${name} exists already; --force overwrites it`);
    await writeFile(file, template(format));
    const app = reflexConfig(process.cwd());
    if (args.json) process.stdout.write(`${JSON.stringify({ file, reflexConfig: app ?? null })}\n`);
    else process.stdout.write(advice(name, app));
    return ExitCode.ok;
  },
});

function existing(): string[] {
  return ['.', 'config']
    .flatMap((folder) => EXTENSIONS.map((extension) => resolve(folder, `bridgehead.config.${extension}`)))
    .filter(existsSync);
}

function fail(problem: string): number {
  process.stderr.write(`bridgehead: ${problem}\n`);
  return ExitCode.failed;
}

/** The app's rxconfig.py, here or in a folder above within the same project. */
function reflexConfig(start: string): string | undefined {
  for (let folder = start; ; folder = dirname(folder)) {
    const file = join(folder, 'rxconfig.py');
    if (existsSync(file)) return file;
    if (existsSync(join(folder, '.git')) || dirname(folder) === folder) return undefined;
  }
}

function advice(name: string, app: string | undefined): string {
  const where = app === undefined ? 'rxconfig.py (not found here)' : relative(process.cwd(), app);
  return `Wrote ${name}. Next:
  1. In ${where}:
       from bridgehead import BridgeheadPlugin
       plugins=[..., BridgeheadPlugin()]    # after ReflexDjangoPlugin
  2. Give the sidecar and the workers the same BRIDGEHEAD_SECRET: openssl rand -base64 48
  3. bridgehead check && bridgehead serve
`;
}
