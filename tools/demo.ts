import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startBridgehead } from './bridgehead.ts';
import { cacheFolder } from './checkout.ts';
import { builtFrontend, frontendFor } from './frontend.ts';
import { freePort, isFree } from './ports.ts';
import { stopAll, stopAllOnSignals, waitUntil } from './process.ts';
import { pythonEnv } from './python-env.ts';
import { handshake, prepareShop, startShop } from './shop.ts';

const usage = `npm run demo [-- --check]

Starts the shop behind Bridgehead with SQLite and in-memory defaults, and stops all of it on Ctrl-C.
  --check   start everything, fetch a page and an Engine.IO handshake, stop
  --help    this text

The first run makes a Python environment and builds the frontend (a few minutes); both are kept below .cache/.`;

function onProgress(text: string): void {
  console.log(`        ${text} …`);
}

async function demo(check: boolean): Promise<number> {
  let stopping = false;
  stopAllOnSignals({
    exitCode: 0,
    before: () => {
      stopping = true;
      console.log('\nStopping …');
    },
  });
  const began = Date.now();
  // A check leaves nothing behind and meets no demo that is running; else the database and the uploads are kept.
  const kept = check ? await mkdtemp(join(tmpdir(), 'bridgehead-demo-')) : join(cacheFolder, 'demo');

  const python = await step('Python environment', () => pythonEnv({ onProgress }));
  const databaseUrl = `sqlite:///${join(kept, 'shop.sqlite3')}`;
  await step('Database: migrations, products, users', () => prepareShop({ python, folder: kept, databaseUrl }));
  const built = await step('Frontend', () => builtFrontend(python, { onProgress }));

  const port = (await isFree(8080)) ? 8080 : await freePort();
  const folder = join(kept, `port-${port}`);
  await rm(folder, { recursive: true, force: true });
  const frontend = await frontendFor(built, port, join(folder, 'frontend'));
  const secret = randomBytes(32).toString('base64url');
  // The worker dials in for ever, so the order of these two does not matter to them; this one shows its log first.
  const workerPort = await freePort();
  const bridgehead = await step('Bridgehead', () =>
    startBridgehead({
      port,
      folder,
      settings: { name: 'shop-demo', backends: [`http://127.0.0.1:${workerPort}`], proxyOther: true },
      env: { BRIDGEHEAD_SECRET: secret },
    }),
  );
  const shop = await step('Python worker', () =>
    startShop({
      python,
      folder,
      databaseUrl,
      frontend,
      port: workerPort,
      prepare: false,
      env: {
        BRIDGEHEAD_LINK_URL: bridgehead.linkUrl,
        BRIDGEHEAD_SECRET: secret,
        BRIDGEHEAD_NAME: 'shop-demo',
        REFLEX_UPLOADED_FILES_DIR: join(kept, 'uploads'),
      },
    }),
  );
  const address = `http://localhost:${port}`;
  await step('First page through Bridgehead', () => waitUntil(() => answers(address, port), { what: address }));

  console.log(`
  Open     ${address}
  Log in   demo / demo-pass     (staff, for ${address}/admin/: admin / admin-pass)
  Admin    ${bridgehead.adminUrl}
  Logs     ${bridgehead.logFile}
           ${shop.logFile}

  Ready after ${seconds(began)}. ${check ? '' : 'Ctrl-C stops everything.'}`);

  if (check) {
    await stopAll();
    await rm(kept, { recursive: true, force: true });
    console.log('OK');
    return 0;
  }
  const left = await Promise.race(
    [bridgehead.process, shop.process].map(async (child) => {
      await child.exited;
      return child;
    }),
  );
  // Told to stop, the signal's handler ends this process when all children have left.
  if (stopping) return new Promise(() => undefined);
  console.error(`${left.name} has stopped; its log: ${left.logFile}`);
  await stopAll();
  return 1;
}

/** One line when it begins and one with its time when it is done. */
async function step<T>(name: string, work: () => Promise<T>): Promise<T> {
  const began = Date.now();
  console.log(`  …     ${name}`);
  const result = await work();
  console.log(`  done  ${name} (${seconds(began)})`);
  return result;
}

function seconds(since: number): string {
  return `${((Date.now() - since) / 1000).toFixed(1)} s`;
}

async function answers(address: string, port: number): Promise<boolean> {
  const response = await fetch(address, { signal: AbortSignal.timeout(5_000) });
  return response.ok && (await response.text()).includes('<title>') && (await handshake(port));
}

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  console.log(usage);
} else if (args.some((argument) => argument !== '--check')) {
  console.error(usage);
  process.exitCode = 2;
} else {
  try {
    process.exit(await demo(args.includes('--check')));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    await stopAll();
    process.exit(1);
  }
}
