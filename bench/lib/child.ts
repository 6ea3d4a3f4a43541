import { fork, type ChildProcess } from 'node:child_process';

interface Failed {
  readonly kind: 'failed';
  readonly message: string;
}

/** A client in a process of its own, which answers one command after the other over the channel that Node makes for it. */
export class Child<Command extends { readonly kind: string }, Reply extends { readonly kind: string }> {
  readonly #process: ChildProcess;
  readonly #name: string;

  /** `name`: for errors. */
  constructor(script: URL, name: string) {
    this.#process = fork(script, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#name = name;
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** Rejects where the child failed, ended, or did not answer in time. */
  ask<Kind extends Reply['kind']>(
    command: Command,
    kind: Kind,
    milliseconds: number,
  ): Promise<Extract<Reply, { readonly kind: Kind }>> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#process.off('message', onMessage).off('exit', onExit);
      };
      const fail = (message: string): void => {
        done();
        reject(new Error(`${this.#name}: ${message}`));
      };
      const onMessage = (reply: Reply | Failed): void => {
        if (reply.kind === 'failed') return fail((reply as Failed).message);
        if (reply.kind !== kind) return fail(`answered ${reply.kind} to ${command.kind}`);
        done();
        resolve(reply as Extract<Reply, { readonly kind: Kind }>);
      };
      const onExit = (): void => fail('exited');
      const timer = setTimeout(() => fail(`no answer to ${command.kind}`), milliseconds);
      this.#process.on('message', onMessage).on('exit', onExit);
      this.#process.send(command);
    });
  }

  stop(): void {
    if (this.#process.connected) this.#process.disconnect();
  }
}
