import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startProcess } from '../process.ts';
import { accepts } from './accepts.ts';
import { requireProgram } from './install.ts';

export interface Nginx {
  pid: number;
  /** For configurations that write logs or temporary files. */
  folder: string;
  logFile: string;
  stop(): Promise<void>;
}

export const nginxProgram = { name: 'nginx', aptPackage: 'nginx' };

/** nginx in the foreground with a whole configuration text; ready once `port` accepts connections. */
export async function startNginx(options: { configuration: string; port: number }): Promise<Nginx> {
  const command = await requireProgram(nginxProgram);
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-nginx-'));
  // Its workers run as an unprivileged user when the master is root.
  await chmod(folder, 0o755);
  await mkdir(join(folder, 'logs'));
  const file = join(folder, 'nginx.conf');
  const logFile = join(folder, 'nginx.log');
  await writeFile(file, withTemporaryFolders(options.configuration, folder));
  const server = await startProcess({
    name: 'nginx',
    command,
    args: [
      '-p',
      folder,
      '-c',
      file,
      '-e',
      join(folder, 'error.log'),
      '-g',
      `daemon off; pid ${join(folder, 'nginx.pid')};`,
    ],
    logFile,
    ready: () => accepts(options.port),
  });
  return {
    pid: server.pid,
    folder,
    logFile,
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Without these nginx wants its package's own folders, which only root may write. */
function withTemporaryFolders(configuration: string, folder: string): string {
  const directives = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `    ${name}_temp_path ${join(folder, name)};\n`,
  );
  return configuration.replace(/^http \{\n/m, (start) => start + directives.join(''));
}
