import type { AppMode, ManifestCheck, ManifestState } from '../protocol/manifest.ts';
import type { ShadowHandler } from '../protocol/shadow-report.ts';
import type { TierMode, TierRule } from './tiers.ts';

/** What all workers saw together while the rules were a shadow. */
export interface ShadowSum {
  /** Unix milliseconds; undefined where nothing was seen. */
  readonly since: number | undefined;
  readonly workers: number;
  readonly handlers: readonly ShadowHandler[];
}

/** What `bridgehead doctor` judges by. No field holds a secret. */
export interface DoctorFacts {
  readonly name: string;
  readonly version: string;
  readonly shadow: boolean;
  /** Whether there is a secret, so that workers can link. */
  readonly secret: boolean;
  readonly redis: boolean;
  readonly authSource: string;
  readonly mode: TierMode;
  /** A function decides before the rules. */
  readonly resolve: boolean;
  readonly rules: readonly TierRule[];
  /** Workers that are linked now. */
  readonly workers: readonly {
    readonly instance: string;
    readonly host: string;
    readonly versions: Readonly<Record<string, string | null>>;
    readonly checks: readonly ManifestCheck[];
  }[];
  /** The youngest linked worker's app; undefined without one. */
  readonly app:
    | {
        readonly mode: AppMode;
        /** It has a tier resolver of its own. */
        readonly resolver: boolean;
        readonly states: Readonly<Record<string, ManifestState>>;
      }
    | undefined;
  readonly seen: ShadowSum;
}
