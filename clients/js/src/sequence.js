/**
 * Where a channel is in its topic, and what of the frames that come is new: a pure state machine, frames in, deliveries
 * out.
 *
 * *Invariants:* the position moves only while joined, and only forward within an epoch, but for a join reply, which sets
 * it; a publication is delivered once; a binary publication is delivered when its marker came, so that a connection lost
 * between the two repeats it without having delivered it before.
 *
 * Leaves out: the socket, timers, callbacks.
 */

import { toPosition } from "./position.js"

/**
 * @typedef {import("./index.js").Position} Position
 * @typedef {{ kind: "event", event: string, payload: any, offset: number | null, epoch: string | null }} Event
 * @typedef {{ kind: "gap", gap: import("./index.js").Gap }} Missed
 * @typedef {Event | Missed} Delivery
 */

/** Events of phoenix.js and of the channel's own life: never an application's. */
const LIFECYCLE = /^(phx_|chan_reply_)/

/**
 * The offset in the ref place of an event frame: "@44" is 44.
 * @param {unknown} ref
 */
function offsetOf(ref) {
  if (typeof ref !== "string" || !/^@[0-9]{1,16}$/.test(ref)) return null
  const offset = Number(ref.slice(1))
  return Number.isSafeInteger(offset) ? offset : null
}

export class Sequence {
  /** @type {Position | null} */
  #position
  #joined = false
  /** The server keeps positions for this channel. */
  #granted = false
  /** @type {{ event: string, payload: ArrayBuffer } | null} A binary frame whose marker has not come yet. */
  #held = null

  /** @param {Position | null} position from where to go on */
  constructor(position) {
    this.#position = position
  }

  get position() {
    return this.#position
  }

  get granted() {
    return this.#granted
  }

  get holds() {
    return this.#held !== null
  }

  /** What to ask for in the next join. */
  wish() {
    return this.#position ?? true
  }

  /**
   * The ok reply of a join. Only what comes after it counts: frames of a join that timed out here, but not at the server,
   * come again.
   * @param {any} reply
   * @returns {boolean | undefined} recovered; undefined where the server keeps no positions
   */
  joined(reply) {
    this.#joined = true
    // Without a position of the server's own an old one would be resumed from later, past messages that came since.
    this.#position = toPosition(reply)
    this.#granted = this.#position !== null
    return this.#granted ? reply.recovered === true : undefined
  }

  /** The channel is no longer joined. A held binary frame comes again: its marker was not seen. */
  lost() {
    this.#joined = false
    this.#held = null
  }

  /**
   * A frame of the channel.
   * @param {string} event
   * @param {any} payload
   * @param {unknown} ref
   * @returns {Delivery[]} what the application is to hear, in this order
   */
  take(event, payload, ref) {
    if (event.startsWith("chan_reply_")) return [] // phoenix.js tells itself of a reply: no frame
    if (!this.#granted) return LIFECYCLE.test(event) ? [] : [this.#event(event, payload, null)]
    const offset = offsetOf(ref)
    if (event === "phx_offset") return this.#marker(payload, offset)
    // A binary publication's marker is the very next frame: what was held and got none has no offset.
    const deliveries = this.release()
    if (event === "gap") deliveries.push(...this.#gap(payload))
    else if (LIFECYCLE.test(event)) return deliveries
    else if (offset !== null) deliveries.push(...this.#publication(event, payload, offset))
    else if (payload instanceof ArrayBuffer) this.#held = { event, payload }
    else deliveries.push(this.#event(event, payload, null))
    return deliveries
  }

  /**
   * Gives out a held frame without an offset: no marker belongs to it.
   * @returns {Delivery[]}
   */
  release() {
    if (this.#held === null) return []
    const { event, payload } = this.#held
    this.#held = null
    return [this.#event(event, payload, null)]
  }

  /**
   * @param {any} payload
   * @param {number | null} offset
   * @returns {Delivery[]}
   */
  #marker(payload, offset) {
    const held = this.#held
    if (offset === null) return this.release()
    this.#held = null
    if (held !== null) return this.#publication(held.event, held.payload, offset)
    if (!this.#move(offset) || payload?.skipped === undefined) return []
    // The transport cannot carry it; for the application that is a hole like any other.
    const { epoch } = /** @type {Position} */ (this.#position)
    return [{ kind: "gap", gap: { epoch, from: offset, to: offset, reason: "skipped_binary" } }]
  }

  /**
   * @param {string} event
   * @param {any} payload
   * @param {number} offset
   * @returns {Delivery[]}
   */
  #publication(event, payload, offset) {
    return this.#move(offset) ? [this.#event(event, payload, offset)] : []
  }

  /**
   * @param {any} payload
   * @returns {Delivery[]}
   */
  #gap(payload) {
    const to = toPosition({ epoch: payload?.epoch, offset: payload?.to })
    if (!this.#joined || to === null) return []
    if (to.epoch === this.#position?.epoch) {
      if (!this.#move(to.offset)) return []
    } else this.#position = to
    const { epoch, from, reason } = payload
    return [{ kind: "gap", gap: { epoch, from, to: to.offset, reason } }]
  }

  /**
   * Whether `offset` is new; if so the position is there now.
   * @param {number} offset
   */
  #move(offset) {
    if (!this.#joined || this.#position === null || offset <= this.#position.offset) return false
    this.#position = Object.freeze({ epoch: this.#position.epoch, offset })
    return true
  }

  /**
   * @param {string} event
   * @param {any} payload
   * @param {number | null} offset
   * @returns {Event}
   */
  #event(event, payload, offset) {
    return { kind: "event", event, payload, offset, epoch: this.#position?.epoch ?? null }
  }
}
