import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { checkout } from '../../tools/checkout.ts';
import type { PythonEnv } from '../../tools/python-env.ts';

export interface ProjectSettings {
  readonly databaseUrl: string;
  readonly secretKey?: string;
  readonly fallbacks?: readonly string[];
  /** `auth.User`, or `members.Member` with a UUID key and columns of its own. */
  readonly userModel?: 'auth.User' | 'members.Member';
  readonly engine?: string;
  readonly serializer?: string;
  readonly backends?: readonly string[];
}

/** A small Django project in a process of its own; see python/django_project.py. */
export class DjangoProject {
  readonly settings: Required<ProjectSettings>;
  readonly #child;
  readonly #answers: AsyncIterator<string>;
  readonly #exited: Promise<void>;
  #last: Promise<unknown> = Promise.resolve();

  constructor(python: PythonEnv, settings: ProjectSettings) {
    this.settings = {
      secretKey: 'the secret key of the project',
      fallbacks: [],
      userModel: 'auth.User',
      engine: 'django.contrib.sessions.backends.db',
      serializer: 'django.contrib.sessions.serializers.JSONSerializer',
      backends: ['django.contrib.auth.backends.ModelBackend'],
      ...settings,
    };
    const script = join(checkout, 'test', 'support', 'python', 'django_project.py');
    const child = spawn(python.python, [script, JSON.stringify(djangoSettings(this.settings))], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child = child;
    this.#exited = new Promise((resolve) => void child.once('exit', () => resolve()));
    this.#answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Rejects with Django's own error. */
  run<T = null>(op: string, values: object = {}): Promise<T> {
    const answer = this.#last.then(() => this.#ask(JSON.stringify({ op, ...values })));
    this.#last = answer.catch(() => undefined);
    return answer as Promise<T>;
  }

  async stop(): Promise<void> {
    this.#child.stdin.end();
    await this.#exited;
  }

  async #ask(line: string): Promise<unknown> {
    this.#child.stdin.write(`${line}\n`);
    const next = await this.#answers.next();
    if (next.done === true) throw new Error('the Django project has ended');
    const answer = JSON.parse(next.value) as { ok?: unknown; error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.ok;
  }
}

function djangoSettings(settings: Required<ProjectSettings>): object {
  const { hostname, port, username, pathname } = new URL(settings.databaseUrl);
  return {
    DATABASES: {
      default: {
        ENGINE: 'django.db.backends.postgresql',
        HOST: hostname,
        PORT: port,
        USER: username,
        NAME: pathname.slice(1),
      },
    },
    SECRET_KEY: settings.secretKey,
    SECRET_KEY_FALLBACKS: settings.fallbacks,
    AUTH_USER_MODEL: settings.userModel,
    SESSION_ENGINE: settings.engine,
    SESSION_SERIALIZER: settings.serializer,
    AUTHENTICATION_BACKENDS: settings.backends,
  };
}
