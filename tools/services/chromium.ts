import { chromium } from 'playwright-core';
import type { Browser } from 'playwright-core';
import { requireProgram } from './install.ts';

export const chromiumProgram = {
  name: 'chromium',
  otherNames: ['chromium-browser', 'google-chrome', 'google-chrome-stable'],
  aptPackage: 'chromium',
};

/** A headless Chromium from the machine's own installation; the caller closes it. */
export async function launchChromium(): Promise<Browser> {
  const executablePath = await requireProgram(chromiumProgram);
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
