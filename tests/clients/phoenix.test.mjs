// npm `phoenix`, the client most applications have, as it is: its own reconnecting, rejoining and heartbeats.

import assert from "node:assert/strict"
import { after, before, test } from "node:test"

import { Socket } from "phoenix"
import WebSocket from "ws"

import { Cluster, until } from "./cluster.mjs"

const TOPIC = "topics:phoenixjs"

/** Publishes of one socket that may wait for their reply. */
const WINDOW = 100

let cluster
let passed = 0

before(async () => {
  cluster = await Cluster.start()
})

after(async () => {
  await cluster?.stop({ failed: passed < 2 })
})

/** One application: a socket, a channel, and everything it was told. */
class App {
  received = []
  closes = []
  joins = 0

  constructor(name, url, topic = TOPIC, options = {}) {
    this.name = name
    this.socket = new Socket(url, { transport: WebSocket, ...options })
    this.socket.onClose((event) => this.closes.push(event.code))
    this.socket.connect()
    this.channel = this.socket.channel(topic, {})
    this.channel.on("event", (payload) => this.received.push(payload))
  }

  join() {
    return new Promise((resolve, reject) => {
      this.channel
        .join()
        .receive("ok", (response) => {
          this.joins++
          resolve(response)
        })
        .receive("error", (response) => reject(new Error(JSON.stringify(response))))
    })
  }

  publish(payload) {
    return new Promise((resolve, reject) => {
      this.channel
        .push("publish", ["event", payload])
        .receive("ok", resolve)
        .receive("error", (response) => reject(new Error(JSON.stringify(response))))
        .receive("timeout", () => reject(new Error(`no reply to ${JSON.stringify(payload)}`)))
    })
  }

  /** Publishes `count` numbered messages of this round, at most WINDOW of them without a reply at any time. */
  async publishAll(round, count) {
    const waiting = new Set()
    for (let n = 1; n <= count; n++) {
      const publish = this.publish({ from: this.name, round, n }).finally(() => waiting.delete(publish))
      waiting.add(publish)
      if (waiting.size >= WINDOW) await Promise.race(waiting)
    }
    await Promise.all(waiting)
  }

  /** The numbers it got from `from` in this round, as they came. */
  numbers(round, from) {
    return this.received.filter((payload) => payload.round === round && payload.from === from).map(({ n }) => n)
  }

  close() {
    return new Promise((resolve) => this.socket.disconnect(resolve))
  }
}

/** Both publish `count` messages at once; both must get all of both, each once and in order. */
async function exchange(apps, round, count) {
  await Promise.all(apps.map((app) => app.publishAll(round, count)))
  const complete = (app) => app.received.filter((payload) => payload.round === round).length >= count * apps.length
  await until(`round ${round} to be complete`, 20_000, () => apps.every(complete))
  const expected = Array.from({ length: count }, (_, index) => index + 1)
  for (const app of apps) {
    for (const { name } of apps) assert.deepEqual(app.numbers(round, name), expected, `${app.name} from ${name}`)
  }
  // One topic, one order: both saw the same sequence.
  const sequence = (app) => app.received.filter((payload) => payload.round === round).map(({ from, n }) => `${from}${n}`)
  assert.deepEqual(sequence(apps[0]), sequence(apps[1]))
}

test("two phoenix.js sockets on two gateways exchange messages, and one comes back by itself when its gateway does", {
  timeout: 120_000,
}, async () => {
  const apps = [new App("a", cluster.socket("gw-1")), new App("b", cluster.socket("gw-2"))]
  try {
    for (const app of apps) assert.deepEqual(await app.join(), {})
    await exchange(apps, 1, 10_000)

    // Killed: no close frame, no farewell. The other one goes on meanwhile.
    const rejoined = new Promise((resolve) => apps[0].channel.joinPush.receive("ok", resolve))
    await cluster.kill("gw-1")
    await until("the client to notice", 5_000, () => apps[0].closes.length > 0)
    await apps[1].publishAll(2, 100)
    await until("b to get its own", 5_000, () => apps[1].numbers(2, "b").length >= 100)
    await cluster.startAgain("gw-1")
    await until("the client to be joined again", 30_000, () => apps[0].channel.isJoined())
    await rejoined
    await exchange(apps, 3, 1_000)
    assert.deepEqual(apps[0].numbers(2, "b"), [], "it asked for no history and gets none")
    assert.deepEqual(apps[1].closes, [], "the other one noticed nothing")

    // Restarted with a farewell: 1012, after which phoenix.js comes back, too.
    assert.equal(await cluster.terminate("gw-1"), 0)
    await until("the client to be sent away", 5_000, () => apps[0].closes.length > 1)
    assert.equal(apps[0].closes.at(-1), 1012)
    await cluster.startAgain("gw-1")
    await until("the client to be joined again", 30_000, () => apps[0].channel.isJoined())
    await exchange(apps, 4, 100)
    passed++
  } finally {
    for (const app of apps) await app.close()
  }
})

test("what phoenix.js expects of leave, a refused join, rooms and authToken holds", { timeout: 60_000 }, async () => {
  const app = new App("c", cluster.socket("gw-2"), "topics:leaving", { authToken: "a-token_with.bytes?>" })
  try {
    await app.join()
    await app.publish({ n: 1 })
    await until("its own copy", 5_000, () => app.received.length === 1)
    await new Promise((resolve) => app.channel.leave().receive("ok", resolve))
    assert.equal(app.channel.isClosed(), true)

    const refused = app.socket.channel("topics:s", {})
    const reason = await new Promise((resolve) => refused.join().receive("error", resolve))
    assert.match(reason, /^invalid topic name/)
    refused.leave()

    const room = app.socket.channel("room:lobby", {})
    await new Promise((resolve) => room.join().receive("ok", resolve))
    const copies = []
    room.on("new_msg", (payload) => copies.push(payload))
    const push = room.push("new_msg", { text: "hi" })
    await new Promise((resolve) => push.receive("ok", resolve))
    assert.deepEqual(copies, [{ text: "hi" }], "the copy comes before the reply")
    passed++
  } finally {
    await app.close()
  }
})
