/**
 * Hands out shares of a rate that several sidecars share. Asked in the background, never while an event waits.
 */
export interface SharedBudget {
  /**
   * Asks for up to `wanted` tokens of the bucket `key`, which refills with `perSecond` up to `burst`. Resolves with how many were
   * granted (0 to `wanted`); rejects when the shared store cannot be reached in time.
   */
  lease(key: string, wanted: number, limit: { readonly perSecond: number; readonly burst: number }): Promise<number>;
}
