// Publishing: each message once, in order, however often it takes.

import assert from "node:assert/strict"
import { webcrypto } from "node:crypto"
import { test } from "node:test"

import { backoffMs } from "../src/backoff.js"
import { RingcastError } from "../src/index.js"
import { newMsgId } from "../src/msg-id.js"
import { Publish } from "../src/publish.js"
import { Client, PHOENIX, settle, TOPIC } from "./fake.js"

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const OVERLOADED = { reason: "overloaded", code: 4290, retryable: true, retry_after_ms: 2_000 }

/** What a promise has come to so far: "waiting", its value, or its error. */
async function state(promise) {
  await settle()
  return Promise.race([promise.catch((error) => error), Promise.resolve("waiting")])
}

for (const [version, phoenix] of Object.entries(PHOENIX)) {
  const check = (name, run) => test(`${name} (phoenix ${version})`, run)
  const joined = (t, reply, options) => Client.joined(t, reply, { phoenix, ...options })
  const publish = (client, options, n = 1) => client.room.publish("event", { n }, options)
  const take = (client) => client.connection.take("publish")

  check("a publish has an id of its own and tells its place", async (t) => {
    const client = joined(t)
    const promise = publish(client)
    await settle()
    const { ref, payload } = take(client)
    assert.match(payload.msg_id, UUID)
    assert.deepEqual({ ...payload, msg_id: "id" }, { event: "event", payload: { n: 1 }, msg_id: "id" })
    client.connection.reply(ref, "ok", { epoch: "e1", offset: 45 })
    assert.deepEqual(await promise, { epoch: "e1", offset: 45 })
    assert.deepEqual(client.room.position, { epoch: "e1", offset: 41 }, "a reply moves no position")
  })

  check("an id and a target of the application's are sent as they are", async (t) => {
    const client = joined(t)
    const promise = publish(client, { msgId: "mine", target: { members: ["a", "b"] } })
    await settle()
    const { ref, payload } = take(client)
    assert.deepEqual(payload, { event: "event", payload: { n: 1 }, msg_id: "mine", target: { members: ["a", "b"] } })
    client.connection.reply(ref, "ok", { epoch: "e1", offset: null, matched: 1 })
    assert.deepEqual(await promise, { epoch: "e1", offset: null, matched: 1 })
  })

  check("publishes wait for the join, and then for each other", async (t) => {
    const client = new Client(t, { phoenix })
    const promises = [1, 2, 3].map((n) => publish(client, undefined, n))
    client.room.join()
    await settle()
    client.connection.accept({ epoch: "e1", offset: 0, recovered: false })
    for (const n of [1, 2, 3]) {
      const { ref, payload } = take(client)
      assert.equal(payload.payload.n, n)
      client.connection.reply(ref, "ok", { epoch: "e1", offset: n })
    }
    assert.deepEqual((await Promise.all(promises)).map(({ offset }) => offset), [1, 2, 3])
  })

  check("over a lost connection the same id is sent again, before those behind it", async (t) => {
    const client = joined(t)
    const promises = [publish(client, undefined, 1), publish(client, undefined, 2)]
    await settle()
    const first = take(client).payload
    client.reconnect().accept({ epoch: "e1", offset: 41, recovered: true })
    const { ref, payload } = take(client)
    assert.deepEqual(payload, first)
    client.connection.reply(ref, "ok", { epoch: "e1", offset: 46, dup: true })
    assert.deepEqual(await promises[0], { epoch: "e1", offset: 46, dup: true })
    client.connection.reply(take(client).ref, "ok", { epoch: "e1", offset: 47 })
    assert.equal((await promises[1]).offset, 47)
    client.timers.tick(60_000)
    assert.deepEqual(client.connection.sent.filter((frame) => frame[3] === "publish"), [])
  })

  check("a try over a lost connection that phoenix.js gives up later is none any more", async (t) => {
    const client = joined(t)
    const promise = publish(client)
    await settle()
    take(client)
    client.reconnect().accept({ epoch: "e1", offset: 41, recovered: true })
    const { ref } = take(client)
    client.timers.tick(9_950)
    client.connection.reply(ref, "ok", { epoch: "e1", offset: 42 })
    assert.equal((await promise).offset, 42)
    client.timers.tick(10_000)
    assert.deepEqual(client.connection.sent, [])
  })

  check("on a connection that is closing nothing is begun", async (t) => {
    const client = joined(t)
    client.connection.readyState = 2
    const promise = publish(client)
    await settle()
    client.reconnect().accept({ epoch: "e1", offset: 41, recovered: true })
    client.connection.reply(take(client).ref, "ok", { epoch: "e1", offset: 42 })
    assert.equal((await promise).offset, 42)
  })

  check("after an error of the channel the same id is sent again when it is joined anew", async (t) => {
    const client = joined(t)
    const promise = publish(client)
    await settle()
    const first = take(client).payload
    client.connection.push(client.connection.joinRef, client.connection.joinRef, TOPIC, "phx_error", {})
    client.timers.tick(1_000)
    client.connection.accept({ epoch: "e1", offset: 41, recovered: true })
    const { ref, payload } = take(client)
    assert.deepEqual(payload, first)
    client.connection.reply(ref, "ok", { epoch: "e1", offset: 42 })
    assert.equal((await promise).offset, 42)
  })

  check("a publish without a reply is sent again with its id, and a late reply to the first is no reply", async (t) => {
    const client = joined(t)
    const promise = publish(client)
    await settle()
    const first = take(client)
    client.timers.tick(10_000)
    client.timers.tick(250)
    const second = take(client)
    assert.deepEqual(second.payload, first.payload)
    client.connection.reply(first.ref, "error", { reason: "bad_request", code: 4000, retryable: false })
    assert.equal(await state(promise), "waiting")
    client.connection.reply(second.ref, "ok", { epoch: "e1", offset: 46, dup: true })
    assert.equal((await promise).dup, true)
  })

  check("a retryable refusal is tried again, not before the server wants it", async (t) => {
    const client = joined(t)
    const promise = publish(client)
    await settle()
    const first = take(client)
    client.connection.reply(first.ref, "error", OVERLOADED)
    client.timers.tick(1_999)
    publish(client, { timeout: 500 }, 2).catch(() => {}) // its call hurries nothing
    await settle()
    assert.deepEqual(client.connection.sent, [])
    client.timers.tick(1)
    const second = take(client)
    assert.deepEqual(second.payload, first.payload)
    client.connection.reply(second.ref, "ok", { epoch: "e1", offset: 42 })
    assert.equal((await promise).offset, 42)
    assert.equal(take(client).payload.payload.n, 2)
  })

  check("tries without a wish of the server's come further and further apart", async (t) => {
    const client = joined(t)
    publish(client, { timeout: 100_000 }).catch(() => {})
    await settle()
    const waits = []
    for (let n = 0; n < 8; n++) {
      client.connection.reply(take(client).ref, "error", { reason: "shutting_down", code: 5030, retryable: true })
      let ms = 0
      for (; client.connection.sent.length === 0; ms++) client.timers.tick(1)
      waits.push(ms)
    }
    assert.deepEqual(waits, [125, 250, 500, 1_000, 2_000, 2_500, 2_500, 2_500])
  })

  check("what is refused for good rejects with the server's words, and the next goes on", async (t) => {
    const client = joined(t)
    const promises = [publish(client, { msgId: "m" }), publish(client, undefined, 2)]
    await settle()
    const response = { reason: "too_large", code: 4130, retryable: false }
    client.connection.reply(take(client).ref, "error", response)
    const error = await promises[0].catch((error) => error)
    assert.ok(error instanceof RingcastError && error instanceof Error)
    const { name, message, reason, code, retryable, unknown, msgId } = error
    assert.deepEqual({ name, message, reason, code, retryable, unknown, msgId, response: error.response }, {
      name: "RingcastError", message: "too_large", reason: "too_large", code: 4130, retryable: false, unknown: false,
      msgId: "m", response,
    })
    client.connection.reply(take(client).ref, "ok", { epoch: "e1", offset: 42 })
    assert.equal((await promises[1]).offset, 42)
  })

  check("with no retries one try is all, and the error tells that the outcome is unknown", async (t) => {
    const client = joined(t)
    const promises = [publish(client, { retries: 0 }), publish(client, { retries: 0 }, 2)]
    await settle()
    client.connection.reply(take(client).ref, "error", { reason: "timeout", code: 5040, retryable: true, msg_id: "m" })
    const server = await promises[0].catch((error) => error)
    assert.deepEqual([server.reason, server.retryable, server.unknown], ["timeout", true, true])
    take(client)
    client.connection.drop()
    const lost = await promises[1].catch((error) => error)
    assert.deepEqual([lost.reason, lost.retryable, lost.unknown, lost.code], ["disconnected", true, true, undefined])
  })

  check("the deadline holds for what was never sent, too, and lets the next go on", async (t) => {
    const client = new Client(t, { phoenix })
    client.room.join()
    const short = publish(client, { timeout: 500 })
    const behind = publish(client, { timeout: 400 }, 2)
    const long = publish(client, { timeout: 5_000 }, 3)
    await settle()
    client.timers.tick(500)
    for (const promise of [short, behind]) {
      const error = await promise.catch((error) => error)
      assert.deepEqual([error.reason, error.retryable, error.unknown], ["timeout", true, false])
      assert.match(error.message, /never sent/)
      assert.match(error.msgId, UUID, "to try again with")
    }
    client.connection.accept({ epoch: "e1", offset: 0, recovered: false })
    const { ref, payload } = take(client)
    assert.equal(payload.payload.n, 3)
    client.timers.tick(4_500)
    const error = await long.catch((error) => error)
    assert.deepEqual([error.reason, error.retryable, error.unknown], ["timeout", true, true])
    client.connection.reply(ref, "ok", { epoch: "e1", offset: 1 })
  })

  check("a deadline while it waits to be tried again names the last refusal", async (t) => {
    const client = joined(t)
    const promises = [publish(client, { timeout: 1_000 }), publish(client, undefined, 2)]
    await settle()
    client.connection.reply(take(client).ref, "error", OVERLOADED)
    client.timers.tick(1_000)
    const error = await promises[0].catch((error) => error)
    assert.deepEqual([error.reason, error.unknown, error.cause.reason], ["timeout", false, "overloaded"])
    assert.equal(take(client).payload.payload.n, 2, "its wait does not hold the next one")
    client.room.leave()
    await assert.rejects(promises[1], { reason: "left" })
  })

  check("nothing is repeated that the server may have forgotten", async (t) => {
    const client = joined(t)
    const promise = publish(client, { timeout: 1_000_000 })
    await settle()
    take(client)
    const comeBack = (ms) => {
      client.connection.drop()
      client.timers.tick(ms)
      client.connection.open()
      client.connection.accept({ epoch: "e1", offset: 41, recovered: true })
    }
    comeBack(60_000)
    take(client)
    comeBack(51_000)
    const error = await promise.catch((error) => error)
    assert.deepEqual([error.reason, error.retryable, error.unknown], ["timeout", false, true])
    assert.deepEqual(client.connection.sent, [])
  })

  check("the queue has an end", async (t) => {
    const client = joined(t, undefined, { queueMax: 2 })
    const promises = [1, 2, 3].map((n) => publish(client, undefined, n))
    await assert.rejects(promises[2], { reason: "queue_full", retryable: true, unknown: false })
    client.connection.reply(take(client).ref, "ok", { epoch: "e1", offset: 1 })
    client.connection.reply(take(client).ref, "ok", { epoch: "e1", offset: 2 })
    await Promise.all(promises.slice(0, 2))
  })

  check("leaving refuses what waits and tells what may have happened", async (t) => {
    const client = joined(t)
    const promises = [1, 2].map((n) => publish(client, undefined, n))
    await settle()
    take(client)
    client.room.leave()
    const errors = await Promise.all(promises.map((promise) => promise.catch((error) => error)))
    assert.deepEqual(errors.map(({ reason, unknown }) => [reason, unknown]), [["left", true], ["left", false]])
    await assert.rejects(publish(client), { reason: "left" })
  })

  check("a channel that the server closes refuses what waits", async (t) => {
    const client = joined(t)
    const promise = publish(client)
    await settle()
    client.connection.push(client.connection.joinRef, client.connection.joinRef, TOPIC, "phx_close", {})
    await assert.rejects(promise, { reason: "closed", unknown: true })
  })

  check("on a plain Phoenix the event itself is pushed, and not again where that might double it", async (t) => {
    const client = joined(t, {})
    const promises = [publish(client, undefined, 1), publish(client, undefined, 2), publish(client, { target: "all" }, 3)]
    const refused = publish(client, { target: "others" })
    await settle()
    const { ref, payload } = client.connection.take("event")
    assert.deepEqual(payload, { n: 1 })
    client.connection.reply(ref, "ok", { their: "own" })
    assert.deepEqual(await promises[0], { their: "own" })
    client.connection.take("event")
    client.reconnect()
    await assert.rejects(promises[1], { reason: "disconnected", unknown: true, retryable: false })
    client.connection.accept({})
    client.connection.reply(client.connection.take("event").ref, "error", { reason: "no", details: 1 })
    await assert.rejects(promises[2], { reason: "no", code: undefined, retryable: false, unknown: false })
    await assert.rejects(refused, { reason: "unsupported", retryable: false })
  })

  check("what was sent with an id is not repeated to a server that knows none", async (t) => {
    const client = joined(t)
    const promise = publish(client)
    await settle()
    take(client)
    client.reconnect().accept({})
    await assert.rejects(promise, { reason: "unknown_outcome", unknown: true })
    assert.deepEqual(client.connection.sent, [])
  })

  check("a binary payload goes as it is, again only if it was refused", async (t) => {
    const client = joined(t)
    const bytes = Uint8Array.of(7, 8).buffer
    const promises = [1, 2].map(() => client.room.publish("draw", bytes))
    await settle()
    const frame = () => {
      const [buffer] = client.connection.sent.splice(0)
      const [kind, joinRef, ref, topic, event] = new Uint8Array(buffer)
      assert.deepEqual([kind, event], [0, 4])
      assert.deepEqual([...new Uint8Array(buffer, 5 + joinRef + ref + topic + event)], [7, 8])
      return new TextDecoder().decode(new Uint8Array(buffer, 5 + joinRef, ref))
    }
    client.connection.reply(frame(), "error", { reason: "rate_limited", code: 4291, retryable: true, retry_after_ms: 1 })
    client.timers.tick(1_000)
    client.connection.reply(frame(), "ok", { epoch: "e1", offset: 42 })
    assert.equal((await promises[0]).offset, 42)
    frame()
    client.connection.drop()
    await assert.rejects(promises[1], { reason: "disconnected", unknown: true, retryable: false })
  })

  check("a payload that cannot be sent rejects alone", async (t) => {
    const client = joined(t)
    const promises = [client.room.publish("event", { n: 1n }), publish(client, undefined, 2)]
    await assert.rejects(promises[0], TypeError)
    const { ref, payload } = take(client)
    assert.equal(payload.payload.n, 2)
    client.connection.reply(ref, "ok", { epoch: "e1", offset: 42 })
    assert.equal((await promises[1]).offset, 42)
  })
}

test("arguments that can never be right are refused at once", async (t) => {
  const client = Client.joined(t)
  const { room } = client
  const buffer = new ArrayBuffer(1)
  for (const args of [
    ["", {}], [7, {}], ["event", null], ["event", "text"],
    ["event", {}, { msgId: "" }], ["event", {}, { msgId: "ä".repeat(65) }], ["event", {}, { msgId: 7 }],
    ["event", {}, { timeout: 0 }], ["event", {}, { timeout: NaN }], ["event", {}, { retries: -1 }],
    ["event", buffer, { msgId: "m" }], ["event", buffer, { target: "others" }],
  ]) await assert.rejects(room.publish(...args), TypeError, String(args[0]))
  assert.deepEqual(client.connection.sent, [])
})

test("an error reply of any shape has a reason", () => {
  const read = (response) => {
    const { reason, code, retryable, retryAfterMs, unknown } = RingcastError.fromReply(response)
    return [reason, code, retryable, retryAfterMs, unknown]
  }
  for (const response of [undefined, null, 7, [], {}, { reason: {} }, { code: "x", retryable: "yes" }]) {
    assert.deepEqual(read(response), ["error", undefined, false, undefined, false])
  }
  assert.deepEqual(read("invalid topic name"), ["invalid topic name", undefined, false, undefined, false])
  assert.deepEqual(read(OVERLOADED), ["overloaded", 4290, true, 2_000, false])
  assert.deepEqual(read({ reason: "timeout", code: 5040, retryable: true }), ["timeout", 5040, true, undefined, true])
})

test("waits stay between half a step and a step, and never below what the server wants", () => {
  assert.deepEqual([1, 2, 5, 6, 100].map((tries) => backoffMs(tries, 0, () => 0)), [125, 250, 2_000, 2_500, 2_500])
  assert.deepEqual([1, 2, 5, 6, 100].map((tries) => backoffMs(tries, 0, () => 1)), [250, 500, 4_000, 5_000, 5_000])
  assert.deepEqual([0, 1].map((random) => backoffMs(1, 1_000, () => random)), [1_000, 1_500])
})

test("ids are random also where the page is not secure", (t) => {
  t.mock.getter(globalThis, "crypto", () => ({ getRandomValues: (array) => webcrypto.getRandomValues(array) }))
  const ids = new Set(Array.from({ length: 100 }, newMsgId))
  assert.equal(ids.size, 100)
  for (const id of ids) assert.match(id, /^[0-9a-f]{32}$/)
})

test("a publish that is settled keeps no process alive", async () => {
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length
  const before = timers()
  for (const settle of ["resolve", "reject"]) {
    const publish = new Publish("event", {}, {})
    publish.promise.catch(() => {})
    publish.startDeadline(() => {})
    assert.equal(timers(), before + 1)
    publish[settle]({})
    assert.equal(timers(), before)
  }
})
