/**
 * One publish: what was asked for, checked, and what has become of it so far.
 *
 * *Invariants:* it is settled once; it is sent again only while a repeat cannot double it.
 */

import { RingcastError } from "./error.js"
import { isMsgId, newMsgId } from "./msg-id.js"

/** Until when a publish is tried, unless the application says otherwise. */
const TIMEOUT_MS = 30_000

/** The server knows an id for 120 s since it first met it; later a repeat would be a second publication. */
const REPEAT_MS = 110_000

/** The longest a timer of JavaScript can wait. */
const TIMER_MS_MAX = 2 ** 31 - 1

export class Publish {
  /** When it was first handed to the socket. @type {number | undefined} */
  #sentAt
  /** Whether it was sent as a plain event, which has no id that makes a repeat harmless. */
  #plain = false
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #deadline
  #retries
  /** Tries that failed. */
  tries = 0
  /** A try ended without telling whether it was published. */
  unknown = false
  /** Why the last try failed. @type {RingcastError | undefined} */
  #failure

  /**
   * @param {string} event
   * @param {object} payload
   * @param {import("./index.js").PublishOptions} options
   */
  constructor(event, payload, { msgId, target, timeout = TIMEOUT_MS, retries = Infinity } = {}) {
    if (typeof event !== "string" || event === "") throw new TypeError("the event must be a string that is not empty")
    if (payload === null || typeof payload !== "object") throw new TypeError("the payload must be an object")
    if (msgId !== undefined && !isMsgId(msgId)) throw new TypeError("msgId must be a string of 1 to 128 bytes")
    if (!(timeout > 0)) throw new TypeError(`timeout must be milliseconds above 0, not ${timeout}`)
    if (!(retries >= 0)) throw new TypeError(`retries must be 0 or more, not ${retries}`)
    this.binary = payload instanceof ArrayBuffer
    if (this.binary && (msgId !== undefined || target !== undefined)) {
      throw new TypeError("a binary payload goes to the channel as it is, without msgId and target")
    }
    this.event = event
    this.payload = payload
    this.target = target
    this.msgId = this.binary ? undefined : msgId ?? newMsgId()
    this.ends = Date.now() + Math.min(timeout, TIMER_MS_MAX)
    this.#retries = retries
    /** @type {Promise<import("./index.js").PublishReply>} */
    this.promise = new Promise((resolve, reject) => {
      this.resolve = (/** @type {import("./index.js").PublishReply} */ reply) => {
        clearTimeout(this.#deadline)
        resolve(reply)
      }
      this.reject = (/** @type {unknown} */ error) => {
        clearTimeout(this.#deadline)
        reject(error)
      }
    })
  }

  /** Calls `expired` at its deadline, unless it is settled before. @param {() => void} expired */
  startDeadline(expired) {
    this.#deadline = setTimeout(expired, Math.max(0, this.ends - Date.now()))
  }

  /**
   * The push it is: X6's object, or the plain event where the server does not know that, or the payload is binary.
   * @param {boolean} granted
   * @returns {[string, object]}
   */
  toPush(granted) {
    this.#sentAt ??= Date.now()
    this.#plain = this.binary || !granted
    if (this.#plain) return [this.event, this.payload]
    const message = { event: this.event, payload: this.payload, msg_id: this.msgId }
    return ["publish", this.target === undefined ? message : { ...message, target: this.target }]
  }

  /**
   * Why it must not be sent (again) now; undefined if it may.
   * @param {boolean} granted
   * @returns {RingcastError | undefined}
   */
  obstacle(granted) {
    if (!granted && this.target !== undefined && this.target !== "all") {
      return this.#fail("unsupported", "this server gave no positions for the channel, so it knows no targets", false)
    }
    if (this.#sentAt === undefined) return undefined
    if (this.unknown && !granted) {
      return this.#fail("unknown_outcome", "sent without an answer, and this server knows no ids", false)
    }
    if (Date.now() - this.#sentAt > REPEAT_MS) {
      return this.#fail("timeout", "the server may have forgotten its id: a repeat might publish it twice", false)
    }
    return undefined
  }

  /**
   * Notes that a try failed.
   * @param {RingcastError} failure
   * @returns {RingcastError | undefined} the end of it, if there is to be no other try
   */
  failed(failure) {
    this.tries++
    this.unknown ||= failure.unknown
    this.#failure = failure
    const retryable = failure.retryable && this.#repeatable()
    if (retryable && this.#retries-- > 0) return undefined
    const { reason, message, code, retryAfterMs, response } = failure
    const { unknown, msgId } = this
    return new RingcastError(reason, { message, code, retryable, unknown, retryAfterMs, msgId, response })
  }

  /** Its deadline has come. */
  expired() {
    const sent = this.#sentAt === undefined ? "it was never sent" : `tries that failed: ${this.tries}`
    return this.#fail("timeout", `not published in time, ${sent}`, this.#repeatable())
  }

  /**
   * @param {string} reason
   * @param {string} message
   * @param {boolean} retryable
   */
  #fail(reason, message, retryable) {
    const { unknown, msgId } = this
    return new RingcastError(reason, { message, retryable, unknown, msgId, cause: this.#failure })
  }

  /** The channel was left or closed. @param {string} reason @param {string} message */
  ended(reason, message) {
    return this.#fail(reason, message, this.#repeatable())
  }

  /** Whether to publish it again cannot double it. */
  #repeatable() {
    return !(this.unknown && this.#plain)
  }
}
