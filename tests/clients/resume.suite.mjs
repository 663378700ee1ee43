// What applications in JavaScript rely on, on a real cluster: the same in Node and in a browser. `@ringcast/client`, and
// phoenix.js as it is with the ten lines of its README, go through the same troubles.

/** Publications of a topic that a resume may bring. */
const RECOVERY_MAX = 300

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function until(what, look, ms = 20_000) {
  for (const end = Date.now() + ms; !look(); await wait(10)) {
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`)
  }
}

function equal(actual, expected, what) {
  const [left, right] = [actual, expected].map((value) => JSON.stringify(value))
  if (left !== right) throw new Error(`${what}: ${left} is not ${right}`)
}

const numbers = (from, to) => Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index)

/** The name of a topic that nobody has used. */
const newTopic = (prefix = "topics:") => `${prefix}js${crypto.getRandomValues(new Uint32Array(3)).join("x")}`

/** Everything that clients of one scenario open; `close` ends it. */
export class Stage {
  #sockets = []

  /** `env`: { Socket, resumable, RingcastError, readme, transport, base, cluster, balancer }; `readme` is the package's. */
  constructor(env) {
    Object.assign(this, env)
  }

  /** A socket through this door: "any", or the name of a gateway. */
  socket(door) {
    const socket = new this.Socket(`${this.base}/${door}/socket`, {
      transport: this.transport, reconnectAfterMs: () => 50, rejoinAfterMs: () => 100,
    })
    this.#sockets.push(socket)
    socket.connect()
    return socket
  }

  /** A client of the package, and all it is told: `told` numbers and words, in order. */
  async helper(door, topic, { events = ["event"], ...options } = {}) {
    const told = []
    const room = this.resumable(this.socket(door), topic, {}, {
      onGap: ({ from, to, reason }) => told.push(`gap ${from}-${to} ${reason}`),
      onReload: ({ first }) => first || told.push("reload"),
      ...options,
    })
    for (const event of events) {
      room.on(event, (payload, { offset }) => {
        told.push(payload instanceof ArrayBuffer ? new Uint8Array(payload).join() : payload.n)
        room.lastOffset = offset
      })
    }
    const reply = await room.join()
    const joins = []
    room.channel.joinPush.receive("ok", ({ recovered }) => joins.push(recovered)) // of the join that was, too
    return { room, told, reply, joins: () => joins, position: () => room.position }
  }

  /** phoenix.js with the ten lines of the README, word for word. */
  async stock(door, topic) {
    const lines = /## Without this package[^]*?```js\n([^]*?)```/.exec(this.readme)[1]
    if (!lines.includes('"topics:matrix"')) throw new Error("the README's lines join another topic")
    const run = new Function("socket", `${lines.replace('"topics:matrix"', "socket.topic")}; return [ch, () => at]`)
    const [channel, position] = run(Object.assign(this.socket(door), { topic }))
    const [told, joins] = [[], []]
    channel.on("event", (payload) => told.push(payload.n))
    channel.on("gap", ({ from, to, reason }) => told.push(`gap ${from}-${to} ${reason}`))
    await new Promise((resolve, reject) =>
      channel.joinPush
        .receive("ok", ({ recovered }) => {
          if (joins.length > 0 && !recovered) told.push("reload")
          joins.push(recovered)
          resolve()
        })
        .receive("error", (response) => reject(new Error(JSON.stringify(response)))))
    return { told, joins: () => joins, position }
  }

  /** Somebody elsewhere who publishes numbers, from 1, as fast or as slowly as told. */
  async publisher(topic) {
    const { room } = await this.helper("gw-2", topic)
    let n = 0
    return {
      published: () => n,
      async publish(count, everyMs = 0) {
        for (; count > 0; count--) {
          await room.publish("event", { n: ++n })
          if (everyMs > 0) await wait(everyMs)
        }
      },
    }
  }

  async close() {
    for (const socket of this.#sockets) await new Promise((resolve) => socket.disconnect(resolve))
  }
}

/** Its gateway is killed (`kill`) or sends it away (`terminate`); it comes back elsewhere. */
async function leftAlone(stage, kind, how) {
  const topic = newTopic()
  const client = await stage[kind]("any", topic)
  const other = await stage.publisher(topic)
  let stop = false
  const publishing = (async () => {
    while (!stop) await other.publish(1, 5)
  })()
  publishing.catch(() => {}) // thrown where it is awaited
  try {
    await until("the first publications", () => client.told.length > 10)
    const ended = stage.cluster[how]("gw-1")
    await stage.balancer.to("gw-2")
    await ended
    const before = other.published()
    await until("more publications", () => client.told.at(-1) > before + 20)
  } finally {
    stop = true
    await stage.cluster.startAgain("gw-1")
  }
  await publishing
  await until("the last publication", () => client.told.at(-1) === other.published())
  equal(client.told, numbers(1, other.published()), "each once, in order, nothing missing")
  equal(client.position().offset, other.published(), "its position")
  equal(client.joins(), [false, true], "its joins, recovered or not")
}

/** It is away for three seconds, at 50 messages a second. */
async function away(stage, kind) {
  const topic = newTopic()
  const client = await stage[kind]("any", topic)
  const other = await stage.publisher(topic)
  await other.publish(20)
  await until("the first publications", () => client.told.length === 20)
  await stage.balancer.cut()
  await other.publish(150, 20)
  equal(client.told.length, 20, "told while away")
  await stage.balancer.to("gw-2")
  await other.publish(20)
  await until("the last publication", () => client.told.at(-1) === 190)
  equal(client.told, numbers(1, 190), "each once, in order, nothing missing")
  equal(client.joins(), [false, true], "its joins, recovered or not")
}

/** It is away for longer than the history. */
async function awayForLong(stage, kind) {
  const topic = newTopic()
  const client = await stage[kind]("any", topic)
  const other = await stage.publisher(topic)
  await other.publish(5)
  await until("the first publications", () => client.told.length === 5)
  await stage.balancer.cut()
  await other.publish(RECOVERY_MAX + 1)
  await stage.balancer.to("gw-1")
  await until("the reload", () => client.told.length > 5)
  const head = 5 + RECOVERY_MAX + 1
  equal(client.position().offset, head, "its position is the head")
  await other.publish(3)
  await until("the last publication", () => client.told.at(-1) === head + 3)
  equal(client.told, [1, 2, 3, 4, 5, "reload", ...numbers(head + 1, head + 3)], "all or nothing of what was missed")
}

/** Its topic goes to another server and comes back, while somebody publishes. */
async function moved(stage) {
  const topic = newTopic()
  const client = await stage.helper("any", topic)
  const other = await stage.publisher(topic)
  let stop = false
  const publishing = (async () => {
    while (!stop) await other.publish(1, 2)
  })()
  publishing.catch(() => {}) // thrown where it is awaited
  const home = await stage.cluster.owner(topic)
  try {
    await until("the first publications", () => client.told.length > 10)
    for (const owner of [home === "ts-1" ? "ts-2" : "ts-1", home]) {
      await stage.cluster.move(topic, owner)
      equal(await stage.cluster.owner(topic), owner, "the owner of the topic")
      const before = other.published()
      await until("more publications", () => client.told.at(-1) > before + 20)
    }
  } finally {
    stop = true
  }
  await publishing
  await until("the last publication", () => client.told.at(-1) === other.published())
  equal(client.told, numbers(1, other.published()), "each once, in order, nothing missing")
  equal(client.joins(), [false], "its joins: it noticed nothing")
}

/** Its topic's only server is killed, and the history with it. */
async function lost(stage, kind) {
  const topic = newTopic()
  const client = await stage[kind]("any", topic)
  const other = await stage.publisher(topic)
  await other.publish(5)
  await until("the first publications", () => client.told.length === 5)
  const { epoch } = client.position()
  const owner = await stage.cluster.owner(topic)
  try {
    await stage.cluster.kill(owner)
    await until("the gap", () => client.told.length > 5)
    await other.publish(3)
    await until("the last publication", () => client.told.at(-1) === 8)
  } finally {
    await stage.cluster.startAgain(owner)
  }
  equal(client.told, [1, 2, 3, 4, 5, "gap 1-0 epoch_changed", 6, 7, 8], "the break is told before what follows")
  equal([client.position().offset, client.position().epoch !== epoch], [3, true], "its position, in a new epoch")
  equal(client.joins(), [false], "its joins: it stayed")
}

/** Each scenario gets a stage; /any leads to gw-1 at its start. */
export const scenarios = {
  "a client of the package whose gateway is killed goes on at another, each message once": (stage) =>
    leftAlone(stage, "helper", "kill"),
  "stock phoenix.js with ten lines whose gateway is killed goes on at another, each message once": (stage) =>
    leftAlone(stage, "stock", "kill"),
  "a client of the package whose gateway sends it away goes on at another, each message once": (stage) =>
    leftAlone(stage, "helper", "terminate"),
  "stock phoenix.js with ten lines whose gateway sends it away goes on at another, each message once": (stage) =>
    leftAlone(stage, "stock", "terminate"),
  "a client of the package that was away gets what it missed before what is new": (stage) => away(stage, "helper"),
  "stock phoenix.js with ten lines that was away gets what it missed before what is new": (stage) =>
    away(stage, "stock"),
  "a client of the package away for longer than the history reloads and goes on at the head": (stage) =>
    awayForLong(stage, "helper"),
  "stock phoenix.js with ten lines away for longer than the history reloads and goes on at the head": (stage) =>
    awayForLong(stage, "stock"),
  "a client of the package notices nothing when its topic moves to another server and back": moved,
  "a client of the package is told when its topic begins anew, and goes on in the new epoch": (stage) =>
    lost(stage, "helper"),
  "stock phoenix.js with ten lines is told when its topic begins anew, and goes on in the new epoch": (stage) =>
    lost(stage, "stock"),

  async "a position from another page is resumed from"(stage) {
    const topic = newTopic()
    const first = await stage.helper("gw-1", topic)
    const other = await stage.publisher(topic)
    await other.publish(3)
    await until("the publications", () => first.told.length === 3)
    const position = first.room.position
    await first.room.leave()
    await other.publish(3)
    const next = await stage.helper("gw-2", topic, { position })
    equal(next.reply.recovered, true, "recovered")
    await until("the rest", () => next.told.length === 3)
    equal(next.told, [4, 5, 6], "what came after the position")
  },

  async "a publish whose answer is lost is sent again and takes effect once"(stage) {
    const topic = newTopic()
    const client = await stage.helper("any", topic)
    const other = await stage.helper("gw-2", topic)
    await stage.balancer.mute()
    const publish = client.room.publish("event", { n: 1 })
    await until("the publication", () => other.told.length === 1)
    await stage.balancer.cut()
    await stage.balancer.to("gw-2")
    const reply = await publish
    equal(reply, { epoch: other.room.position.epoch, offset: 1, dup: true }, "the reply")
    await client.room.publish("event", { n: 2 })
    await until("the next publication", () => other.told.at(-1) === 2 && client.told.at(-1) === 2)
    equal(other.told, [1, 2], "what the other was told")
    equal(client.told, [1, 2], "what the publisher was told")
  },

  async "publishes keep their order and happen once while their gateway is killed"(stage) {
    const topic = newTopic()
    const client = await stage.helper("any", topic)
    const other = await stage.helper("gw-2", topic)
    const count = 400
    const publishes = numbers(1, count).map((n) => client.room.publish("event", { n }, { timeout: 60_000 }))
    const all = Promise.all(publishes)
    all.catch(() => {}) // thrown where it is awaited
    try {
      await until("a part of them", () => other.told.length >= 50)
      if (other.told.length >= count) throw new Error("all of them were published before the kill")
      await stage.cluster.kill("gw-1")
      await stage.balancer.to("gw-2")
      const offsets = (await all).map(({ offset }) => offset)
      equal(offsets, numbers(1, count), "the offsets of the replies")
    } finally {
      await stage.cluster.startAgain("gw-1")
    }
    await until("the last publication", () => other.told.at(-1) === count && client.told.at(-1) === count)
    equal(other.told, numbers(1, count), "what the other was told")
    equal(client.told, numbers(1, count), "what the publisher was told")
  },

  async "an id that is used twice is one publication, through any gateway"(stage) {
    const topic = newTopic()
    const clients = [await stage.helper("gw-1", topic), await stage.helper("gw-2", topic)]
    const replies = await Promise.all(
      clients.flatMap(({ room }) => [1, 2].map((n) => room.publish("event", { n }, { msgId: "the-same" }))))
    equal(replies.map(({ offset }) => offset), [1, 1, 1, 1], "the offsets")
    equal(replies.filter(({ dup }) => dup).length, 3, "the repeats")
    await clients[0].room.publish("event", { n: 9 })
    for (const { told } of clients) await until("the end", () => told.at(-1) === 9)
    for (const { told } of clients) equal(told.length, 2, "what was told")
  },

  async "a publish to others has an offset and does not come back"(stage) {
    const topic = newTopic()
    const client = await stage.helper("gw-1", topic)
    const other = await stage.helper("gw-2", topic)
    const { offset } = await client.room.publish("event", { n: 1 }, { target: "others" })
    equal(offset, 1, "its offset")
    await client.room.publish("event", { n: 2 })
    await until("both", () => other.told.length === 2 && client.told.length === 1)
    equal(client.told, [2], "what the publisher was told")
    equal(client.room.position.offset, 2, "its position")
  },

  async "what the server refuses is a typed error"(stage) {
    const topic = newTopic()
    const { room } = await stage.helper("gw-1", topic)
    const refused = async (promise) => {
      const error = await promise.then(() => "accepted", (error) => error)
      if (!(error instanceof stage.RingcastError)) throw new Error(`no error of the package: ${error}`)
      return [error.reason, error.code, error.retryable, error.unknown]
    }
    equal(await refused(room.publish("event", {}, { target: "one" })), ["unauthorized", 4030, false, false], "target")
    equal(await refused(room.publish("phx_close", {})), ["bad_request", 4000, false, false], "reserved event")
    const wrong = stage.resumable(stage.socket("gw-1"), "topics:s")
    const [reason, , retryable] = await refused(wrong.join())
    equal([reason.slice(0, 18), retryable], ["invalid topic name", false], "topic")
    await wrong.leave()
  },

  async "binary publications keep their place, also over a lost connection"(stage) {
    const topic = newTopic("room:")
    const client = await stage.helper("any", topic, { events: ["draw"] })
    const other = await stage.helper("gw-2", topic, { events: ["draw"] })
    const draw = (n) => other.room.publish("draw", Uint8Array.of(n, 255).buffer)
    equal((await draw(1)).offset, 1, "its offset")
    await until("the first", () => client.told.length === 1)
    equal([client.room.position.offset, client.room.lastOffset], [1, 1], "its position")
    await stage.balancer.cut()
    await draw(2)
    await stage.balancer.to("gw-2")
    await draw(3)
    await until("the last", () => client.told.length === 3)
    equal(client.told, ["1,255", "2,255", "3,255"], "each once, in order")
    equal(client.room.position.offset, 3, "its position")
  },

  async "without asking for it nothing of this is seen"(stage) {
    const topic = newTopic()
    const channel = stage.socket("gw-1").channel(topic, {})
    const frames = []
    channel.onMessage = (event, payload, ref) => {
      frames.push([event, ref, payload])
      return payload
    }
    await new Promise((resolve) => channel.join().receive("ok", resolve))
    const other = await stage.publisher(topic)
    await other.publish(3)
    await until("the publications", () => frames.filter(([event]) => event === "event").length === 3)
    equal(frames.filter(([event]) => event === "event"), numbers(1, 3).map((n) => ["event", null, { n }]), "events")
    equal(frames.find(([event]) => event === "phx_reply")[2], { status: "ok", response: {} }, "reply of the join")
  },
}
