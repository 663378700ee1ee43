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
  await cluster?.stop({ failed: passed < 3 })
})

/** One application: a socket, a channel, and everything it was told. */
class App {
  received = []
  closes = []
  opens = 0
  joins = 0

  constructor(name, url, topic = TOPIC, options = {}) {
    this.name = name
    this.socket = new Socket(url, { transport: WebSocket, ...options })
    this.socket.onOpen(() => this.opens++)
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
    const closes = apps[0].closes.length
    assert.equal(await cluster.terminate("gw-1"), 0)
    await until("the client to be sent away", 5_000, () => apps[0].closes.length > closes)
    assert.equal(apps[0].closes[closes], 1012, "what comes after are its tries to come back")
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

test("in a rolling restart of the gateways every phoenix.js comes back by itself, once, and those elsewhere miss nothing", {
  timeout: 120_000,
}, async () => {
  const gateways = ["gw-1", "gw-2"]
  const each = 20
  const apps = gateways.flatMap((gateway) =>
    Array.from({ length: each }, (_, n) => {
      const app = new App(`${gateway}/${n}`, cluster.socket(gateway), "topics:rolling")
      return Object.assign(app, { gateway })
    }))
  try {
    await Promise.all(apps.map((app) => app.join()))
    const errors = []
    // phoenix.js tells its channels of the end of their socket by this source; anything else came from the server.
    const fromServer = (reason) => reason?.source !== "transport"
    for (const app of apps) {
      app.channel.onError((reason) => fromServer(reason) && errors.push(`${app.name}: ${JSON.stringify(reason)}`))
    }

    for (const [round, gateway] of gateways.entries()) {
      const away = apps.filter((app) => app.gateway === gateway)
      const elsewhere = apps.filter((app) => app.gateway !== gateway)
      // Somebody elsewhere publishes all the while: before, during and after the restart.
      const publisher = elsewhere[0]
      let stop = false
      let published = 0
      const publishing = (async () => {
        while (!stop) await publisher.publish({ from: publisher.name, round, n: ++published })
      })()
      publishing.catch(() => {}) // thrown where it is awaited, unless something else was wrong first
      await until("the first publications to be everywhere", 5_000, () =>
        away.every((app) => app.numbers(round, publisher.name).length > 0))

      assert.equal(await cluster.terminate(gateway), 0)
      await until("all of its clients to be sent away", 5_000, () => away.every((app) => app.closes.length > 0))
      await cluster.startAgain(gateway)
      await until("all of its clients to be joined again", 30_000, () => away.every((app) => app.channel.isJoined()))
      // From now on everybody sees everything again.
      const back = published + 1
      await until("more to be published", 5_000, () => published > back + 20)
      stop = true
      await publishing

      await until("the last to be everywhere", 10_000, () =>
        apps.every((app) => app.numbers(round, publisher.name).at(-1) === published))
      const numbers = Array.from({ length: published }, (_, index) => index + 1)
      for (const app of elsewhere) {
        assert.deepEqual(app.numbers(round, publisher.name), numbers, `${app.name} was not restarted`)
        assert.equal(app.opens, round + 1, `${app.name} came back once for its own gateway and not for this one`)
      }
      for (const app of away) {
        // A stock client has no memory of where it was: what it missed while away it does not get, but nothing twice.
        const seen = app.numbers(round, publisher.name)
        assert.ok(seen.every((n, index) => index === 0 || n > seen[index - 1]), `${app.name}: ${seen}`)
        assert.deepEqual(seen.filter((n) => n > back), numbers.slice(back), `${app.name} after it was back`)
        // Sent away with 1012; 1006 is a try to come back while nobody listened yet.
        assert.equal(app.closes[0], 1012, app.name)
        assert.ok(app.closes.slice(1).every((code) => code === 1006), `${app.name}: ${app.closes}`)
        assert.equal(app.opens, 2, `${app.name} needed one connection to come back`)
      }
    }
    assert.deepEqual(errors, [], "no channel was told of an error")
    // And everybody can publish.
    await Promise.all(apps.map((app) => app.publish({ from: app.name, round: "end", n: 1 })))
    await until("everybody to have heard of everybody", 10_000, () =>
      apps.every((app) => app.received.filter(({ round }) => round === "end").length === apps.length))
    passed++
  } finally {
    for (const app of apps) await app.close()
  }
})
