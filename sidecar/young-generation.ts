import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** Bytes at which V8's young generation stops growing. */
const ENOUGH = 16 * 1024 * 1024;

/**
 * Keeps V8's young generation small. It grows with whatever survives, and ten thousand sessions that stay survive: it would reach
 * 100 MB, more than the sessions themselves, and hold them while all is idle. Call it once in a process, at its start.
 */
export function boundYoungGeneration(): void {
  const observer = new PerformanceObserver(() => {
    const young = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space');
    if (young === undefined || young.space_size < ENOUGH) return;
    setFlagsFromString('--semi-space-growth-factor=1');
    observer.disconnect();
  });
  observer.observe({ entryTypes: ['gc'] });
}
