/** How long to wait before a publish that was refused is tried again. */

const FIRST_MS = 250
const MOST_MS = 5_000

/**
 * Doubling from 250 ms to 5 s, between half and all of it at random; at least what the server asked for, and then spread
 * over half as much again, so that those refused together do not return together.
 * @param {number} tries tries that failed so far, at least 1
 * @param {number} [retryAfterMs] what the server asked for
 * @param {() => number} [random] 0 <= x < 1
 */
export function backoffMs(tries, retryAfterMs = 0, random = Math.random) {
  const step = Math.min(FIRST_MS * 2 ** (tries - 1), MOST_MS)
  return Math.max(step * (0.5 + random() / 2), retryAfterMs * (1 + random() / 2))
}
