/**
 * The publishes of one channel, in the order they were asked for.
 *
 * One is on its way at a time: the next is sent when the one before was answered or given up. With more, one that is
 * refused and tried again would come after those behind it, which the server had taken meanwhile.
 *
 * *Invariants:* publications commit in the order of the calls; at most `queueMax` wait; each promise is settled by its
 * deadline.
 */

import { backoffMs } from "./backoff.js"
import { RingcastError } from "./error.js"
import { Publish } from "./publish.js"

/**
 * @typedef {object} Lane what a publisher needs of its channel
 * @property {() => boolean} ready joined, over an open connection
 * @property {() => boolean} granted the server keeps positions, so it knows msg_id and target
 * @property {() => number} attemptMs how long a try waits for its reply
 * @property {(event: string, payload: object, timeoutMs: number) => import("./index.js").PushLike} push
 */

export class Publisher {
  #lane
  #queueMax
  /** @type {Publish[]} The first one is on its way, or is the next to be. */
  #waiting = []
  /** Counts tries; the answer to any but the last is late, and nobody waits for it. */
  #attempt = 0
  #inFlight = false
  /** @type {ReturnType<typeof setTimeout> | undefined} Set while the first one waits before it is tried again. */
  #backoff
  /** @type {{ reason: string, message: string } | undefined} */
  #closed

  /**
   * @param {Lane} lane
   * @param {number} queueMax
   */
  constructor(lane, queueMax) {
    this.#lane = lane
    this.#queueMax = queueMax
  }

  /**
   * @param {Publish} publish
   * @returns {Promise<import("./index.js").PublishReply>}
   */
  add(publish) {
    if (this.#closed) {
      publish.reject(publish.ended(this.#closed.reason, this.#closed.message))
    } else if (this.#waiting.length >= this.#queueMax) {
      const message = `${this.#waiting.length} publishes are waiting already`
      publish.reject(new RingcastError("queue_full", { message, retryable: true, msgId: publish.msgId }))
    } else {
      this.#waiting.push(publish)
      publish.startDeadline(() => this.#expire(publish))
      this.pump()
    }
    return publish.promise
  }

  /** Sends the first one, if it is time. To be called whenever the channel has been joined. */
  pump() {
    while (!this.#inFlight && this.#backoff === undefined && this.#waiting.length > 0 && this.#lane.ready()) {
      const [publish] = this.#waiting
      const obstacle = publish.obstacle(this.#lane.granted())
      if (obstacle) this.#end(() => publish.reject(obstacle))
      else this.#send(publish)
    }
  }

  /** The connection or the channel is gone: whether the one on its way has arrived nobody knows. */
  lost() {
    if (this.#inFlight) this.#failed(new RingcastError("disconnected", { retryable: true, unknown: true }), false)
  }

  /** @param {string} reason @param {string} message */
  close(reason, message) {
    if (this.#closed) return
    this.#closed = { reason, message }
    if (this.#inFlight) this.#waiting[0].unknown = true
    this.#attempt++
    this.#inFlight = false
    this.#endBackoff()
    for (const publish of this.#waiting.splice(0)) publish.reject(publish.ended(reason, message))
  }

  /** @param {Publish} publish */
  #send(publish) {
    const attempt = ++this.#attempt
    this.#inFlight = true
    /** @type {(answer: (response: any) => void) => (response?: any) => void} */
    const current = (answer) => (response) => {
      if (this.#inFlight && attempt === this.#attempt) answer(response)
    }
    try {
      const [event, payload] = publish.toPush(this.#lane.granted())
      const ms = Math.max(1, Math.min(this.#lane.attemptMs(), publish.ends - Date.now()))
      this.#lane
        .push(event, payload, ms)
        .receive("ok", current((reply) => {
          this.#end(() => publish.resolve(reply))
          this.pump()
        }))
        .receive("error", current((reply) => this.#failed(RingcastError.fromReply(reply), true)))
        .receive("timeout", current(() => {
          const message = `no reply within ${ms} ms`
          this.#failed(new RingcastError("timeout", { message, retryable: true, unknown: true }), true)
        }))
    } catch (error) {
      // A payload that cannot be encoded; nothing was sent.
      this.#end(() => publish.reject(error))
    }
  }

  /**
   * The try on its way has failed.
   * @param {RingcastError} failure
   * @param {boolean} wait before the next try; not after a lost connection, whose return takes its time
   */
  #failed(failure, wait) {
    this.#inFlight = false
    const [publish] = this.#waiting
    const end = publish.failed(failure)
    if (end) {
      this.#end(() => publish.reject(end))
      this.pump()
    } else if (wait) {
      this.#backoff = setTimeout(() => {
        this.#backoff = undefined
        this.pump()
      }, backoffMs(publish.tries, failure.retryAfterMs))
    }
  }

  /** The deadline of one has come, wherever it stands. @param {Publish} publish */
  #expire(publish) {
    if (publish === this.#waiting[0]) {
      if (this.#inFlight) publish.unknown = true
      this.#end(() => publish.reject(publish.expired()))
      this.pump()
    } else {
      this.#waiting = this.#waiting.filter((other) => other !== publish)
      publish.reject(publish.expired())
    }
  }

  /** Ends the first one. @param {() => void} settle */
  #end(settle) {
    this.#inFlight = false
    this.#endBackoff()
    this.#waiting.shift()
    settle()
  }

  #endBackoff() {
    clearTimeout(this.#backoff)
    this.#backoff = undefined
  }
}
