// The position: remembered, asked for, and what comes told once. Each under both phoenix.js that are supported.

import assert from "node:assert/strict"
import { test } from "node:test"

import { Client, PHOENIX, settle, TOPIC } from "./fake.js"

const RECOVERED = { epoch: "e1", offset: 43, recovered: true }

for (const [version, phoenix] of Object.entries(PHOENIX)) {
  const check = (name, run) => test(`${name} (phoenix ${version})`, run)
  const joined = (t, reply, options) => Client.joined(t, reply, { phoenix, ...options })

  check("the first join is from now and keeps the application's own parameters", async (t) => {
    const client = new Client(t, { phoenix, params: () => ({ token: "t" }) })
    const reply = client.room.join()
    assert.equal(client.room.position, null)
    assert.deepEqual(client.connection.accept({ epoch: "e1", offset: 41, recovered: false, mine: 1 }), {
      token: "t", resume: true,
    })
    assert.deepEqual(await reply, {
      epoch: "e1", offset: 41, recovered: false, response: { epoch: "e1", offset: 41, recovered: false, mine: 1 },
    })
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 41 })
    assert.deepEqual(client.heard, ["reload"])
  })

  check("a rejoin names the position and tells what was missed once, then what is new", (t) => {
    const client = joined(t)
    client.connection.event(42)
    client.connection.event(43)
    const connection = client.reconnect()
    assert.deepEqual(connection.accept(RECOVERED), { resume: { epoch: "e1", offset: 43 } })
    assert.equal(client.room.recovered, true)
    for (const offset of [42, 43, 44, 46, 45]) connection.event(offset)
    assert.deepEqual(client.heard, [[42, 42], [43, 43], [44, 44], [46, 46]])
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 46 })
    assert.deepEqual(client.positions, ["e1:41", "e1:42", "e1:43", "e1:44", "e1:46"])
  })

  check("a position given at the start is resumed from at the first join", (t) => {
    const client = new Client(t, { phoenix, position: { epoch: "e1", offset: 7 } })
    client.room.join()
    assert.deepEqual(client.connection.accept({ epoch: "e1", offset: 7, recovered: true }).resume, { epoch: "e1", offset: 7 })
    assert.deepEqual(client.heard, [], "nothing to reload")
    client.connection.event(8)
    assert.deepEqual(client.heard, [[8, 8]])
  })

  check("what could not be recovered is a reload at the head, also where that is behind", (t) => {
    const client = joined(t)
    client.connection.event(90)
    const connection = client.reconnect()
    connection.accept({ epoch: "e2", offset: 5, recovered: false })
    connection.event(6)
    assert.deepEqual(client.heard, [[90, 90], "reload", [6, 6]])
    assert.deepEqual(client.room.position, { epoch: "e2", offset: 6 })
  })

  check("a gap is told before what follows and moves the position", (t) => {
    const client = joined(t)
    client.connection.gap({ epoch: "e1", from: 42, to: 57, reason: "slow_consumer" })
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 57 })
    client.connection.event(57)
    client.connection.event(58)
    assert.deepEqual(client.heard, ["gap 42-57 slow_consumer", [58, 58]])
    assert.deepEqual(client.reconnect().take("phx_join").payload.resume, { epoch: "e1", offset: 58 })
  })

  check("a gap behind the position has nothing to say", (t) => {
    const client = joined(t)
    client.connection.gap({ epoch: "e1", from: 30, to: 41, reason: "overload" })
    assert.deepEqual(client.heard, [])
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 41 })
  })

  check("after a gap to a new epoch its offsets count from one", (t) => {
    const client = joined(t)
    client.connection.gap({ epoch: "e2", from: 1, to: 0, reason: "epoch_changed" })
    client.connection.event(1)
    assert.deepEqual(client.heard, ["gap 1-0 epoch_changed", [1, 1]])
    assert.deepEqual(client.room.position, { epoch: "e2", offset: 1 })
  })

  check("who does not ask for gaps is told to reload", (t) => {
    const reloads = []
    const client = joined(t, undefined, { onGap: undefined, onReload: (reload) => reloads.push(reload) })
    const gap = { epoch: "e1", from: 42, to: 43, reason: "history_trimmed" }
    client.connection.gap(gap)
    assert.deepEqual(reloads, [
      { epoch: "e1", offset: 41, recovered: false, first: true },
      { epoch: "e1", offset: 43, recovered: false, first: false, gap },
    ])
  })

  check("events without an offset come as they are and leave the position alone", (t) => {
    const client = joined(t)
    client.connection.event(null, { n: "typing" })
    client.connection.push(null, null, TOPIC, "event", { n: "to all" })
    assert.deepEqual(client.heard, [["typing", null], ["to all", null]])
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 41 })
  })

  check("a broadcast without join_ref has its offset all the same", (t) => {
    const client = joined(t)
    client.connection.push(null, "@42", TOPIC, "event", { n: 42 })
    assert.deepEqual(client.heard, [[42, 42]])
  })

  check("what is no offset is none", (t) => {
    const client = joined(t)
    for (const ref of ["@", "@-1", "@1.5", "@99999999999999999999", "@9999999999999999", "44", 44]) {
      client.connection.push(client.connection.joinRef, ref, TOPIC, "event", { n: 0 })
    }
    assert.equal(client.heard.length, 7)
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 41 })
  })

  check("a gap that makes no sense moves nothing", (t) => {
    const client = joined(t)
    for (const gap of [null, {}, { epoch: "e1", from: 1 }, { epoch: "e 1", from: 1, to: 2 }, { epoch: "e1", to: -1 }]) {
      client.connection.gap(gap)
    }
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 41 })
    assert.deepEqual(client.heard, [])
  })

  check("frames of a join that is not answered yet wait for its reply, and come again", (t) => {
    const client = joined(t)
    const connection = client.reconnect()
    connection.push(null, "@42", TOPIC, "event", { n: 42 })
    connection.pushBinary("event", [1])
    connection.push(null, "@43", TOPIC, "phx_offset", {})
    connection.gap({ epoch: "e1", from: 44, to: 50, reason: "overload" })
    connection.gap({ epoch: "e2", from: 1, to: 9, reason: "epoch_changed" })
    assert.deepEqual(client.heard, [])
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 41 })
    connection.accept({ epoch: "e1", offset: 41, recovered: true })
    connection.event(42)
    assert.deepEqual(client.heard, [[42, 42]])
  })

  check("a binary publication is told with its marker", (t) => {
    const client = joined(t)
    client.connection.pushBinary("event", [1, 2])
    assert.deepEqual(client.heard, [])
    client.connection.marker(42)
    assert.deepEqual(client.heard, [["1,2", 42]])
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 42 })
    client.connection.pushBinary("event", [1, 2])
    client.connection.marker(42)
    assert.equal(client.heard.length, 1, "once")
  })

  check("a connection lost between a binary publication and its marker doubles nothing", (t) => {
    const client = joined(t)
    client.connection.pushBinary("event", [1, 2])
    const connection = client.reconnect()
    assert.deepEqual(connection.accept({ epoch: "e1", offset: 41, recovered: true }).resume, { epoch: "e1", offset: 41 })
    connection.pushBinary("event", [1, 2])
    connection.marker(42)
    assert.deepEqual(client.heard, [["1,2", 42]])
  })

  check("a binary event that gets no marker is told when the next frame comes, or after a moment", (t) => {
    const client = joined(t)
    client.connection.pushBinary("event", [1])
    client.connection.event(42)
    client.connection.pushBinary("event", [2])
    client.connection.pushBinary("event", [3])
    client.timers.tick(249)
    assert.deepEqual(client.heard, [["1", null], [42, 42], ["2", null]])
    client.timers.tick(1)
    assert.deepEqual(client.heard, [["1", null], [42, 42], ["2", null], ["3", null]])
    client.connection.pushBinary("event", [4])
    client.connection.push(client.connection.joinRef, null, TOPIC, "phx_offset", {})
    assert.deepEqual(client.heard.at(-1), ["4", null], "a marker without an offset says that there is none")
  })

  check("what phoenix.js tells itself comes between no binary publication and its marker", (t) => {
    const client = joined(t)
    client.room.channel.push("hello", {}, 100)
    client.connection.pushBinary("event", [1])
    client.timers.tick(100)
    client.connection.marker(42)
    assert.deepEqual(client.heard, [["1", 42]])
  })

  check("the wait for a marker begins with its own frame", (t) => {
    const client = joined(t)
    for (const offset of [42, 43]) {
      client.connection.pushBinary("event", [offset])
      client.timers.tick(200)
      client.connection.marker(offset)
    }
    assert.deepEqual(client.heard, [["42", 42], ["43", 43]])
  })

  check("a marker that comes late moves the position and repeats nothing", (t) => {
    const client = joined(t)
    client.connection.pushBinary("event", [1])
    client.timers.tick(250)
    client.connection.marker(42)
    assert.deepEqual(client.heard, [["1", null]])
    assert.deepEqual(client.positions, ["e1:41", "e1:42"])
  })

  check("a binary publication that the transport cannot carry is a gap", (t) => {
    const client = joined(t)
    client.connection.marker(42, { skipped: "binary" })
    assert.deepEqual(client.heard, ["gap 42-42 skipped_binary"])
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 42 })
  })

  check("on a plain Phoenix everything passes, each join is a reload, and nothing is resumed from", async (t) => {
    const client = new Client(t, { phoenix, position: { epoch: "e1", offset: 7 } })
    const reply = client.room.join()
    client.connection.accept({})
    assert.deepEqual(await reply, { epoch: undefined, offset: undefined, recovered: undefined, response: {} })
    client.room.on("gap", (payload) => client.heard.push(payload))
    for (const event of ["phx_reply", "phx_error"]) client.room.on(event, () => client.heard.push(event))
    client.connection.event(null, { n: 1 })
    client.connection.gap({ mine: true })
    client.connection.pushBinary("event", [9])
    assert.equal(client.reconnect().accept({}).resume, true)
    const reload = "reload, no positions"
    assert.deepEqual(client.heard, [reload, [1, null], { mine: true }, ["9", null], reload])
    assert.equal(client.room.position, null)
  })

  check("the position is kept after the callbacks, whatever they throw", (t) => {
    const client = joined(t)
    const seen = []
    client.room.on("event", () => {
      seen.push(client.room.position.offset, client.positions.at(-1))
      throw new Error("mine")
    })
    client.room.on("event", () => seen.push("the next callback"))
    assert.throws(() => client.connection.event(42), /mine/)
    assert.deepEqual(seen, [42, "e1:41", "the next callback"])
    assert.equal(client.positions.at(-1), "e1:42")
  })

  check("callbacks are taken off by ref, or all of an event", (t) => {
    const client = joined(t)
    const heard = []
    const first = client.room.on("other", () => heard.push(1))
    client.room.on("other", () => heard.push(2))
    client.room.off("other", first)
    client.connection.event(42, {}, "other")
    client.room.off("other")
    client.connection.event(43, {}, "other")
    assert.deepEqual(heard, [2])
    client.connection.event(44)
    assert.deepEqual(client.heard, [[44, 44]])
  })

  check("the channel's own callbacks and its events of joining and leaving are phoenix.js's as before", async (t) => {
    const client = joined(t)
    const raw = []
    client.room.channel.on("event", (payload, ref) => raw.push([payload.n, ref]))
    for (const event of ["phx_reply", "phx_error", "phx_close"]) client.room.on(event, () => raw.push(event))
    const push = client.room.channel.push("hello", {})
    push.receive("ok", (response) => raw.push(response))
    client.connection.event(42)
    client.connection.event(42)
    client.connection.reply(client.connection.take("hello").ref, "ok", { hi: 1 })
    client.reconnect()
    assert.deepEqual(raw, [[42, "@42"], [42, "@42"], { hi: 1 }])
    assert.deepEqual(client.heard, [[42, 42]])
    await settle()
  })

  check("a refused join rejects, one refused for a while waits, and each is told", async (t) => {
    const refused = []
    const client = new Client(t, { phoenix, onRefused: (error) => refused.push([error.reason, error.code, error.retryable]) })
    const join = client.room.join()
    join.catch(() => {})
    const { ref } = client.connection.take("phx_join")
    client.connection.reply(ref, "error", { reason: "overloaded", code: 4290, retryable: true, retry_after_ms: 250 })
    client.timers.tick(1_000)
    client.connection.reply(client.connection.take("phx_join").ref, "error", "invalid topic name")
    await assert.rejects(join, { name: "RingcastError", reason: "invalid topic name", retryable: false, code: undefined })
    assert.deepEqual(refused, [["overloaded", 4290, true], ["invalid topic name", undefined, false]])
    assert.equal(client.room.join(), join, "joined once")
  })

  check("leaving ends it, also before it was joined", async (t) => {
    const client = new Client(t, { phoenix })
    const join = client.room.join()
    const leave = client.room.leave()
    await assert.rejects(join, { reason: "left" })
    await leave
    assert.equal(client.room.channel.state, "closed")
  })

  check("who leaves does not have to look after a join that never came", async (t) => {
    const client = new Client(t, { phoenix })
    client.room.join()
    client.room.leave()
    await new Promise((resolve) => setImmediate(resolve)) // an unhandled rejection would fail the test here
  })
}

/** Storage of a page, in memory. */
const storage = (items = {}) => ({
  items,
  getItem: (key) => items[key] ?? null,
  setItem: (key, value) => (items[key] = value),
  removeItem: (key) => delete items[key],
})

test("a store has the position for the next page", (t) => {
  const store = storage()
  const first = Client.joined(t, undefined, { store })
  first.connection.event(42)
  assert.deepEqual(store.items, { [`ringcast:${TOPIC}`]: '{"epoch":"e1","offset":42}' })
  t.mock.timers.reset()
  t.mock.restoreAll()
  const next = new Client(t, { store })
  next.room.join()
  assert.deepEqual(next.connection.take("phx_join").payload.resume, { epoch: "e1", offset: 42 })
})

test("what a store has and no server gave is no position", (t) => {
  for (const value of ["", "{", "7", "null", '{"epoch":"e1"}', '{"epoch":"e1","offset":1.5}', '{"epoch":"a b","offset":1}']) {
    const client = new Client(t, { store: storage({ [`ringcast:${TOPIC}`]: value }) })
    assert.equal(client.room.position, null, value)
    t.mock.timers.reset()
    t.mock.restoreAll()
  }
})

test("a store that may not be used stops no message, and one of a server without positions is emptied", (t) => {
  const no = () => {
    throw new Error("forbidden")
  }
  const client = Client.joined(t, undefined, { store: { getItem: no, setItem: no, removeItem: no } })
  client.connection.event(42)
  assert.deepEqual(client.heard, [[42, 42]])
  t.mock.timers.reset()
  t.mock.restoreAll()
  const store = storage({ [`ringcast:${TOPIC}`]: '{"epoch":"e1","offset":1}' })
  Client.joined(t, {}, { store })
  assert.deepEqual(store.items, {})
})

test("a position that no server gave is refused", (t) => {
  for (const position of [7, {}, { epoch: "", offset: 1 }, { epoch: "e", offset: -1 }, { epoch: "e", offset: "1" }]) {
    assert.throws(() => new Client(t, { position }), /position must be/)
    t.mock.timers.reset()
    t.mock.restoreAll()
  }
})

test("an onMessage that the application had put there still sees everything first", (t) => {
  const client = Client.joined(t)
  // Through a socket whose channels have one already.
  const socket = {
    isConnected: () => true,
    channel: (topic, params) => Object.assign(client.socket.channel(topic, params), {
      onMessage: (event, payload) => (event === "event" ? { n: payload.n * 2 } : payload),
    }),
  }
  client.room.leave()
  client.connection.sent.length = 0
  return import("../src/index.js").then(({ resumable }) => {
    const room = resumable(socket, TOPIC)
    const heard = []
    room.on("event", (payload) => heard.push(payload.n))
    room.channel.on("event", (payload) => heard.push(payload.n))
    room.join()
    client.connection.accept({ epoch: "e1", offset: 0, recovered: false })
    client.connection.event(1, { n: 21 })
    assert.deepEqual(heard, [42, 42])
  })
})
