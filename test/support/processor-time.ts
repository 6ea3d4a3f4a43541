/**
 * Processor time that this process spends in `work`, in milliseconds. It tells linear from quadratic, which differ by orders of magnitude, also
 * where others use the machine.
 */
export function processorTime(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
