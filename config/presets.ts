/**
 * Presets fill keys that no file, variable or flag sets. What each is for stands in `PRESET_PURPOSE`
 * and, with its values, in docs/CONFIGURATION.md.
 */
export const PRESET_NAMES = ['lean', 'small', 'large'] as const;
export type PresetName = (typeof PRESET_NAMES)[number];

export const PRESET_PURPOSE: Readonly<Record<PresetName, string>> = {
  lean: 'Spares Python: the least tier that each class needs, longer waits before live changes are sent, fewer log lines.',
  small: 'One machine with 512 MB for everything.',
  large: 'A machine of its own with 8 GB, behind a balancer that needs time to notice a drain.',
};

export const PRESETS: Readonly<
  Record<PresetName, Readonly<Record<string, Readonly<Record<string, unknown>> | number>>>
> = {
  lean: {
    tiers: { mode: 'smart' },
    live: { coalesceMs: 250 },
    metrics: { log: { intervalSeconds: 300 } },
  },
  small: {
    limits: { sessions: 2000, queueBytes: 256_000, totalQueueBytes: 32_000_000 },
    auth: { cache: { max: 5000 } },
  },
  large: {
    limits: { sessions: 100_000, totalQueueBytes: 1_000_000_000 },
    auth: { cache: { max: 500_000 } },
    shutdownDelay: 5,
  },
};
