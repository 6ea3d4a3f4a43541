/** Metrics adapters: the port's figures for Prometheus and for the log. They import ports and protocol alone. */
export { type MetricsLog, metricsLog } from './log-line.ts';
export { type PrometheusMetrics, prometheusMetrics } from './prometheus.ts';
