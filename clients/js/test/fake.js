/**
 * A server that a test plays by hand, under the real phoenix.js: it sees each frame the client sent and sends what it
 * likes. Time is the test's, too.
 */

import assert from "node:assert/strict"

import * as phoenix17 from "phoenix-1.7"
import * as phoenix18 from "phoenix"

import { resumable } from "../src/index.js"

/** Both ends of what the package supports. */
export const PHOENIX = { 1.7: phoenix17, 1.8: phoenix18 }

export const TOPIC = "topics:matrix"

/** One connection, as phoenix.js's transport and as the server's end of it. */
class Connection {
  readyState = 0
  /** What the client sent and nobody looked at yet: V2 frames, or whole binary messages. */
  sent = []

  send(message) {
    this.sent.push(typeof message === "string" ? JSON.parse(message) : message)
  }

  close() {
    this.drop(1000)
  }

  open() {
    this.readyState = 1
    this.onopen({})
  }

  /** Lost: the client is told, the frames on their way are gone. */
  drop(code = 1006) {
    if (this.readyState === 3) return
    this.readyState = 3
    this.onclose({ code })
  }

  /** To the client: a V2 frame. */
  push(...frame) {
    this.onmessage({ data: JSON.stringify(frame) })
  }

  /** To the client: a binary broadcast. */
  pushBinary(event, bytes, topic = TOPIC) {
    const encoder = new TextEncoder()
    const [topicBytes, eventBytes] = [encoder.encode(topic), encoder.encode(event)]
    const message = Uint8Array.of(2, topicBytes.length, eventBytes.length, ...topicBytes, ...eventBytes, ...bytes)
    this.onmessage({ data: message.buffer })
  }

  /** The only frame the client has sent since; its refs are kept for the answer. */
  take(event) {
    assert.equal(this.sent.length, 1, `one frame was sent: ${JSON.stringify(this.sent)}`)
    const [frame] = this.sent.splice(0)
    assert.equal(frame[3], event)
    if (event === "phx_join") this.joinRef = frame[0]
    return { ref: frame[1], payload: frame[4] }
  }

  reply(ref, status, response) {
    this.push(this.joinRef, ref, TOPIC, "phx_reply", { status, response })
  }

  /** An event of the channel with an offset, or without one. */
  event(offset, payload = { n: offset }, event = "event") {
    this.push(this.joinRef, offset === null ? null : `@${offset}`, TOPIC, event, payload)
  }

  gap(gap) {
    this.push(this.joinRef, null, TOPIC, "gap", gap)
  }

  marker(offset, payload = {}) {
    this.push(this.joinRef, `@${offset}`, TOPIC, "phx_offset", payload)
  }

  /** Answers the join that has come. */
  accept(reply) {
    const { ref, payload } = this.take("phx_join")
    this.reply(ref, "ok", reply)
    return payload
  }
}

/** A client, with everything it was told, and the connections it made. */
export class Client {
  connections = []
  /** In the order they came: [n, offset], "gap 3-5 reason", "reload". */
  heard = []
  positions = []

  /** `{ phoenix, params, on, ...options }`: options of `resumable`, with recorders where they are left out. */
  constructor(t, { phoenix = phoenix18, params, ...options } = {}) {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"] })
    t.mock.method(Math, "random", () => 0)
    this.timers = t.mock.timers
    const connections = this.connections
    class Transport extends Connection {
      constructor() {
        super()
        connections.push(this)
      }
    }
    this.socket = new phoenix.Socket("ws://server/socket", { transport: Transport, heartbeatIntervalMs: 1_000_000_000 })
    this.room = resumable(this.socket, TOPIC, params, {
      onPosition: (position) => this.positions.push(position && `${position.epoch}:${position.offset}`),
      onGap: ({ from, to, reason }) => this.heard.push(`gap ${from}-${to} ${reason}`),
      onReload: ({ recovered }) => this.heard.push(recovered === undefined ? "reload, no positions" : "reload"),
      ...options,
    })
    this.room.on("event", (payload, { offset }) => {
      this.heard.push([payload.n ?? new Uint8Array(payload).join(), offset])
    })
    this.socket.connect()
    this.connection.open()
  }

  /** The newest connection. */
  get connection() {
    return this.connections.at(-1)
  }

  /** Joined for the first time, with this reply; what was heard so far is forgotten. */
  static joined(t, reply = { epoch: "e1", offset: 41, recovered: false }, options = {}) {
    const client = new Client(t, options)
    client.room.join()
    client.connection.accept(reply)
    client.heard.length = 0
    return client
  }

  /** The connection is lost; a new one is there, whose join is not answered yet. */
  reconnect() {
    this.connection.drop()
    this.timers.tick(100)
    this.connection.open()
    return this.connection
  }
}

/** Lets everything run that waits for nothing but its turn. */
export async function settle() {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve()
}
