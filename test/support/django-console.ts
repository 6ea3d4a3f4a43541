import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { checkout } from '../../tools/checkout.ts';
import type { PythonEnv } from '../../tools/python-env.ts';

/** Plain Django in a process of its own, on the shop's settings and database; see django_console.py. */
export interface DjangoConsole {
  /** Rejects with Django's own error. */
  run<T = null>(op: string, values?: object): Promise<T>;
  stop(): Promise<void>;
}

/** `env` names the database, Redis and secrets, as for the shop's worker. */
export function startDjangoConsole(python: PythonEnv, env: Readonly<Record<string, string>>): DjangoConsole {
  const child = spawn(python.python, [join(checkout, 'test', 'support', 'django_console.py')], {
    cwd: join(checkout, 'examples', 'shop'),
    env: { ...process.env, PYTHONPATH: '.', DJANGO_SETTINGS_MODULE: 'shop.settings', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = new Promise<void>((resolve) => void child.once('exit', () => resolve()));
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let last: Promise<unknown> = Promise.resolve();
  const ask = async (line: string): Promise<unknown> => {
    child.stdin.write(`${line}\n`);
    const { value, done } = await answers.next();
    if (done === true) throw new Error('the Django console has ended');
    const answer = JSON.parse(value) as { ok?: unknown; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.ok;
  };
  return {
    run: <T>(op: string, values: object = {}) => {
      const answer = last.then(() => ask(JSON.stringify({ op, ...values })));
      last = answer.catch(() => undefined);
      return answer as Promise<T>;
    },
    stop: async () => {
      child.stdin.end();
      await exited;
    },
  };
}
