/** How much of Django an event needs, from least to most. */
export const TIERS = ['none', 'auth_only', 'full'] as const;
export type Tier = (typeof TIERS)[number];

const RANK: Record<Tier, number> = { none: 0, auth_only: 1, full: 2 };

/** The higher of two tiers. */
export function raiseTier(tier: Tier, minimum: Tier): Tier {
  return RANK[minimum] > RANK[tier] ? minimum : tier;
}

export function isTier(value: unknown): value is Tier {
  return typeof value === 'string' && Object.hasOwn(RANK, value);
}
