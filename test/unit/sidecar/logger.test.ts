import { describe, expect, it } from 'vitest';
import { hideTokens, makeLogger } from '../../../sidecar/logger.ts';

async function capture() {
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) };
  return { lines, logger: await makeLogger({ level: 'info', pretty: false, destination }) };
}

describe('the log', () => {
  it('hides cookies, authorization, tokens and secrets, at the top and inside', async () => {
    const { lines, logger } = await capture();
    logger.info(
      {
        token: 'hunter2',
        headers: { cookie: 'hunter2', authorization: 'hunter2', 'set-cookie': 'hunter2', host: 'kept' },
        config: { admin: { apiKey: 'hunter2' }, secret: 'hunter2' },
        url: '/_event/?token=hunter2&EIO=4',
        redis: 'redis://user:hunter2@redis:6379',
      },
      'GET /_event/?EIO=4&token=hunter2',
    );
    expect(JSON.stringify(lines)).not.toContain('hunter2');
    expect(lines[0]).toMatchObject({ level: 'info', headers: { host: 'kept' }, url: '/_event/?token=(hidden)&EIO=4' });
  });

  it('hides tokens in the messages of errors', async () => {
    const { lines, logger } = await capture();
    logger.error({ err: new Error('GET http://h/_event?token=hunter2 failed') }, 'failed');
    expect(JSON.stringify(lines)).not.toContain('hunter2');
  });

  it('keeps the code and the cause of an error', async () => {
    const { lines, logger } = await capture();
    const cause = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
    logger.error({ err: Object.assign(new Error('no worker', { cause }), { code: 'UPSTREAM_TIMEOUT' }) }, 'failed');
    expect(lines[0]).toMatchObject({
      err: { message: 'no worker', code: 'UPSTREAM_TIMEOUT', cause: { code: 'ECONNREFUSED' } },
    });
  });

  it('changes its level while it runs', async () => {
    const { lines, logger } = await capture();
    logger.debug({}, 'not yet');
    logger.level = 'debug';
    logger.debug({}, 'now');
    expect(lines.map(({ msg }) => msg)).toEqual(['now']);
  });

  it('leaves what is no token alone', () => {
    const line = '{"url":"http://h:80/a@b?tokens=1","msg":"a token=kept"}';
    expect(hideTokens(line)).toBe(line);
  });
});
