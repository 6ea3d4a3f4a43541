import { ConfigError } from '../../config/faults.ts';
import type { DoctorFacts } from '../../src/ports/doctor.ts';
import { AdminUnreachable, adminUrl, askAdmin } from '../admin-client.ts';
import { command, ExitCode } from '../command.ts';
import { configArgs, faultLines, readConfig } from '../config-source.ts';
import { diagnose } from '../doctor/diagnosis.ts';
import { asText } from '../doctor/report.ts';

export const doctor = command({
  meta: {
    name: 'doctor',
    description: 'Ask the running sidecar what its rules do, or would do in shadow mode, and advise better ones',
  },
  args: {
    config: configArgs.config,
    'admin-listen': configArgs['admin-listen'],
    url: {
      type: 'string',
      description: 'The admin listener; else admin.listen of the configuration',
      valueHint: 'http://host:port',
    },
    json: { type: 'boolean', description: 'Print JSON' },
  },
  async run({ args }): Promise<number> {
    try {
      const { config } = await readConfig(args);
      const answer = await askAdmin(args.url ?? adminUrl(config), '/api/doctor', config.admin.apiKey);
      // A sidecar of the same version, asked over its own API.
      const diagnosis = diagnose(answer as DoctorFacts);
      process.stdout.write(args.json ? `${JSON.stringify(diagnosis, null, 2)}\n` : asText(diagnosis));
      return diagnosis.ok ? ExitCode.ok : ExitCode.failed;
    } catch (error) {
      if (error instanceof AdminUnreachable) process.stderr.write(`bridgehead: ${error.message}\n`);
      else if (error instanceof ConfigError) process.stderr.write(faultLines(error));
      else throw error;
      return ExitCode.failed;
    }
  },
});
