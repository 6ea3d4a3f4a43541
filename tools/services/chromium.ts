import { chromium } from 'playwright-core';
import type { Browser } from 'playwright-core';
import { findProgram, requireProgram } from './install.ts';

export const chromiumProgram = { name: 'chromium', aptPackage: 'chromium' };
const otherNames = ['chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** A headless Chromium from the machine's own installation; the caller closes it. */
export async function launchChromium(): Promise<Browser> {
  const executablePath =
    findProgram(chromiumProgram) ??
    otherNames.map((name) => findProgram({ name, aptPackage: 'chromium' })).find((path) => path !== undefined) ??
    (await requireProgram(chromiumProgram));
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}
