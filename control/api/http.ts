/** What the agent's HTTP servers have in common: their limits, and their end. */
import type { Server } from 'node:http';

const REQUEST_TIMEOUT_MS = 5000;

export const HTTP_LIMITS = {
  maxConnections: 64,
  maxHeaderSize: 8192,
  requestTimeout: REQUEST_TIMEOUT_MS,
  headersTimeout: REQUEST_TIMEOUT_MS,
} as const;

/** End all connections. */
export const closeServer = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
