import { z } from 'zod';
import { TIERS } from '../src/protocol/tier.ts';
import { key } from './about.ts';

const glob = z.string().min(1).max(500);

const permission = z.string().refine((text) => /^[^.\s]+\.[^\s]+$/.test(text), {
  message: 'is not a permission of Django',
  params: { remedy: 'Write app_label.codename, for example shop.change_product.' },
});

/** Without `when`, zod leaves out a check on an object in which anything else is wrong: we tell all faults at once. */
const always = { when: () => true };

function has(value: unknown, name: string): boolean {
  return typeof value === 'object' && value !== null && (value as Record<string, unknown>)[name] !== undefined;
}

export const tierRule = z
  .strictObject({
    state: key(glob.optional(), {
      description: 'Glob over the dotted `module.Class` of the state that handles the event.',
      reload: true,
    }),
    handler: key(glob.optional(), { description: "Glob over the handler's name.", reload: true }),
    path: key(glob.optional(), {
      description: "Glob over the page's path as the client says it. A rule with a path may only raise a tier.",
      reload: true,
    }),
    tier: key(z.enum(TIERS).optional(), { description: 'The tier of the events that match.', reload: true }),
    login: key(z.union([z.enum(['required', 'staff']), z.strictObject({ permission })]).optional(), {
      description: 'Who may run the handler: `required`, `staff`, or `{ permission: "app_label.codename" }`.',
      reload: true,
    }),
    retry: key(z.enum(['safe']).optional(), {
      description:
        '`safe`: the handler may run twice. Its events are then repeated where a worker crashed on them; others are told to the client.',
      reload: true,
    }),
  })
  .refine((rule) => has(rule, 'tier') || has(rule, 'login') || has(rule, 'retry'), {
    ...always,
    message: 'has neither tier, login nor retry and would do nothing',
    params: { remedy: 'Add a tier, a login or retry, or remove the rule.' },
  })
  .refine((rule) => !(has(rule, 'path') && has(rule, 'retry')), {
    ...always,
    message: 'has retry beside a path, by which only tiers are raised',
    params: { remedy: 'Put retry into a rule without path.' },
  })
  .refine((rule) => !(has(rule, 'path') && has(rule, 'login') && !has(rule, 'state') && !has(rule, 'handler')), {
    ...always,
    message: "guards by path alone, which is the client's own word",
    params: { remedy: 'Name the state or the handler that needs the login; path may stay beside it.' },
  });
