import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type ConfigError, type Fault } from '../../../config/faults.ts';
import { type LoadedConfig, loadConfig } from '../../../config/load.ts';

/** A temporary folder with these files; removed after the test. */
export async function folderWith(files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-config-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return folder;
}

/** Loads from files and variables alone. */
export async function load(
  files: Readonly<Record<string, string>>,
  environment: Readonly<Record<string, string>> = {},
): Promise<LoadedConfig> {
  return loadConfig({ folder: await folderWith(files), environment });
}

/** The faults of a configuration that must have some. */
export async function faultsOf(
  files: Readonly<Record<string, string>>,
  environment: Readonly<Record<string, string>> = {},
): Promise<readonly Fault[]> {
  return load(files, environment).then(
    () => {
      throw new Error('the configuration has no faults');
    },
    (error: unknown) => {
      const { faults } = error as ConfigError;
      if (faults === undefined) throw error;
      return faults;
    },
  );
}

export const yaml = (text: string) => ({ 'bridgehead.config.yaml': text });
