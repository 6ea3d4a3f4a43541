/**
 * Reflex's own records of which worker has which token. A worker that dies leaves its records behind, and who comes next with such a token
 * is taken for a second tab.
 */
export interface TokenRecords {
  /** Takes the record of a token away, whoever wrote it. Resolves in any case, after seconds at most: then Reflex decides as ever. */
  forget(token: string): Promise<void>;
}
