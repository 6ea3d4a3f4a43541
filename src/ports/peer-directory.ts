/** Where the sidecars of a deployment are. A sidecar's sids begin with a prefix of its own. */
export interface PeerDirectory {
  /**
   * The address (`http://host:port`) that the sidecar with this prefix says of itself; undefined where none is known. MUST resolve in
   * any case, within a second, and MUST know an address from a sidecar of this deployment alone: clients' requests go there.
   */
  find(prefix: string): Promise<string | undefined>;
}
