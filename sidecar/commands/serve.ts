import type { LoadedConfig } from '../../config/load.ts';
import { configArgs, faultLines, readConfig } from '../config-source.ts';
import { command, ExitCode } from '../command.ts';
import { serveUntilStopped } from '../process.ts';
import { boundYoungGeneration } from '../young-generation.ts';

export const serve = command({
  meta: { name: 'serve', description: 'Run the sidecar until SIGTERM or SIGINT; SIGHUP reloads the configuration' },
  args: configArgs,
  async run({ args }): Promise<number> {
    boundYoungGeneration();
    let loaded: LoadedConfig;
    try {
      loaded = await readConfig(args);
    } catch (error) {
      process.stderr.write(faultLines(error));
      return ExitCode.failed;
    }
    const code = await serveUntilStopped(loaded, () => readConfig(args));
    // What a failed start or drain left open must not hold the process up.
    process.exit(code);
  },
});
