/**
 * A channel of phoenix.js that goes on where it was.
 *
 * It stands in the channel's `onMessage`, where phoenix.js shows every frame together with its ref, asks for its position
 * through the join parameters, which phoenix.js computes anew at each rejoin, and leaves all else to phoenix.js.
 *
 * *Invariant:* callbacks hear of a publication after the position has moved to it, and `onPosition` and the store hear of
 * the position after the callbacks: what was kept is never ahead of what was handled.
 */

import { RingcastError } from "./error.js"
import { StoredPosition, toPosition } from "./position.js"
import { Publish } from "./publish.js"
import { Publisher } from "./publisher.js"
import { Sequence } from "./sequence.js"

/** Publishes that may wait, unless the application says otherwise. */
const QUEUE_MAX = 1_000

/** How long a try waits where phoenix.js does not say how long it waits itself. */
const ATTEMPT_MS = 10_000

/**
 * A binary frame's marker is in the same write; without it by then, there is none. Long enough for one retransmission in
 * between; what has no marker (target `one`, ephemeral events) waits no longer.
 */
const MARKER_MS = 250

/**
 * @typedef {import("./index.js").ResumableOptions} Options
 * @typedef {{ event: string, ref: number, callback: import("./index.js").EventCallback<any> }} Binding
 */

/** @template {import("./index.js").ChannelLike} C */
class Resumable {
  #socket
  #channel
  #options
  #sequence
  #store
  #publisher
  /** @type {Binding[]} */
  #bindings = []
  #bindingRef = 0
  #joined = false
  #joinedBefore = false
  /** @type {boolean | undefined} */
  #recovered
  /** The position last told of. @type {import("./index.js").Position | null | undefined} */
  #told
  /** @type {Promise<import("./index.js").JoinReply> | undefined} */
  #joining
  /** @type {((error: RingcastError) => void) | undefined} */
  #refuseJoin
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #marker

  /**
   * @param {import("./index.js").SocketLike<C>} socket
   * @param {string} topic
   * @param {object | (() => object)} params
   * @param {Options} options
   */
  constructor(socket, topic, params, options) {
    const { position, store, queueMax = QUEUE_MAX } = options
    const from = position === undefined || position === null ? null : toPosition(position)
    if (position && !from) throw new TypeError("position must be an {epoch, offset} that a server gave")
    this.#socket = socket
    this.#options = options
    this.#store = store && new StoredPosition(store, topic)
    this.#sequence = new Sequence(from ?? this.#store?.load() ?? null)
    this.#channel = socket.channel(topic, () => ({
      ...(typeof params === "function" ? params() : params),
      resume: this.#sequence.wish(),
    }))
    this.#publisher = new Publisher({
      ready: () => this.#joined && socket.isConnected(),
      granted: () => this.#sequence.granted,
      attemptMs: () => this.#channel.timeout ?? ATTEMPT_MS,
      push: (event, payload, timeoutMs) => this.#channel.push(event, payload, timeoutMs),
    }, queueMax)
    const before = this.#channel.onMessage
    this.#channel.onMessage = (event, payload, ref, ...rest) => {
      const handled = before.call(this.#channel, event, payload, ref, ...rest)
      this.#message(event, handled, ref)
      return handled
    }
  }

  get channel() {
    return this.#channel
  }

  get position() {
    return this.#sequence.position
  }

  get recovered() {
    return this.#recovered
  }

  /** @param {number} [timeout] */
  join(timeout) {
    this.#joining ??= new Promise((resolve, reject) => {
      this.#refuseJoin = reject
      this.#channel
        .join(timeout)
        .receive("ok", (response) => this.#ok(response, resolve))
        .receive("error", (response) => {
          const error = RingcastError.fromReply(response)
          if (!error.retryable) reject(error)
          this.#options.onRefused?.(error)
        })
    })
    return this.#joining
  }

  /** @param {number} [timeout] @returns {Promise<void>} */
  leave(timeout) {
    this.#end("left", "the channel was left")
    return new Promise((resolve) => {
      const done = () => resolve()
      this.#channel.leave(timeout).receive("ok", done).receive("timeout", done)
    })
  }

  /**
   * @param {string} event
   * @param {import("./index.js").EventCallback<any>} callback
   */
  on(event, callback) {
    const ref = this.#bindingRef++
    this.#bindings = [...this.#bindings, { event, ref, callback }]
    return ref
  }

  /** @param {string} event @param {number} [ref] */
  off(event, ref) {
    this.#bindings = this.#bindings.filter((binding) => binding.event !== event || (ref ?? binding.ref) !== binding.ref)
  }

  /**
   * @param {string} event
   * @param {object} payload
   * @param {import("./index.js").PublishOptions} [options]
   */
  async publish(event, payload, options) {
    return this.#publisher.add(new Publish(event, payload, options ?? {}))
  }

  /**
   * @param {any} response
   * @param {(reply: import("./index.js").JoinReply) => void} resolve
   */
  #ok(response, resolve) {
    const first = !this.#joinedBefore
    this.#joined = this.#joinedBefore = true
    this.#recovered = this.#sequence.joined(response)
    const { epoch, offset } = this.position ?? {}
    resolve({ epoch, offset, recovered: this.#recovered, response })
    this.#run([
      () => this.#moved(),
      () => this.#recovered || this.#options.onReload?.({ epoch, offset, recovered: this.#recovered, first }),
      () => this.#publisher.pump(),
    ])
  }

  /**
   * @param {string} event
   * @param {any} payload
   * @param {unknown} ref
   */
  #message(event, payload, ref) {
    if (event === "phx_error") this.#lost()
    else if (event === "phx_close") this.#end("closed", "the server closed the channel")
    else this.#deliver(this.#sequence.take(event, payload, ref))
    this.#watchHeld()
  }

  /** @param {import("./sequence.js").Delivery[]} deliveries */
  #deliver(deliveries) {
    const work = deliveries.flatMap((delivery) =>
      delivery.kind === "gap" ? [() => this.#gap(delivery.gap)] : this.#calls(delivery))
    this.#run([...work, () => this.#moved()])
  }

  /**
   * @param {import("./sequence.js").Event} delivery
   * @returns {(() => void)[]}
   */
  #calls({ event, payload, offset, epoch }) {
    return this.#bindings
      .filter((binding) => binding.event === event)
      .map(({ callback }) => () => callback(payload, { offset, epoch }))
  }

  /** @param {import("./index.js").Gap} gap */
  #gap(gap) {
    const { onGap, onReload } = this.#options
    if (onGap) onGap(gap)
    else onReload?.({ epoch: gap.epoch, offset: gap.to, recovered: false, first: false, gap })
  }

  /** Tells of the position, if it has moved since it was last told of. */
  #moved() {
    const position = this.position
    if (!this.#joinedBefore) return // the application knows where it starts
    if (this.#told !== undefined && same(position, this.#told)) return
    this.#told = position
    this.#store?.save(position)
    this.#options.onPosition?.(position)
  }

  /** A held frame whose marker does not come had none: it is given out without an offset. */
  #watchHeld() {
    clearTimeout(this.#marker)
    if (!this.#sequence.holds) return
    this.#marker = setTimeout(() => this.#deliver(this.#sequence.release()), MARKER_MS)
  }

  #lost() {
    this.#joined = false
    this.#sequence.lost()
    this.#publisher.lost()
  }

  /** @param {string} reason @param {string} message */
  #end(reason, message) {
    this.#joined = false
    this.#sequence.lost()
    this.#publisher.close(reason, message)
    this.#joining?.catch(() => {}) // whoever leaves does not have to wait for the join any more
    this.#refuseJoin?.(new RingcastError(reason, { message }))
  }

  /**
   * Runs all of it, whatever one of them throws; then throws what was thrown first, where an error of a phoenix.js
   * callback goes, too.
   * @param {(() => unknown)[]} work
   */
  #run(work) {
    /** @type {{ error: unknown } | undefined} */
    let thrown
    for (const one of work) {
      try {
        one()
      } catch (error) {
        thrown ??= { error }
      }
    }
    if (thrown) throw thrown.error
  }
}

/**
 * @param {import("./index.js").Position | null} one
 * @param {import("./index.js").Position | null} other
 */
function same(one, other) {
  return one?.epoch === other?.epoch && one?.offset === other?.offset
}

/**
 * @template {import("./index.js").ChannelLike} C
 * @param {import("./index.js").SocketLike<C>} socket
 * @param {string} topic
 * @param {object | (() => object)} [params]
 * @param {Options} [options]
 * @returns {import("./index.js").Resumable<C>}
 */
export function resumable(socket, topic, params = {}, options = {}) {
  return new Resumable(socket, topic, params, options)
}
