/**
 * A place in a topic: `{epoch, offset}`, and where an application may keep it.
 *
 * *Invariant:* whatever a store holds, a position that was read is well-formed or absent.
 */

/** The server's rule for an epoch. */
const EPOCH = /^[A-Za-z0-9_-]{1,64}$/

/**
 * The position in `value`, without anything else it may hold; null if it is none.
 * @param {any} value
 * @returns {import("./index.js").Position | null}
 */
export function toPosition(value) {
  if (value === null || typeof value !== "object") return null
  const { epoch, offset } = value
  if (typeof epoch !== "string" || !EPOCH.test(epoch)) return null
  if (!Number.isSafeInteger(offset) || offset < 0) return null
  return Object.freeze({ epoch, offset })
}

/** A topic's position in something like `sessionStorage`. */
export class StoredPosition {
  #store
  #key

  /**
   * @param {import("./index.js").PositionStore} store
   * @param {string} topic
   */
  constructor(store, topic) {
    this.#store = store
    this.#key = `ringcast:${topic}`
  }

  /** What was saved; null if nothing was, or nothing that makes sense. */
  load() {
    try {
      return toPosition(JSON.parse(this.#store.getItem(this.#key) ?? "null"))
    } catch {
      return null // not ours, or the store may not be used: a fresh start is always right
    }
  }

  /** @param {import("./index.js").Position | null} position */
  save(position) {
    try {
      if (position === null) this.#store.removeItem(this.#key)
      else this.#store.setItem(this.#key, JSON.stringify(position))
    } catch {
      // A full or forbidden store must not stop the messages: an older position only repeats some after a reload.
    }
  }
}
